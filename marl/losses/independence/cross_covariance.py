"""Correlations between private and shared dimensions: linear dependence."""

import torch
from torch import Tensor

__all__ = ["cross_covariance"]

# Added to a variance, so that a constant dimension correlates with nothing.
_EPSILON = 1e-5


def cross_covariance(private_BD: Tensor, shared_BE: Tensor, mask_D: Tensor, mask_E: Tensor) -> Tensor:
    """Mean squared correlation of a private with a shared dimension.

    The penalty XCov of Cheung, Livezey, Bansal and Olshausen, "Discovering Hidden Factors of Variation in Deep
    Networks", ICLR workshop 2015, which sums squared covariances between two parts of a code, with two changes:
    dimensions are standardised first, or latents would shrink to please it, and it is a mean over pairs of dimensions,
    so that its weight means the same for any number of them.

    Args:
        private_BD: private latents, zero where padded.
        shared_BE: shared latents of the same clips, likewise.
        mask_D: one for each private dimension that the model has, zero for padding.
        mask_E: the same for the shared dimensions.

    Returns:
        A scalar between 0 and 1. Of independent latents it is 1 / (B - 1) on average.
    """
    correlation_DE = _standardised(private_BD).mT @ _standardised(shared_BE) / len(private_BD)
    return correlation_DE.square().sum() / (mask_D.sum() * mask_E.sum()).clamp_min(1)


def _standardised(z_BD: Tensor) -> Tensor:
    centred_BD = z_BD - z_BD.mean(dim=0)
    return centred_BD * torch.rsqrt(centred_BD.square().mean(dim=0) + _EPSILON)
