"""Waveform to log-mel spectrogram and back, on any device.

F is mel bands, T frames, S samples.
"""

import torch
from pydantic import Field, model_validator
from torch import Tensor
from torchaudio.transforms import GriffinLim, InverseMelScale, MelSpectrogram

from marl.settings import Settings

__all__ = ["AudioConfig", "LogMel"]


class AudioConfig(Settings):
    """How a clip becomes a spectrogram.

    Attributes:
        sample_rate: samples a second, Hz.
        clip_s: length of a clip, seconds.
        fft_size: length of the Hann window and of the Fourier transform, samples.
        frames: frames of a clip; the hop length is the clip's samples divided by it.
        mel_bands: bands between `min_hz` and `max_hz` on the mel scale.
        floor_db: power below it counts as this much; dB relative to a full-scale sine.
    """

    sample_rate: int = Field(16_000, gt=0)
    clip_s: float = Field(1.0, gt=0)
    fft_size: int = Field(1024, ge=16)
    frames: int = Field(64, ge=1)
    mel_bands: int = Field(64, ge=1)
    min_hz: float = Field(0.0, ge=0)
    max_hz: float = Field(8_000.0, gt=0)
    floor_db: float = Field(-60.0, lt=0)

    @model_validator(mode="after")
    def _fits_together(self) -> "AudioConfig":
        if self.clip_samples % self.frames:
            raise ValueError(f"frames must divide the samples of a clip, {self.clip_samples}; got frames {self.frames}")
        if not self.min_hz < self.max_hz <= self.sample_rate / 2:
            raise ValueError(
                f"min_hz < max_hz <= sample_rate / 2 must hold; got {self.min_hz}, {self.max_hz} and "
                f"{self.sample_rate / 2}"
            )
        if self.clip_samples <= self.fft_size // 2:
            raise ValueError(f"a clip must be longer than half of fft_size; got {self.clip_samples} samples")
        return self

    @property
    def clip_samples(self) -> int:
        """Samples of a clip."""
        return round(self.clip_s * self.sample_rate)

    @property
    def hop_samples(self) -> int:
        """Samples from one frame to the next."""
        return self.clip_samples // self.frames


# A square wave between plus and minus one has twice the power of a full-scale sine; nothing within full scale has more.
# Models that err upwards would otherwise be painful to listen to.
_LOUDEST_DB = 3.0


class LogMel:
    """Log-mel spectrograms in dB relative to a full-scale sine, standardised by the statistics of a training set.

    Args:
        config: the shape of the spectrogram.
        mean_db: mean over the training clips, subtracted.
        std_db: standard deviation over the training clips, divided by.
        device: where to compute.
    """

    def __init__(
        self, config: AudioConfig, mean_db: float = 0.0, std_db: float = 1.0, device: torch.device | str = "cpu"
    ) -> None:
        self.config = config
        self.mean_db = mean_db
        self.std_db = std_db
        self.device = torch.device(device)
        self._mel = MelSpectrogram(
            config.sample_rate,
            n_fft=config.fft_size,
            hop_length=config.hop_samples,
            f_min=config.min_hz,
            f_max=config.max_hz,
            n_mels=config.mel_bands,
            power=2.0,
        ).to(self.device)
        # A sine of amplitude one peaks at half of the window's sum, squared.
        self._full_scale_power = (config.fft_size / 4) ** 2

    def power(self, waveform_S: Tensor) -> Tensor:
        """Mel power [..., F, T] of waveforms [..., S]; 1.0 is a full-scale sine in the middle of a band.

        Raises:
            ValueError: when a waveform has not the length of a clip.
        """
        if waveform_S.shape[-1] != self.config.clip_samples:
            raise ValueError(f"a clip has {self.config.clip_samples} samples, got {waveform_S.shape[-1]}")
        # Frames are centred, so there is one more than hops; the last lies half beyond the clip.
        mel: Tensor = self._mel(waveform_S.to(self.device, torch.float32))
        return mel[..., : self.config.frames] / self._full_scale_power

    def from_power(self, power_FT: Tensor) -> Tensor:
        """Standardised log-mel [..., F, T] from mel power."""
        floor = 10.0 ** (self.config.floor_db / 10)
        return (10.0 * torch.log10(power_FT.clamp_min(floor)) - self.mean_db) / self.std_db

    def __call__(self, waveform_S: Tensor) -> Tensor:
        """Standardised log-mel [..., F, T] of waveforms [..., S]."""
        return self.from_power(self.power(waveform_S))

    def decibels(self, log_mel_FT: Tensor) -> Tensor:
        """Undo the standardisation: dB relative to a full-scale sine, floor included."""
        return log_mel_FT * self.std_db + self.mean_db

    def invert(self, log_mel_FT: Tensor) -> Tensor:
        """A waveform [..., S] that sounds like the log-mel: least-squares mel inversion, then Griffin-Lim.

        The phase starts from zero, so that the same spectrogram always gives the same sound.
        """
        config = self.config
        decibels = self.decibels(log_mel_FT.to(self.device)).clamp_max(_LOUDEST_DB)
        power = 10.0 ** (decibels / 10) * self._full_scale_power
        # What lies at the floor was cut there: it is silence, not a quiet sound.
        power = torch.where(power <= 10.0 ** (config.floor_db / 10) * self._full_scale_power * 1.0001, 0.0, power)
        inverse_mel = InverseMelScale(
            config.fft_size // 2 + 1, config.mel_bands, config.sample_rate, config.min_hz, config.max_hz
        ).to(self.device)
        griffin_lim = GriffinLim(
            config.fft_size,
            n_iter=64,
            hop_length=config.hop_samples,
            power=2.0,
            length=config.clip_samples,
            rand_init=False,
        ).to(self.device)
        linear = inverse_mel(power)
        linear = torch.cat([linear, linear[..., -1:]], dim=-1)
        waveform: Tensor = griffin_lim(linear)
        return waveform
