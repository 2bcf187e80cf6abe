"""Waveform to log-mel spectrogram and back, on any device.

F is mel bands, T frames, S samples, N Fourier bins from 0 Hz to half of the sample rate.
"""

import math
from fractions import Fraction
from functools import lru_cache

import torch
from pydantic import Field, model_validator
from torch import Tensor
from torch.nn.functional import threshold
from torchaudio.transforms import GriffinLim, InverseMelScale, MelSpectrogram, Resample

from marl.base_config import BaseConfig

__all__ = ["MEL_CORNER_HZ", "AudioConfig", "LogMel", "Resampler", "hz_to_mel", "mel_to_hz"]

MEL_CORNER_HZ = 700.0
"""Bands are about equally wide below it and in proportion to their frequency above: width ~ corner + frequency."""


class AudioConfig(BaseConfig):
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


def hz_to_mel(hz: Tensor) -> Tensor:
    """The mel scale of the bands, HTK's, on which they are evenly spaced."""
    return 2595.0 * torch.log10(1.0 + hz / MEL_CORNER_HZ)


def mel_to_hz(mel: Tensor) -> Tensor:
    """The inverse of `hz_to_mel`."""
    hz: Tensor = MEL_CORNER_HZ * (10.0 ** (mel / 2595.0) - 1.0)
    return hz


# All usual pairs of rates have a smaller ratio. Any other is taken for the nearest that has, which is at most 1.4 cents
# beside it. A filter for the exact one could have billions of taps.
_LARGEST_TERM = 640


class Resampler:
    """Waveforms at another sample rate, by windowed sinc interpolation.

    Args:
        from_hz: their sample rate.
        to_hz: the other.

    Attributes:
        period: so many samples take as long as
        output_period: so many after resampling.
        margin: so many samples around one decide what comes of it; a multiple of the period.
    """

    def __init__(self, from_hz: int, to_hz: int) -> None:
        ratio = Fraction(from_hz, to_hz).limit_denominator(_LARGEST_TERM)
        self.period, self.output_period = ratio.numerator, ratio.denominator
        on_cpu = _resample(self.period, self.output_period, torch.device("cpu"))
        reach = 0 if on_cpu is None else on_cpu.width + 1
        self.margin = -(-reach // self.period) * self.period

    def __call__(self, waveform_S: Tensor) -> Tensor:
        """Waveforms [..., samples at the other rate], float32 on the same device."""
        waveform_S = waveform_S.to(torch.float32)
        resample = _resample(self.period, self.output_period, waveform_S.device)
        return waveform_S if resample is None else resample(waveform_S)


@lru_cache(maxsize=16)
def _resample(period: int, output_period: int, device: torch.device) -> Resample | None:
    """With its filter, which takes longer to make than most clips to be resampled; none where nothing is to be done."""
    return Resample(period, output_period).to(device) if period != output_period else None


# A square wave between plus and minus one has twice the power of a full-scale sine; nothing within full scale has more.
# Models that err upwards would otherwise be painful to listen to.
_LOUDEST_DB = 3.0
# What lies so little above the floor lies at it: float16 keeps a standardised log-mel within a third of this.
_FLOOR_MARGIN_DB = 0.05


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
        return self.from_decibels(10.0 * torch.log10(power_FT.clamp_min(floor)))

    def from_decibels(self, decibels_FT: Tensor) -> Tensor:
        """Standardised log-mel [..., F, T] from dB relative to a full-scale sine; the floor is the least there is."""
        return (decibels_FT.clamp_min(self.config.floor_db) - self.mean_db) / self.std_db

    def __call__(self, waveform_S: Tensor) -> Tensor:
        """Standardised log-mel [..., F, T] of waveforms [..., S]."""
        return self.from_power(self.power(waveform_S))

    def to_power(self, log_mel_FT: Tensor) -> Tensor:
        """Mel power [..., F, T], float32: the inverse of `from_power`, but zero at the floor.

        What lies at the floor was cut there: it is silence, not a quiet sound.
        """
        power = torch.exp(self.decibels(log_mel_FT.to(torch.float32)) * (math.log(10.0) / 10))
        return threshold(power, 10.0 ** ((self.config.floor_db + _FLOOR_MARGIN_DB) / 10), 0.0)

    @property
    def band_weights_NF(self) -> Tensor:
        """How much of the power of each Fourier bin each band takes."""
        weights: Tensor = self._mel.mel_scale.fb
        return weights

    def white_noise_F(self) -> Tensor:
        """Expected mel power, in each band, of white noise with a mean square of one."""
        window_S: Tensor = self._mel.spectrogram.window
        return self.band_weights_NF.sum(dim=0) * window_S.square().sum() / self._full_scale_power

    def decibels(self, log_mel_FT: Tensor) -> Tensor:
        """Undo the standardisation: dB relative to a full-scale sine, floor included."""
        return log_mel_FT * self.std_db + self.mean_db

    def invert(self, log_mel_FT: Tensor) -> Tensor:
        """A waveform [..., S] that sounds like the log-mel: least-squares mel inversion, then Griffin-Lim.

        The phase starts from zero, so that the same spectrogram always gives the same sound. It may have any number of
        frames: log-mels of clips beside each other become one sound, whose phase runs on from clip to clip.
        """
        config = self.config
        power = self.to_power(log_mel_FT.to(self.device)).clamp_max(10.0 ** (_LOUDEST_DB / 10)) * self._full_scale_power
        inverse_mel = InverseMelScale(
            config.fft_size // 2 + 1, config.mel_bands, config.sample_rate, config.min_hz, config.max_hz
        ).to(self.device)
        griffin_lim = GriffinLim(
            config.fft_size,
            n_iter=64,
            hop_length=config.hop_samples,
            power=2.0,
            length=log_mel_FT.shape[-1] * config.hop_samples,
            rand_init=False,
        ).to(self.device)
        linear = inverse_mel(power)
        linear = torch.cat([linear, linear[..., -1:]], dim=-1)
        waveform: Tensor = griffin_lim(linear)
        return waveform
