"""Barlow Twins: dimensions agree between views and are uncorrelated with each other."""

import torch
from torch import Tensor

from marl.losses.ssl.strategy import Pairing, identity, pairwise

__all__ = ["BARLOW", "barlow"]

# The weight of redundancy in the paper, and the constant that batch normalisation adds to a variance.
_REDUNDANCY = 5e-3
_EPSILON = 1e-5


def barlow(first_BD: Tensor, second_BD: Tensor, pairing: Pairing) -> Tensor:
    """Return the squared distance of the cross-correlation matrix of the views from the identity, over all entries.

    Zbontar, Jing, Misra, LeCun and Deny, "Barlow Twins: Self-Supervised Learning via Redundancy Reduction", ICML 2021,
    equations 1 and 2. It has no negatives, so excluded negatives and temperature have no effect.

    Args:
        first_BD: Latents of the first views.
        second_BD: Latents of the second views.
        pairing: Pairing of the batch; padded dimensions contribute nothing.

    Returns:
        A scalar without a unit that grows with the number of dimensions.
    """
    correlation_DD = _standardised(first_BD).mT @ _standardised(second_BD) / len(first_BD)
    disagreement_D = pairing.mask_D * (correlation_DD.diagonal() - 1).square()
    redundancy_DD = torch.where(identity(correlation_DD), 0.0, correlation_DD).square()
    return disagreement_D.sum() + _REDUNDANCY * redundancy_DD.sum()


def _standardised(z_BD: Tensor) -> Tensor:
    centred_BD = z_BD - z_BD.mean(dim=0)
    return centred_BD * torch.rsqrt(centred_BD.square().mean(dim=0) + _EPSILON)


BARLOW = pairwise("barlow", barlow)
