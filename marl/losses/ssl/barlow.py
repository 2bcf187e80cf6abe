"""Barlow Twins: dimensions that agree between views and are uncorrelated with each other."""

import torch
from torch import Tensor

from marl.losses.ssl.pairing import Pairing, identity

__all__ = ["barlow"]

# The paper's weight of redundancy, and what batch normalisation adds to a variance.
_REDUNDANCY = 5e-3
_EPSILON = 1e-5


def barlow(a_BD: Tensor, b_BD: Tensor, pairing: Pairing) -> Tensor:
    """Squared distance of the views' cross-correlation matrix from the identity, summed over dimensions.

    Zbontar, Jing, Misra, LeCun and Deny, "Barlow Twins: Self-Supervised Learning via Redundancy Reduction", ICML 2021,
    equations 1 and 2. There are no negatives, so neither pairs left out nor temperature play a part.

    Args:
        a_BD: latents of the first views.
        b_BD: latents of the second views.
        pairing: of the batch; padded dimensions add nothing.

    Returns:
        A scalar without a unit, which grows with the number of dimensions.
    """
    correlation_DD = _standardised(a_BD).mT @ _standardised(b_BD) / len(a_BD)
    disagreement_D = pairing.mask_D * (correlation_DD.diagonal() - 1).square()
    redundancy_DD = torch.where(identity(correlation_DD), 0.0, correlation_DD).square()
    return disagreement_D.sum() + _REDUNDANCY * redundancy_DD.sum()


def _standardised(z_BD: Tensor) -> Tensor:
    centred_BD = z_BD - z_BD.mean(dim=0)
    return centred_BD * torch.rsqrt(centred_BD.square().mean(dim=0) + _EPSILON)
