"""The normalised Hilbert-Schmidt independence criterion: dependence of any form."""

import torch
from torch import Tensor

__all__ = ["hsic"]

# Latents whose variance is far below the first count as constant. The second is small beside the HSIC of a kernel with
# itself, which is 0.15 / N or more.
_CONSTANT = 1e-8
_EPSILON = 1e-6


def hsic(private_ND: Tensor, shared_NE: Tensor, mask_D: Tensor, mask_E: Tensor) -> Tensor:
    """Return the HSIC of private and shared latents, divided by the geometric mean of the HSIC of each with itself.

    The biased estimator of Gretton, Bousquet, Smola and Schölkopf, "Measuring Statistical Dependence with
    Hilbert-Schmidt Norms", ALT 2005, equation 9, normalised as in Kornblith et al., "Similarity of Neural Network
    Representations Revisited", ICML 2019, equation 4. The squared bandwidth of the Gaussian kernels is the mean squared
    distance of two clips, which is smooth, unlike the usual median. No gradient passes through the bandwidth.

    The bias is upwards: of order 1 / N for independent latents of few dimensions, and towards one for many dimensions,
    where kernels approach the identity. The value is 0 if either part is constant. Masks are not needed, because zeros
    add nothing to a distance.
    """
    private_NN, shared_NN = _centred_kernel(private_ND), _centred_kernel(shared_NE)
    norms = [torch.rsqrt(kernel_NN.square().mean() + _EPSILON) for kernel_NN in (private_NN, shared_NN)]
    return (private_NN * shared_NN).mean() * norms[0] * norms[1]


def _centred_kernel(z_ND: Tensor) -> Tensor:
    # Far from the origin, rounding would hide the distance of two clips.
    z_ND = z_ND - z_ND.mean(dim=0)
    # Twice the mean squared distance of two different clips, because the latents are centred.
    scale = 4 * z_ND.detach().square().sum() / (len(z_ND) - 1)
    z_ND = z_ND * torch.rsqrt(scale + _CONSTANT)
    square_N = z_ND.square().sum(dim=-1)
    kernel_NN = (2 * z_ND @ z_ND.mT - square_N - square_N[:, None]).exp()
    mean_N = kernel_NN.mean(dim=0)
    return kernel_NN - mean_N - (mean_N - mean_N.mean())[:, None]
