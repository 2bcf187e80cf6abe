"""The normalised Hilbert-Schmidt independence criterion: dependence of any form."""

import torch
from torch import Tensor

__all__ = ["hsic"]

# Latents whose variance is far below the first count as constant. The second is small beside the HSIC of a kernel with
# itself, which is 0.15 / B or more.
_CONSTANT = 1e-8
_EPSILON = 1e-6


def hsic(private_BD: Tensor, shared_BE: Tensor, mask_D: Tensor, mask_E: Tensor) -> Tensor:
    """HSIC of private and shared latents, divided by the root of the product of the HSIC of each with itself.

    The biased estimator of Gretton, Bousquet, Smola and Schölkopf, "Measuring Statistical Dependence with
    Hilbert-Schmidt Norms", ALT 2005, equation 9, normalised as in Kornblith et al., "Similarity of Neural Network
    Representations Revisited", ICML 2019, equation 4, with Gaussian kernels whose squared bandwidth is the mean squared
    distance of two clips: smooth, where the usual median is not. No gradient passes through the bandwidth.

    The bias is upwards: of independent latents it is of order 1 / B for few dimensions, and towards one for many, whose
    kernels look like the identity.

    Args:
        private_BD: private latents, zero where padded.
        shared_BE: shared latents of the same clips, likewise.
        mask_D: not needed, as zeros add nothing to a distance.
        mask_E: likewise.

    Returns:
        A scalar between 0 and 1; 0 if either part is constant.
    """
    private_BB, shared_BB = _centred_kernel(private_BD), _centred_kernel(shared_BE)
    norms = [torch.rsqrt(kernel_BB.square().mean() + _EPSILON) for kernel_BB in (private_BB, shared_BB)]
    return (private_BB * shared_BB).mean() * norms[0] * norms[1]


def _centred_kernel(z_BD: Tensor) -> Tensor:
    # Far from the origin the distance of two clips would be lost in rounding.
    z_BD = z_BD - z_BD.mean(dim=0)
    # Of centred latents, this is twice the mean squared distance of two different clips.
    scale = 4 * z_BD.detach().square().sum() / (len(z_BD) - 1)
    z_BD = z_BD * torch.rsqrt(scale + _CONSTANT)
    square_B = z_BD.square().sum(dim=-1)
    kernel_BB = (2 * z_BD @ z_BD.mT - square_B - square_B[:, None]).exp()
    mean_B = kernel_BB.mean(dim=0)
    return kernel_BB - mean_B - (mean_B - mean_B.mean())[:, None]
