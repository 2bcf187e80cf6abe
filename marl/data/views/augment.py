"""Views that are two independently augmented versions of one clip, as in SimCLR and CLMR.

Augmentations of a waveform are applied to its mel power spectrogram in closed form. Amounts are looked up in tables, so
that they are the same numbers in every lane; computed in the step, they could be rounded differently at the end of a
vector. R = K n is rows, n per lane; D random numbers of a row, Q amounts, M filters, N Fourier bins.
"""

import math
from collections.abc import Callable
from enum import IntEnum
from functools import lru_cache
from typing import Annotated, Literal, NamedTuple

import torch
from pydantic import AfterValidator, Field
from torch import Tensor

from marl import randomness
from marl.audio import MEL_CORNER_HZ, LogMel, hz_to_mel, mel_to_hz
from marl.base_config import BaseConfig
from marl.randomness import Purpose

__all__ = ["AugmentConfig", "augment", "high_pass", "low_pass"]

# Index of the last amount of a table, which changes nothing; the amounts before it divide the range evenly.
_NO_CHANGE = 1024
# Mel power is summed as integers of this unit, 120 dB below a full-scale sine, so that the order is irrelevant.
_UNIT = 2.0**-40
# The bands add up to three times the mean square of a waveform: that of a sine is one half, and the Hann window spreads
# it over one and a half bins.
_BANDS_PER_MEAN_SQUARE = 3.0
_FILTERS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "low_pass": lambda low, high: low,
    "high_pass": lambda low, high: high,
    "band_pass": lambda low, high: low * high,
    "band_stop": lambda low, high: 1 - low * high,
}


def _ordered(limits: tuple[float, float]) -> tuple[float, float]:
    if limits[0] > limits[1]:
        raise ValueError(f"the first number of a range must not exceed the second; got {limits[0]} and {limits[1]}")
    return limits


_Range = Annotated[tuple[float, float], AfterValidator(_ordered)]
_Positive = Annotated[float, Field(gt=0)]
_PositiveRange = Annotated[tuple[_Positive, _Positive], AfterValidator(_ordered)]
_Probability = Annotated[float, Field(ge=0, le=1)]


class AugmentConfig(BaseConfig):
    """Probability of each augmentation, and range of its amount, which is drawn uniformly.

    Spijkervet and Burgoyne, "Contrastive Learning of Musical Representations" (CLMR), ISMIR 2021, with the
    probabilities and ranges of their released code. Delay and reverberation are omitted, since they have no closed form
    without phases, and polarity inversion, since it changes no power. The random crop becomes a shift in time.
    """

    noise_probability: _Probability = 0.01
    """Probability of added white noise."""
    noise_snr_db: _Range = (0.0, 60.0)
    """Signal-to-noise ratio of the added noise, dB. CLMR draws an amplitude uniformly instead."""
    gain_probability: _Probability = 0.3
    """Probability of a change of level."""
    gain_db: _Range = (-20.0, -1.0)
    """Change of level, dB."""
    filter_probability: _Probability = 0.8
    """Probability of a filter."""
    filter_kinds: tuple[Literal["low_pass", "high_pass", "band_pass", "band_stop"], ...] = Field(
        ("low_pass", "high_pass"), min_length=1
    )
    """Filters, of which one is drawn. A band-pass is a low-pass and a high-pass in a row, a band-stop its complement in
    power; CLMR has neither."""
    filter_order: int = Field(1, ge=1)
    """Order of the Butterworth filters; the slope is 6 dB an octave times the order."""
    low_pass_hz: _PositiveRange = (2_200.0, 4_000.0)
    """Cutoff of the low-pass, where it halves the power, Hz."""
    high_pass_hz: _PositiveRange = (200.0, 1_200.0)
    """Cutoff of the high-pass, where it halves the power, Hz."""
    pitch_probability: _Probability = 0.6
    """Probability of a pitch shift."""
    pitch_semitones: _Range = (-7.0, 7.0)
    """Pitch shift, semitones."""
    shift_probability: _Probability = 1.0
    """Probability of a shift in time."""
    shift: float = Field(0.5, ge=0, le=0.5)
    """Maximum circular shift in time, forwards or backwards, as a fraction of the clip."""


class _Draw(IntEnum):
    """Purpose of each random number of a row. The values are part of every result: never renumber them."""

    NOISE = 0
    NOISE_SNR = 1
    GAIN = 2
    GAIN_DB = 3
    FILTER = 4
    FILTER_KIND = 5
    LOW_PASS = 6
    HIGH_PASS = 7
    PITCH = 8
    PITCH_SEMITONES = 9
    SHIFT = 10
    SHIFT_FRAMES = 11


class _Drawn(NamedTuple):
    """Random numbers of all rows, uniform in [0, 1) and multiples of 2^-24."""

    uniform_RD: Tensor

    def happens(self, draw: _Draw, probability: float) -> Tensor:
        return self.uniform_RD[:, draw] < probability

    def below(self, draw: _Draw, count: int) -> Tensor:
        return (self.uniform_RD[:, draw] * 2.0**24).to(torch.int64) * count >> 24

    def amount(self, draw: _Draw, happens_R: Tensor) -> Tensor:
        """Return the index of a random amount in its table; `_NO_CHANGE` in rows that are not augmented."""
        return torch.where(happens_R, self.below(draw, _NO_CHANGE), _NO_CHANGE)


class _Tables(NamedTuple):
    """Effect of each amount: factors of the power, and the two source bands of a pitch-shifted band with their weights.

    Attributes:
        noise_Q: Mean square of the noise divided by that of the clip.
        noise_F: Mel power of noise with a mean square of one.
    """

    noise_Q: Tensor
    noise_F: Tensor
    gain_Q: Tensor
    low_pass_QF: Tensor
    high_pass_QF: Tensor
    lower_QF: Tensor
    lower_weight_QF: Tensor
    upper_QF: Tensor
    upper_weight_QF: Tensor


@lru_cache(maxsize=16)
def _tables(log_mel: LogMel, config: AugmentConfig) -> _Tables:
    """Return the tables on the device of `log_mel`, computed in float64 on the CPU for any device."""
    band_F = torch.arange(log_mel.config.mel_bands)
    one_F, zero_F = torch.ones(len(band_F)), torch.zeros(len(band_F))

    def amounts(limits: tuple[float, float]) -> Tensor:
        return torch.linspace(*limits, _NO_CHANGE, dtype=torch.float64)

    def table(values: Tensor, no_change: Tensor) -> Tensor:
        joined = torch.cat([values, no_change[None].to(values.dtype)])
        return joined.to(log_mel.device, torch.float32 if joined.is_floating_point() else joined.dtype)

    weights_NF = log_mel.band_weights_NF.to("cpu", torch.float64)
    weights_NF = weights_NF / weights_NF.sum(dim=0).clamp_min(1e-9)  # a band narrower than a bin can have none
    hz_N = torch.linspace(0, log_mel.config.sample_rate / 2, len(weights_NF), dtype=torch.float64)
    low_QN = low_pass(hz_N, amounts(config.low_pass_hz)[:, None], config.filter_order)
    high_QN = high_pass(hz_N, amounts(config.high_pass_hz)[:, None], config.filter_order)
    lower_QF, distance_QF, kept_QF = _pitch_shifted(log_mel, 2 ** (amounts(config.pitch_semitones) / 12))
    return _Tables(
        noise_Q=table(10 ** (-amounts(config.noise_snr_db) / 10), zero_F[0]),
        noise_F=log_mel.white_noise_F(),
        gain_Q=table(10 ** (amounts(config.gain_db) / 10), one_F[0]),
        low_pass_QF=table(low_QN @ weights_NF, one_F),  # of white noise
        high_pass_QF=table(high_QN @ weights_NF, one_F),
        lower_QF=table(lower_QF, band_F),
        lower_weight_QF=table(kept_QF * (1 - distance_QF), one_F),
        upper_QF=table((lower_QF + 1).clamp_max(len(band_F) - 1), band_F),
        upper_weight_QF=table(kept_QF * distance_QF, zero_F),
    )


def low_pass(hz: Tensor, cutoff_hz: Tensor | float, order: int) -> Tensor:
    """Return the power response of a Butterworth low-pass filter at frequencies that broadcast with the cutoffs."""
    return 1 / (1 + (hz / cutoff_hz) ** (2 * order))


def high_pass(hz: Tensor, cutoff_hz: Tensor | float, order: int) -> Tensor:
    """Return the power response of a Butterworth high-pass filter, the complement of the low-pass."""
    return 1 - low_pass(hz, cutoff_hz, order)


def _pitch_shifted(log_mel: LogMel, ratio_Q: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the source of each band when all frequencies are multiplied by a ratio.

    The results [Q, F] are the band below the source, the distance of the source from it in bands, and the factor of the
    power. When pitch rises, a source covers more bands, because bands widen less than in proportion to their frequency,
    and the power of each is smaller. Outside of the spectrogram there is no power; below 0 Hz the spectrum is mirrored.
    """
    config, ratio_Q1 = log_mel.config, ratio_Q[:, None]
    low, high = hz_to_mel(torch.tensor([config.min_hz, config.max_hz], dtype=torch.float64))
    spacing = (high - low) / (config.mel_bands + 1)
    hz_F = mel_to_hz(low + spacing * torch.arange(1, config.mel_bands + 1))
    source_QF = (hz_to_mel(hz_F / ratio_Q1) - low) / spacing - 1
    kept_QF = (MEL_CORNER_HZ + hz_F) / (MEL_CORNER_HZ * ratio_Q1 + hz_F) * _inside(config.mel_bands - source_QF)
    if config.min_hz > 0:
        kept_QF = kept_QF * _inside(source_QF + 1)
    lower_QF = source_QF.floor().clamp(0, config.mel_bands - 1).to(torch.int64)
    return lower_QF, (source_QF - lower_QF).clamp(0, 1), kept_QF


def _inside(distance: Tensor) -> Tensor:
    """Return the fraction of the area of a triangular band that is inside an edge.

    `distance` is from the edge to the middle of the band, in bands; it is positive if the middle is inside.
    """
    distance = distance.clamp(-1, 1)
    return torch.where(distance > 0, 1 - (1 - distance) ** 2 / 2, (1 + distance) ** 2 / 2)


def augment(log_mel_RFT: Tensor, seed_K: Tensor, step_K: Tensor, log_mel: LogMel, config: AugmentConfig) -> Tensor:
    """Add white noise, apply a gain and a filter, and shift pitch and time, each with its probability.

    Chen et al., "A Simple Framework for Contrastive Learning of Visual Representations" (SimCLR), ICML 2020, section
    2.1, with the augmentations of CLMR and in their order, see `AugmentConfig`. The result differs from that on a
    waveform: noise is replaced by its expectation, a filter acts on each band as on white noise, a pitch shift keeps
    the duration, and shifts in time are whole frames. Power at or below the floor becomes silence.

    `marl.data.views.make_views` describes the arguments. Each row depends on its clip, the seed and step of its
    lane, and its position in the lane. Rows that are only shifted in time keep their bits.
    """
    device, rows = log_mel_RFT.device, len(log_mel_RFT)
    tables = _tables(log_mel, config)
    drawn = _Drawn(
        randomness.uniform(
            randomness.stream(seed_K, step_K, Purpose.AUGMENTATION),
            randomness.indices(rows // len(seed_K), device),
            randomness.indices(len(_Draw), device),
        ).flatten(0, 1)
    )
    filtered_R = drawn.happens(_Draw.FILTER, config.filter_probability)
    noise_R = drawn.amount(_Draw.NOISE_SNR, drawn.happens(_Draw.NOISE, config.noise_probability))
    gain_R = drawn.amount(_Draw.GAIN_DB, drawn.happens(_Draw.GAIN, config.gain_probability))
    pitch_R = drawn.amount(_Draw.PITCH_SEMITONES, drawn.happens(_Draw.PITCH, config.pitch_probability))

    shifted_RFT = _shift(log_mel_RFT, drawn, config)
    power_RFT = log_mel.to_power(shifted_RFT)
    noise_RF = (tables.noise_Q[noise_R] * _mean_square(power_RFT))[:, None] * tables.noise_F
    factor_RF = tables.gain_Q[gain_R][:, None] * _filter(tables, drawn, filtered_R, config)
    power_RFT = _move((power_RFT + noise_RF[:, :, None]) * factor_RF[:, :, None], tables, pitch_R)
    # On a CPU, log10 is many times slower than log.
    decibels_RFT = torch.log(power_RFT.clamp_min(torch.finfo(torch.float32).tiny)) * (10 / math.log(10.0))
    altered_RFT = log_mel.from_decibels(decibels_RFT).to(log_mel_RFT.dtype)
    is_altered_R = filtered_R | (noise_R < _NO_CHANGE) | (gain_R < _NO_CHANGE) | (pitch_R < _NO_CHANGE)
    return torch.where(is_altered_R[:, None, None], altered_RFT, shifted_RFT)


def _shift(log_mel_RFT: Tensor, drawn: _Drawn, config: AugmentConfig) -> Tensor:
    """Delay each row by a random number of frames, circularly."""
    frames = log_mel_RFT.shape[-1]
    max_frames = int(config.shift * frames)
    shifted_R = drawn.happens(_Draw.SHIFT, config.shift_probability)
    offset_R = torch.where(shifted_R, drawn.below(_Draw.SHIFT_FRAMES, 2 * max_frames + 1) - max_frames, 0)
    # Never negative, so that fmod gives what `%` does, see `marl.randomness.integers`.
    frame_RT = torch.fmod(torch.arange(frames, 2 * frames, device=log_mel_RFT.device) - offset_R[:, None], frames)
    return log_mel_RFT.gather(2, frame_RT[:, None].expand(log_mel_RFT.shape))


def _mean_square(power_RFT: Tensor) -> Tensor:
    """Return the mean square of the waveforms [R]. The outer bands miss the power beyond their middles."""
    units_R = (power_RFT * (1 / _UNIT)).to(torch.int64).sum(dim=(1, 2))
    return units_R.to(torch.float32) * (_UNIT / (_BANDS_PER_MEAN_SQUARE * power_RFT.shape[-1]))


def _filter(tables: _Tables, drawn: _Drawn, filtered_R: Tensor, config: AugmentConfig) -> Tensor:
    """Return the power response [R, F] of the filter drawn for each row; one in rows that are not filtered."""
    low_RF = tables.low_pass_QF[drawn.amount(_Draw.LOW_PASS, filtered_R)]
    high_RF = tables.high_pass_QF[drawn.amount(_Draw.HIGH_PASS, filtered_R)]
    curve_MRF = torch.stack([_FILTERS[kind](low_RF, high_RF) for kind in config.filter_kinds])
    kind_R = drawn.below(_Draw.FILTER_KIND, len(config.filter_kinds))
    curve_RF = curve_MRF[kind_R, torch.arange(len(kind_R), device=kind_R.device)]
    return torch.where(filtered_R[:, None], curve_RF, 1.0)


def _move(power_RFT: Tensor, tables: _Tables, pitch_R: Tensor) -> Tensor:
    """Shift the pitch: the power of each band is interpolated between its two source bands."""
    rows, bands, _ = power_RFT.shape
    first_R1 = torch.arange(rows, device=power_RFT.device)[:, None] * bands

    def part(band_QF: Tensor, weight_QF: Tensor) -> Tensor:
        # Selecting whole bands is many times faster than gathering single values.
        selected = power_RFT.flatten(0, 1).index_select(0, (first_R1 + band_QF[pitch_R]).flatten())
        return selected.view_as(power_RFT) * weight_QF[pitch_R][:, :, None]

    return part(tables.lower_QF, tables.lower_weight_QF) + part(tables.upper_QF, tables.upper_weight_QF)
