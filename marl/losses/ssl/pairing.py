"""What a strategy is told about a batch of pairs, and what strategies that compare clips have in common.

B is pairs, D latents, N = 2B clips: all first views, then all second views.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import normalize

__all__ = ["LEFT_OUT", "Pairing", "identity", "rivals", "tiled", "unit_clips"]

LEFT_OUT = -1e9
"""Leaves a clip out of a softmax in float32 without an infinity, whose gradient would be undefined."""


class Pairing(NamedTuple):
    """What is known about the pairs of a batch, and the settings of the model.

    Attributes:
        mask_D: one for each dimension that the model has, zero for padding, where latents are zero.
        same_BB: pairs that are known to agree in the shared factors; true on the diagonal.
        left_out_BB: different pairs that must not count as negatives of each other; false on the diagonal.
        temperature: of similarities; a positive scalar.
    """

    mask_D: Tensor
    same_BB: Tensor
    left_out_BB: Tensor
    temperature: Tensor


def identity(like_BB: Tensor) -> Tensor:
    """The Boolean identity matrix of the size of another."""
    return torch.eye(like_BB.shape[-1], dtype=torch.bool, device=like_BB.device)


def tiled(matrix_BB: Tensor) -> Tensor:
    """What holds for two pairs, for every view of the one and every view of the other, [N, N]."""
    return matrix_BB.tile(2, 2)


def unit_clips(a_BD: Tensor, b_BD: Tensor) -> Tensor:
    """Both views as clips of unit length, [N, D]; zero where a latent is zero."""
    return normalize(torch.cat([a_BD, b_BD]), dim=-1)


def rivals(a_BD: Tensor, b_BD: Tensor, pairing: Pairing) -> tuple[Tensor, Tensor]:
    """How close each clip is to its other view, and to its negatives: both views of every pair that is not left out.

    Args:
        a_BD: latents of the first views.
        b_BD: latents of the second views.
        pairing: of the batch.

    Returns:
        Cosine similarity to the other view over temperature, [N], and logsumexp of the same for all negatives, [N]:
        about `LEFT_OUT` where there is none.
    """
    unit_ND = unit_clips(a_BD, b_BD)
    scaled_ND = unit_ND / pairing.temperature
    no_negative_NN = tiled(pairing.left_out_BB | identity(pairing.left_out_BB))
    log_negatives_N = torch.logsumexp(torch.where(no_negative_NN, LEFT_OUT, scaled_ND @ unit_ND.mT), dim=1)
    first_BD, _ = scaled_ND.chunk(2)
    _, second_BD = unit_ND.chunk(2)
    return (first_BD * second_BD).sum(dim=-1).tile(2), log_negatives_N
