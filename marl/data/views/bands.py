"""Effects of filters and resampling of a waveform on its mel bands.

F is mel bands, N Fourier bins, Q amounts of an effect.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from marl.audio import MEL_CORNER_HZ, LogMel, hz_to_mel, mel_to_hz

__all__ = ["filtered_bands", "high_pass", "low_pass", "pitch_shifted_bands"]


def low_pass(hz: Tensor, cutoff_hz: Tensor | float, order: int) -> Tensor:
    """Return the power response of a Butterworth low-pass filter at a frequency."""
    return 1 / (1 + (hz / cutoff_hz) ** (2 * order))


def high_pass(hz: Tensor, cutoff_hz: Tensor | float, order: int) -> Tensor:
    """Return the power response of a Butterworth high-pass filter at a frequency."""
    return 1 - low_pass(hz, cutoff_hz, order)


def filtered_bands(
    log_mel: LogMel, response: Callable[[Tensor, Tensor, int], Tensor], cutoff_hz_Q: Tensor, order: int
) -> Tensor:
    """Return the factor [Q, F] by which a filter changes the power of white noise in each band, float64."""
    weights_NF = log_mel.band_weights_NF.to("cpu", torch.float64)
    weights_NF = weights_NF / weights_NF.sum(dim=0).clamp_min(1e-9)  # a band narrower than a bin can have none
    hz_N = torch.linspace(0, log_mel.config.sample_rate / 2, len(weights_NF), dtype=torch.float64)
    return response(hz_N, cutoff_hz_Q[:, None], order) @ weights_NF


def pitch_shifted_bands(log_mel: LogMel, ratio_Q: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the source of each band when all frequencies are multiplied by a ratio, float64.

    Returns:
        Three tensors [Q, F]: the band below the source, the distance of the source from it in bands, and the factor of
        the power. When pitch rises, a source covers more bands, because bands widen less than in proportion to their
        frequency, and the power of each is smaller. Outside of the spectrogram there is no power; below 0 Hz the
        spectrum is mirrored.
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
    """Return the share of a triangular band inside of an edge, given the signed distance of its middle, in bands."""
    distance = distance.clamp(-1, 1)
    return torch.where(distance > 0, 1 - (1 - distance) ** 2 / 2, (1 + distance) ** 2 / 2)
