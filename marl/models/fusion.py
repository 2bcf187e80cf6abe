"""How the shared latents of two views become one before decoding.

B is clips: all first views, then all second views. D is shared latents.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from marl.models.config import Posterior

__all__ = ["FUSIONS", "Fusion"]


def fuse_none(posterior: Posterior, z_BD: Tensor, noise_BD: Tensor) -> Tensor:
    """Each view is decoded with its own sample: they are not combined."""
    return z_BD


def fuse_mean(posterior: Posterior, z_BD: Tensor, noise_BD: Tensor) -> Tensor:
    """Both views are decoded with the mean of their samples."""
    return 0.5 * (z_BD + _other(z_BD))


def fuse_swap(posterior: Posterior, z_BD: Tensor, noise_BD: Tensor) -> Tensor:
    """Each view is decoded with the other's sample."""
    return _other(z_BD)


def fuse_poe(posterior: Posterior, z_BD: Tensor, noise_BD: Tensor) -> Tensor:
    """Both views are decoded with one sample of the product of their posteriors.

    The product of two normal densities is normal: precisions add, means are averaged by precision (Wu and Goodman,
    "Multimodal Generative Models for Scalable Weakly-Supervised Learning", NeurIPS 2018, without the prior expert).
    """
    precision = torch.exp(-posterior.logvar)
    weighted = precision * posterior.mean
    joint_precision = precision + _other(precision)
    joint_mean = (weighted + _other(weighted)) / joint_precision
    joint_noise = math.sqrt(0.5) * (noise_BD + _other(noise_BD))
    return joint_mean + joint_noise * joint_precision.rsqrt()


Fusion = Callable[[Posterior, Tensor, Tensor], Tensor]

FUSIONS: dict[str, Fusion] = {
    "none": fuse_none,
    "mean": fuse_mean,
    "swap": fuse_swap,
    "poe": fuse_poe,
}
"""Ways to make one shared latent of two. Each takes the shared posterior of all first views followed by all second
views, a sample of each, and the standard normal numbers that made the samples, all [B, D]; it returns the latents [B,
D] from which each view is decoded."""


def _other(values_BD: Tensor) -> Tensor:
    """Row by row, the value of the pair's other view."""
    return values_BD.roll(len(values_BD) // 2, dims=0)
