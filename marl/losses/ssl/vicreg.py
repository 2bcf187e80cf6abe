"""VICReg: views that agree, dimensions that vary and do not covary."""

import torch
from torch import Tensor

from marl.losses.ssl.pairing import Pairing, identity

__all__ = ["vicreg"]

# The paper's weights of invariance, variance and covariance, and what it adds to a variance.
_INVARIANCE, _VARIANCE, _COVARIANCE = 25.0, 25.0, 1.0
_EPSILON = 1e-4


def vicreg(a_BD: Tensor, b_BD: Tensor, pairing: Pairing) -> Tensor:
    """Weighted sum of the views' distance, of what standard deviations lack to one, and of covariances.

    Bardes, Ponce and LeCun, "VICReg: Variance-Invariance-Covariance Regularization for Self-Supervised Learning", ICLR
    2022, equations 1 to 6, with two choices of the authors' code: the squared distance is a mean over dimensions, not a
    sum, and the variance term is the mean over views, not their sum. There are no negatives, so neither pairs left out
    nor temperature play a part.

    Args:
        a_BD: latents of the first views.
        b_BD: latents of the second views.
        pairing: of the batch; padded dimensions add nothing and are not counted.

    Returns:
        A scalar without a unit. It depends on the scale of latents.
    """
    clips = len(a_BD)
    dimensions = pairing.mask_D.sum().clamp_min(1)
    invariance = (a_BD - b_BD).square().sum() / (clips * dimensions)
    views_2BD = torch.stack([a_BD, b_BD])
    centred_2BD = views_2BD - views_2BD.mean(dim=1, keepdim=True)
    covariance_2DD = centred_2BD.mT @ centred_2BD / (clips - 1)
    deviation_2D = (covariance_2DD.diagonal(dim1=1, dim2=2) + _EPSILON).sqrt()
    variance = (pairing.mask_D * (1 - deviation_2D).clamp_min(0)).sum() / (2 * dimensions)
    covariance = torch.where(identity(covariance_2DD), 0.0, covariance_2DD).square().sum() / dimensions
    return _INVARIANCE * invariance + _VARIANCE * variance + _COVARIANCE * covariance
