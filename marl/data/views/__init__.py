"""Schemes that make the two views of a pair from the clips that were drawn for it.

With `factor` the views are two clips that share factors. With `augment` and `segment` both views start from one clip.
R = K n is rows, n per lane.
"""

from typing import Literal, get_args

import torch
from torch import Tensor

from marl import randomness
from marl.audio import LogMel
from marl.data.views.augment import AugmentConfig, augment
from marl.randomness import Purpose

__all__ = ["AugmentConfig", "ViewScheme", "augment", "make_views", "segment"]

ViewScheme = Literal["factor", "augment", "segment"]


def make_views(
    scheme: ViewScheme, log_mel_RFT: Tensor, seed_K: Tensor, step_K: Tensor, log_mel: LogMel, config: AugmentConfig
) -> Tensor:
    """Return the views, in the shape and type of the clips that they are made from.

    This is part of the compiled training step: shapes are fixed and no branch depends on data. It uses only operations
    on single elements, gathers and a sum of integers, so the other rows do not change the bits of a row.

    Args:
        scheme: How views are made.
        log_mel_RFT: Standardised log-mels of the clips, lane after lane; the first views of a lane come first.
        seed_K: Seeds of the lanes, int64.
        step_K: Steps of the lanes, int64.
        log_mel: Statistics by which the clips were standardised, on the same device.
        config: Configuration of `augment`.
    """
    match scheme:
        case "factor":
            return log_mel_RFT
        case "augment":
            return augment(log_mel_RFT, seed_K, step_K, log_mel, config)
        case "segment":
            return segment(log_mel_RFT, seed_K, step_K)
    raise ValueError(f"views.scheme must be one of {', '.join(get_args(ViewScheme))}; got {scheme!r}")


def segment(log_mel_RFT: Tensor, seed_K: Tensor, step_K: Tensor) -> Tensor:
    """Return a random half of each clip's frames, repeated to the length of the clip, as in COLA.

    Saeed, Grangier and Zeghidour, "Contrastive Learning of General-Purpose Audio Representations", ICASSP 2021, section
    2: the two segments of a recording are placed independently. Their segments are a tenth of a recording. Here they
    are half of a clip, so two segments share two thirds of their frames on average. Repetition keeps the input size of
    the network. Neighbouring frames overlap, since the Fourier window is longer than the hop.

    Each row depends on its clip, the seed and step of its lane, and its position in the lane.
    """
    device, frames = log_mel_RFT.device, log_mel_RFT.shape[-1]
    window = max(frames // 2, 1)
    start_KR1 = randomness.integers(
        randomness.stream(seed_K, step_K, Purpose.SEGMENT),
        randomness.indices(len(log_mel_RFT) // len(seed_K), device),
        torch.zeros(1, dtype=torch.int64, device=device),
        below=frames - window + 1,
    )
    frame_RT = start_KR1.flatten(0, 1) + torch.arange(frames, device=device) % window
    return log_mel_RFT.gather(2, frame_RT[:, None].expand(log_mel_RFT.shape))
