"""What noise, gain, filters and resampling of a waveform do to its mel bands, as tables.

Looked up, an amount is the same number in every lane; computed in a step, a function may be rounded differently at the
end of a vector. F is mel bands, N Fourier bins, Q the amounts of a table; the last one changes nothing.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from marl.audio import MEL_CORNER_HZ, LogMel, hz_to_mel, mel_to_hz
from marl.data.views.config import AugmentConfig, Range

__all__ = ["AMOUNTS", "Tables", "high_pass", "low_pass", "tables"]

AMOUNTS = 1024
"""How many amounts a range is divided into; an index of so much is the amount that changes nothing."""


class Tables(NamedTuple):
    """What each amount does.

    Attributes:
        noise_Q: mean square of the noise over that of the clip.
        noise_F: mel power of noise with a mean square of one.
        gain_Q: factor of the power.
        low_pass_QF: factor of the power in each band.
        high_pass_QF: the same.
        lower_QF: the first of the two bands that come into each band when pitch is shifted.
        lower_weight_QF: how much of it comes.
        upper_QF: the second one.
        upper_weight_QF: how much of that comes.
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


def low_pass(hz: Tensor, cutoff_hz: Tensor | float, order: int) -> Tensor:
    """What a Butterworth filter leaves of the power at a frequency."""
    return 1 / (1 + (hz / cutoff_hz) ** (2 * order))


def high_pass(hz: Tensor, cutoff_hz: Tensor | float, order: int) -> Tensor:
    """What a Butterworth filter leaves of the power at a frequency."""
    return 1 - low_pass(hz, cutoff_hz, order)


@lru_cache(maxsize=16)
def tables(log_mel: LogMel, config: AugmentConfig) -> Tables:
    """Float32 and int64 on the device of `log_mel`, but computed in float64 on the processor: the same everywhere."""
    bands_F = torch.arange(log_mel.config.mel_bands)
    weights_NF = log_mel.band_weights_NF.to("cpu", torch.float64)
    weights_NF = weights_NF / weights_NF.sum(dim=0).clamp_min(1e-9)  # a band narrower than a bin may have none
    bin_hz_N = torch.linspace(0, log_mel.config.sample_rate / 2, len(weights_NF), dtype=torch.float64)

    def filtered(curve: Callable[[Tensor, Tensor, int], Tensor], cutoff_hz: Range) -> Tensor:
        return curve(bin_hz_N, _amounts(cutoff_hz)[:, None], config.filter_order) @ weights_NF

    def table(amounts: Tensor, nothing: Tensor) -> Tensor:
        joined = torch.cat([amounts, nothing[None].to(amounts.dtype)])
        return joined.to(log_mel.device, torch.float32 if joined.is_floating_point() else joined.dtype)

    lower_QF, beyond_QF, kept_QF = _sources(log_mel, 2 ** (_amounts(config.pitch_semitones) / 12))
    one, one_F = torch.ones(()), torch.ones(len(bands_F))
    return Tables(
        noise_Q=table(10 ** (-_amounts(config.noise_snr_db) / 10), torch.zeros(())),
        noise_F=log_mel.white_noise_F(),
        gain_Q=table(10 ** (_amounts(config.gain_db) / 10), one),
        low_pass_QF=table(filtered(low_pass, config.low_pass_hz), one_F),
        high_pass_QF=table(filtered(high_pass, config.high_pass_hz), one_F),
        lower_QF=table(lower_QF, bands_F),
        lower_weight_QF=table(kept_QF * (1 - beyond_QF), one_F),
        upper_QF=table((lower_QF + 1).clamp_max(len(bands_F) - 1), bands_F),
        upper_weight_QF=table(kept_QF * beyond_QF, torch.zeros(len(bands_F))),
    )


def _amounts(limits: Range) -> Tensor:
    return torch.linspace(*limits, AMOUNTS, dtype=torch.float64)


def _sources(log_mel: LogMel, ratio_Q: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """What comes into each band when all frequencies are multiplied by a ratio.

    Returns:
        Three times [Q, F]: the band below the source, how far beyond it the source lies, in bands, and what is kept of
        the power. Going up, bands widen less than in proportion to their frequency, so the same power is spread over
        more of them. Beyond the spectrogram's ends is nothing, but below 0 Hz there is a mirror.
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
    """Share of a triangular band whose middle is so far, in bands, on the inner side of an edge."""
    distance = distance.clamp(-1, 1)
    return torch.where(distance > 0, 1 - (1 - distance) ** 2 / 2, (1 + distance) ** 2 / 2)
