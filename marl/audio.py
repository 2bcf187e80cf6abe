"""Log-mel spectrograms of waveforms, their inversion, and resampling, on any device. N is Fourier bins."""

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
"""Corner of the mel scale: the width of a band is proportional to the corner plus the frequency."""


class AudioConfig(BaseConfig):
    """Configuration of clips and their log-mels."""

    sample_rate: int = Field(16_000, gt=0)
    """Sample rate, Hz. Recordings with another rate are resampled."""
    clip_s: float = Field(1.0, gt=0)
    """Duration of a clip, seconds."""
    fft_size: int = Field(1024, ge=16)
    """Length of the Hann window and of the Fourier transform, samples."""
    frames: int = Field(64, ge=1)
    """Number of frames of a clip, a divisor of its samples. The hop length is the number of samples of a clip divided
    by it."""
    mel_bands: int = Field(64, ge=1)
    """Number of bands, evenly spaced on the mel scale from `min_hz` to `max_hz`."""
    min_hz: float = Field(0.0, ge=0)
    """Lowest frequency of the bands, Hz."""
    max_hz: float = Field(8_000.0, gt=0)
    """Highest frequency of the bands, Hz; at most half of the sample rate."""
    floor_db: float = Field(-60.0, lt=0)
    """Lower limit of a log-mel, dB relative to a full-scale sine."""

    @model_validator(mode="after")
    def _is_consistent(self) -> "AudioConfig":
        if self.clip_samples % self.frames:
            raise ValueError(f"frames must divide the {self.clip_samples} samples of a clip; got {self.frames}")
        if not self.min_hz < self.max_hz <= self.sample_rate / 2:
            limit = f"max_hz at most sample_rate / 2 ({self.sample_rate / 2})"
            raise ValueError(f"min_hz must be less than max_hz, and {limit}; got {self.min_hz} and {self.max_hz}")
        if self.clip_samples <= self.fft_size // 2:
            raise ValueError(f"clip_s must be more than fft_size / 2 samples; got {self.clip_samples} samples")
        return self

    @property
    def clip_samples(self) -> int:
        """Number of samples of a clip."""
        return round(self.clip_s * self.sample_rate)

    @property
    def hop_samples(self) -> int:
        """Number of samples from one frame to the next."""
        return self.clip_samples // self.frames


def hz_to_mel(hz: Tensor) -> Tensor:
    """Convert a frequency to mel, on the scale of HTK."""
    return 2595.0 * torch.log10(1.0 + hz / MEL_CORNER_HZ)


def mel_to_hz(mel: Tensor) -> Tensor:
    """Convert mel to a frequency."""
    hz: Tensor = MEL_CORNER_HZ * (10.0 ** (mel / 2595.0) - 1.0)
    return hz


# Ratios of common sample rates have smaller terms. Other ratios are rounded by at most 1.4 cents, because a filter for
# the exact ratio could have billions of taps.
_MAX_RATIO_TERM = 640


class Resampler:
    """Changes the sample rate of waveforms by windowed sinc interpolation.

    Attributes:
        period: Smallest number of input samples that has the duration of a whole number of output samples.
        output_period: Number of output samples of that duration.
        margin: Number of input samples before and after a sample that affect it, rounded up to whole periods.
    """

    def __init__(self, from_hz: int, to_hz: int) -> None:
        ratio = Fraction(from_hz, to_hz).limit_denominator(_MAX_RATIO_TERM)
        self.period, self.output_period = ratio.numerator, ratio.denominator
        on_cpu = _resample(self.period, self.output_period, torch.device("cpu"))
        reach = 0 if on_cpu is None else on_cpu.width + 1
        self.margin = -(-reach // self.period) * self.period

    def __call__(self, waveform_S: Tensor) -> Tensor:
        """Return waveforms [..., S] at the output rate, float32 on the same device."""
        waveform_S = waveform_S.to(torch.float32)
        resample = _resample(self.period, self.output_period, waveform_S.device)
        return waveform_S if resample is None else resample(waveform_S)


@lru_cache(maxsize=16)
def _resample(period: int, output_period: int, device: torch.device) -> Resample | None:
    """Return the cached filter, which takes longer to create than to apply to a clip; `None` for equal rates."""
    return Resample(period, output_period).to(device) if period != output_period else None


# Power of a square wave at full scale, which no waveform exceeds. Louder reconstructions would be painful to hear.
_MAX_DB = 3.0
# Values up to this far above the floor count as the floor; float16 rounds a standardised log-mel by a third of it.
_FLOOR_MARGIN_DB = 0.05


class LogMel:
    """Converts waveforms to log-mels and back.

    A log-mel is in dB relative to a full-scale sine, standardised by mean and standard deviation of the training clips.
    """

    def __init__(
        self, config: AudioConfig, mean_db: float = 0.0, std_db: float = 1.0, device: torch.device | str = "cpu"
    ) -> None:
        self.config, self.mean_db, self.std_db, self.device = config, mean_db, std_db, torch.device(device)
        bands = {"f_min": config.min_hz, "f_max": config.max_hz, "n_mels": config.mel_bands}
        self._mel = MelSpectrogram(
            config.sample_rate, config.fft_size, hop_length=config.hop_samples, power=2.0, **bands
        ).to(self.device)
        # The spectrum of a sine of amplitude one peaks at half of the sum of the window.
        self._full_scale_power = (config.fft_size / 4) ** 2

    def power(self, waveform_S: Tensor) -> Tensor:
        """Return the mel power [..., F, T] of waveforms [..., S]; 1.0 is a full-scale sine in the middle of a band.

        Raises:
            ValueError: If a waveform does not have the length of a clip.
        """
        if waveform_S.shape[-1] != self.config.clip_samples:
            raise ValueError(f"waveform must have {self.config.clip_samples} samples; got {waveform_S.shape[-1]}")
        # Frames are centred, so there is one more than hops. The last one, half outside of the clip, is dropped.
        mel: Tensor = self._mel(waveform_S.to(self.device, torch.float32))
        return mel[..., : self.config.frames] / self._full_scale_power

    def from_power(self, power_FT: Tensor) -> Tensor:
        """Return standardised log-mels [..., F, T] of mel power."""
        floor = 10.0 ** (self.config.floor_db / 10)
        return self.from_decibels(10.0 * torch.log10(power_FT.clamp_min(floor)))

    def from_decibels(self, decibels_FT: Tensor) -> Tensor:
        """Return standardised log-mels [..., F, T] of dB relative to a full-scale sine, not below the floor."""
        return (decibels_FT.clamp_min(self.config.floor_db) - self.mean_db) / self.std_db

    def __call__(self, waveform_S: Tensor) -> Tensor:
        """Return standardised log-mels [..., F, T] of waveforms [..., S]."""
        return self.from_power(self.power(waveform_S))

    def to_power(self, log_mel_FT: Tensor) -> Tensor:
        """Return the mel power [..., F, T], float32. Values at the floor become zero, since they were clipped."""
        power = torch.exp(self.decibels(log_mel_FT.to(torch.float32)) * (math.log(10.0) / 10))
        return threshold(power, 10.0 ** ((self.config.floor_db + _FLOOR_MARGIN_DB) / 10), 0.0)

    @property
    def band_weights_NF(self) -> Tensor:
        """Weight of the power of each Fourier bin in each band."""
        weights: Tensor = self._mel.mel_scale.fb
        return weights

    def white_noise_F(self) -> Tensor:
        """Return the expected mel power of white noise with a mean square of one."""
        window_S: Tensor = self._mel.spectrogram.window
        return self.band_weights_NF.sum(dim=0) * window_S.square().sum() / self._full_scale_power

    def decibels(self, log_mel_FT: Tensor) -> Tensor:
        """Return standardised log-mels in dB relative to a full-scale sine."""
        return log_mel_FT * self.std_db + self.mean_db

    def invert(self, log_mel_FT: Tensor) -> Tensor:
        """Return waveforms [..., S] of log-mels, by least-squares mel inversion and Griffin-Lim.

        The phase is initialised with zero, so that equal log-mels give equal waveforms. A log-mel can have any number
        of frames: concatenated log-mels of consecutive clips give one waveform with continuous phase.
        """
        config = self.config
        power = self.to_power(log_mel_FT.to(self.device)).clamp_max(10.0 ** (_MAX_DB / 10)) * self._full_scale_power
        inverse_mel = InverseMelScale(
            config.fft_size // 2 + 1, config.mel_bands, config.sample_rate, config.min_hz, config.max_hz
        ).to(self.device)
        linear = inverse_mel(power)
        samples = log_mel_FT.shape[-1] * config.hop_samples
        griffin_lim = GriffinLim(
            config.fft_size, n_iter=64, hop_length=config.hop_samples, power=2.0, length=samples, rand_init=False
        ).to(self.device)
        waveform: Tensor = griffin_lim(torch.cat([linear, linear[..., -1:]], dim=-1))
        return waveform
