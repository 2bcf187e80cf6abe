"""Correlations between private and shared latents: linear dependence."""

import torch
from torch import Tensor

__all__ = ["correlations", "cross_covariance"]

# Added to a variance, so that a constant dimension correlates with nothing.
_EPSILON = 1e-5


def cross_covariance(private_ND: Tensor, shared_NE: Tensor, mask_D: Tensor, mask_E: Tensor) -> Tensor:
    """Return the mean squared correlation of a private with a shared latent.

    The penalty XCov of Cheung, Livezey, Bansal and Olshausen, "Discovering Hidden Factors of Variation in Deep
    Networks", ICLR workshop 2015, which sums squared covariances between two parts of a code, with two changes. Latents
    are standardised, because smaller latents would reduce covariances. The mean over pairs of latents, instead of their
    sum, gives the weight the same meaning for any number of latents. For independent latents the mean is 1 / (N - 1).
    """
    return correlations(private_ND, shared_NE).square().sum() / (mask_D.sum() * mask_E.sum()).clamp_min(1)


def correlations(first_ND: Tensor, second_NE: Tensor) -> Tensor:
    """Return the correlation of each dimension of the one with each dimension of the other, [D, E]."""
    return _standardised(first_ND).mT @ _standardised(second_NE) / len(first_ND)


def _standardised(z_ND: Tensor) -> Tensor:
    centred_ND = z_ND - z_ND.mean(dim=0)
    return centred_ND * torch.rsqrt(centred_ND.square().mean(dim=0) + _EPSILON)
