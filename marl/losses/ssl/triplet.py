"""The triplet loss with all negatives of the batch."""

import torch
from torch import Tensor

from marl.losses.ssl.pairing import Pairing, identity, tiled, unit_clips

__all__ = ["triplet"]

# The default of pytorch-metric-learning, for distances between 0 and 2.
_MARGIN = 0.05


def triplet(a_BD: Tensor, b_BD: Tensor, pairing: Pairing) -> Tensor:
    """By how much a clip's other view is not closer to it than a negative by a margin, mean over such triplets.

    Schroff, Kalenichenko and Philbin, "FaceNet", CVPR 2015, equation 3, with Euclidean distances that are not squared
    and the mean over triplets above zero (Hermans, Beyer and Leibe, "In Defense of the Triplet Loss for Person
    Re-Identification", 2017, equation 6 and their "batch all, non-zero"), as in pytorch-metric-learning. Every clip of
    either view is an anchor, both views of every pair that is not left out are its negatives. It jumps where a triplet
    becomes zero. Temperature plays no part.

    Args:
        a_BD: latents of the first views, brought to unit length here.
        b_BD: latents of the second views, likewise.
        pairing: of the batch.

    Returns:
        A scalar between 0 and 2.05, a distance; zero if there is no such triplet.
    """
    unit_ND = unit_clips(a_BD, b_BD)
    first_BD, second_BD = unit_ND.chunk(2)
    positive_N = _distance((first_BD * second_BD).sum(dim=-1)).tile(2)
    negative_NN = ~tiled(pairing.left_out_BB | identity(pairing.left_out_BB))
    excess_NN = positive_N[:, None] + _MARGIN - _distance(unit_ND @ unit_ND.mT)
    counts_NN = negative_NN & (excess_NN > 0)
    return torch.where(counts_NN, excess_NN, 0.0).sum() / counts_NN.sum().clamp_min(1)


def _distance(cosine: Tensor) -> Tensor:
    squared = 2 - 2 * cosine
    # What is smaller is rounding; the root's gradient there would be noise, or infinite.
    rounding = 4 * torch.finfo(cosine.dtype).eps
    return torch.where(squared > rounding, squared.clamp_min(rounding).sqrt(), 0.0)
