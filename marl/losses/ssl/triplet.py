"""The triplet loss with all negatives of the batch."""

import torch
from torch import Tensor

from marl.losses.ssl.strategy import Pairing, identity, pairwise, tile_views, unit_clips

__all__ = ["TRIPLET", "triplet"]

# The default of pytorch-metric-learning, for distances between 0 and 2.
_MARGIN = 0.05


def triplet(first_BD: Tensor, second_BD: Tensor, pairing: Pairing) -> Tensor:
    """Return the triplet margin loss, averaged over the triplets whose loss is positive.

    Schroff, Kalenichenko and Philbin, "FaceNet", CVPR 2015, equation 3, with Euclidean distances that are not squared
    and the mean of Hermans, Beyer and Leibe, "In Defense of the Triplet Loss for Person Re-Identification", 2017,
    equation 6 and their "batch all, non-zero", as in pytorch-metric-learning. The loss of a triplet is the distance to
    the positive, plus a margin of 0.05, minus the distance to the negative. Every clip of either view is an anchor, its
    other view the positive, and both views of every other pair that is not excluded are negatives. The result is
    between 0, if no triplet has a positive loss, and 2.05; it is discontinuous where the loss of a triplet becomes
    zero. Latents are normalised here; the temperature has no effect.
    """
    unit_ND = unit_clips(first_BD, second_BD)
    first_BD, second_BD = unit_ND.chunk(2)
    positive_N = _distance((first_BD * second_BD).sum(dim=-1)).tile(2)
    negative_NN = ~tile_views(pairing.excluded_negatives_BB | identity(pairing.excluded_negatives_BB))
    excess_NN = positive_N[:, None] + _MARGIN - _distance(unit_ND @ unit_ND.mT)
    counts_NN = negative_NN & (excess_NN > 0)
    return torch.where(counts_NN, excess_NN, 0.0).sum() / counts_NN.sum().clamp_min(1)


def _distance(cosine: Tensor) -> Tensor:
    squared = 2 - 2 * cosine
    # Smaller values are rounding errors; the gradient of the root would be noise, or infinite.
    rounding = 4 * torch.finfo(cosine.dtype).eps
    return torch.where(squared > rounding, squared.clamp_min(rounding).sqrt(), 0.0)


TRIPLET = pairwise("triplet", triplet)
