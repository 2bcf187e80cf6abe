"""Barlow Twins: dimensions agree between views and are uncorrelated with each other."""

import torch
from torch import Tensor

from marl.losses.independence.cross_covariance import correlations
from marl.losses.ssl.strategy import Pairing, identity, pairwise

__all__ = ["BARLOW", "barlow"]

_REDUNDANCY = 5e-3  # weight of redundancy in the paper


def barlow(first_BD: Tensor, second_BD: Tensor, pairing: Pairing) -> Tensor:
    """Return the weighted squared distance of the cross-correlation matrix of the views from the identity matrix.

    Zbontar, Jing, Misra, LeCun and Deny, "Barlow Twins: Self-Supervised Learning via Redundancy Reduction", ICML 2021,
    equations 1 and 2. Entries off the diagonal have a weight of 0.005. There are no negatives: excluded negatives and
    temperature have no effect. The loss grows with the number of dimensions.
    """
    correlation_DD = correlations(first_BD, second_BD)
    disagreement_D = pairing.mask_D * (correlation_DD.diagonal() - 1).square()
    redundancy_DD = torch.where(identity(correlation_DD), 0.0, correlation_DD).square()
    return disagreement_D.sum() + _REDUNDANCY * redundancy_DD.sum()


BARLOW = pairwise("barlow", barlow)
