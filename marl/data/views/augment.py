"""Two views as two independently altered versions of one clip, as in SimCLR and CLMR.

What is done there to a waveform has a closed form on the mel power spectrogram, and is done here without the waveform.
K is lanes, R = K·n rows (n for each lane), F mel bands, T frames, D draws of a row, M kinds of filter.
"""

import math
from collections.abc import Callable
from enum import IntEnum
from typing import NamedTuple

import torch
from torch import Tensor

from marl import randomness
from marl.audio import LogMel
from marl.data.views.bands import AMOUNTS, Tables, tables
from marl.data.views.config import AugmentConfig
from marl.randomness import Purpose

__all__ = ["augment"]

# Mel power is summed as integers of this unit, 120 dB below a full-scale sine: exact, in whatever order.
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


class _Draw(IntEnum):
    """What each number of a row is drawn for. The values are part of every result: never renumber them."""

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
    """The numbers of all rows, uniform in [0, 1) and multiples of 2^-24."""

    uniform_RD: Tensor

    def happens(self, draw: _Draw, probability: float) -> Tensor:
        return self.uniform_RD[:, draw] < probability

    def below(self, draw: _Draw, count: int) -> Tensor:
        return (self.uniform_RD[:, draw] * 2.0**24).to(torch.int64) * count >> 24

    def amount(self, draw: _Draw, happens_R: Tensor) -> Tensor:
        """Index into a table of amounts."""
        return torch.where(happens_R, self.below(draw, AMOUNTS), AMOUNTS)


def augment(log_mel_RFT: Tensor, seed_K: Tensor, step_K: Tensor, log_mel: LogMel, config: AugmentConfig) -> Tensor:
    """White noise, a gain, a filter, and shifts of pitch and of time, each with its probability.

    Chen et al., "A Simple Framework for Contrastive Learning of Visual Representations" (SimCLR), ICML 2020, section
    2.1, with the changes and the order of CLMR, see `AugmentConfig`. On a waveform they would differ in this: noise is
    here what it is on average; a filter acts on each band as on white noise; pitch moves as by resampling, but time
    does not; shifts in time are whole frames. What lies at the floor is silence, and what falls below it becomes so.

    Args:
        log_mel_RFT: standardised log-mels, lane after lane.
        seed_K: int64 seeds of the lanes.
        step_K: int64 steps of the lanes.
        log_mel: what they were standardised by, on the same device.
        config: what may happen to a view.

    Returns:
        [R, F, T] in the type of the clips, each row a function of its own clip, its lane's seed and step, and its place
        in its lane. Rows that are shifted in time at most keep their bits.
    """
    device, rows = log_mel_RFT.device, len(log_mel_RFT)
    of = tables(log_mel, config)
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
    noise_RF = (of.noise_Q[noise_R] * _mean_square(power_RFT))[:, None] * of.noise_F
    factor_RF = of.gain_Q[gain_R][:, None] * _filter(of, drawn, filtered_R, config)
    power_RFT = _move((power_RFT + noise_RF[:, :, None]) * factor_RF[:, :, None], of, pitch_R)
    # The logarithm to base ten is many times as slow as the natural one on a processor.
    decibels_RFT = torch.log(power_RFT.clamp_min(torch.finfo(torch.float32).tiny)) * (10 / math.log(10.0))
    altered_RFT = log_mel.from_decibels(decibels_RFT).to(log_mel_RFT.dtype)
    is_altered_R = filtered_R | (noise_R < AMOUNTS) | (gain_R < AMOUNTS) | (pitch_R < AMOUNTS)
    return torch.where(is_altered_R[:, None, None], altered_RFT, shifted_RFT)


def _shift(log_mel_RFT: Tensor, drawn: _Drawn, config: AugmentConfig) -> Tensor:
    """Later by a drawn number of frames, around the end."""
    frames = log_mel_RFT.shape[-1]
    farthest = int(config.shift * frames)
    shifted_R = drawn.happens(_Draw.SHIFT, config.shift_probability)
    offset_R = torch.where(shifted_R, drawn.below(_Draw.SHIFT_FRAMES, 2 * farthest + 1) - farthest, 0)
    # Never negative, so that fmod gives what `%` does, see `marl.randomness.integers`.
    frame_RT = torch.fmod(torch.arange(frames, 2 * frames, device=log_mel_RFT.device) - offset_R[:, None], frames)
    return log_mel_RFT.gather(2, frame_RT[:, None].expand(log_mel_RFT.shape))


def _mean_square(power_RFT: Tensor) -> Tensor:
    """That of the waveforms, [R], but for what lies beyond the middles of the outer bands."""
    units_R = (power_RFT * (1 / _UNIT)).to(torch.int64).sum(dim=(1, 2))
    return units_R.to(torch.float32) * (_UNIT / (_BANDS_PER_MEAN_SQUARE * power_RFT.shape[-1]))


def _filter(of: Tables, drawn: _Drawn, filtered_R: Tensor, config: AugmentConfig) -> Tensor:
    """What is left of the power in each band, [R, F]."""
    low_RF = of.low_pass_QF[drawn.amount(_Draw.LOW_PASS, filtered_R)]
    high_RF = of.high_pass_QF[drawn.amount(_Draw.HIGH_PASS, filtered_R)]
    curve_MRF = torch.stack([_FILTERS[kind](low_RF, high_RF) for kind in config.filter_kinds])
    kind_R = drawn.below(_Draw.FILTER_KIND, len(config.filter_kinds))
    curve_RF = curve_MRF[kind_R, torch.arange(len(kind_R), device=kind_R.device)]
    return torch.where(filtered_R[:, None], curve_RF, 1.0)


def _move(power_RFT: Tensor, of: Tables, pitch_R: Tensor) -> Tensor:
    """Power moved along the bands, interpolated between two."""
    rows, bands, _ = power_RFT.shape
    first_R1 = torch.arange(rows, device=power_RFT.device)[:, None] * bands

    def part(band_QF: Tensor, weight_QF: Tensor) -> Tensor:
        # Whole bands at once: many times as fast as a gather of single values.
        selected = power_RFT.flatten(0, 1).index_select(0, (first_R1 + band_QF[pitch_R]).flatten())
        return selected.view_as(power_RFT) * weight_QF[pitch_R][:, :, None]

    return part(of.lower_QF, of.lower_weight_QF) + part(of.upper_QF, of.upper_weight_QF)
