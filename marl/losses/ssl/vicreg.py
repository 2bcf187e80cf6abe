"""VICReg: views agree, dimensions vary and do not covary."""

import torch
from torch import Tensor

from marl.losses.ssl.strategy import Pairing, identity, pairwise

__all__ = ["VICREG", "vicreg"]

# The weights of invariance, variance and covariance in the paper, and the constant that it adds to a variance.
_INVARIANCE, _VARIANCE, _COVARIANCE = 25.0, 25.0, 1.0
_EPSILON = 1e-4


def vicreg(first_BD: Tensor, second_BD: Tensor, pairing: Pairing) -> Tensor:
    """Return the weighted sum of the distance of the views, a hinge on standard deviations below one, and covariances.

    Bardes, Ponce and LeCun, "VICReg: Variance-Invariance-Covariance Regularization for Self-Supervised Learning", ICLR
    2022, equations 1 to 6, with two choices of the authors' code: the squared distance is a mean over dimensions, not a
    sum, and the variance term is the mean over views, not their sum. There are no negatives: excluded negatives and
    temperature have no effect. The loss depends on the scale of the latents.
    """
    pairs = len(first_BD)
    dimensions = pairing.mask_D.sum().clamp_min(1)
    invariance = (first_BD - second_BD).square().sum() / (pairs * dimensions)
    views_VBD = torch.stack([first_BD, second_BD])
    centred_VBD = views_VBD - views_VBD.mean(dim=1, keepdim=True)
    covariance_VDD = centred_VBD.mT @ centred_VBD / (pairs - 1)
    deviation_VD = (covariance_VDD.diagonal(dim1=1, dim2=2) + _EPSILON).sqrt()
    variance = (pairing.mask_D * (1 - deviation_VD).clamp_min(0)).sum() / (2 * dimensions)
    covariance = torch.where(identity(covariance_VDD), 0.0, covariance_VDD).square().sum() / dimensions
    return _INVARIANCE * invariance + _VARIANCE * variance + _COVARIANCE * covariance


VICREG = pairwise("vicreg", vicreg)
