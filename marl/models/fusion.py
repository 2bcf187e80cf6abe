"""Fusion of the shared latents of two views before decoding.

N = 2 B clips: the first views of all pairs, then the second views.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from marl.models.config import Posterior

__all__ = ["FUSIONS", "Fusion", "joint_posterior"]

Fusion = Callable[[Posterior, Tensor, Tensor], Tensor]
"""Takes the shared posterior, a sample of it, and the standard normal noise of the sample, all [N, D]. Returns the
shared latents [N, D] from which each view is decoded."""


def joint_posterior(posterior: Posterior) -> Posterior:
    """Return the normalised product of the posteriors of both views, [N, D], the same for both.

    The product of two normal densities is normal: precisions add, means are averaged by precision. This is the
    posterior of the content of a group of two in the multi-level variational autoencoder (Bouchacourt, Tomioka and
    Nowozin, "Multi-Level Variational Autoencoder: Learning Disentangled Representations from Grouped Observations",
    AAAI 2018). One view is a group of one, with its own posterior.
    """
    precision = torch.exp(-posterior.logvar)
    weighted = precision * posterior.mean
    joint_precision = precision + _other_view(precision)
    return Posterior((weighted + _other_view(weighted)) / joint_precision, -joint_precision.log())


def product_of_experts(posterior: Posterior, z_ND: Tensor, noise_ND: Tensor) -> Tensor:
    """Return one sample of the joint posterior, for both views."""
    joint = joint_posterior(posterior)
    joint_noise = math.sqrt(0.5) * (noise_ND + _other_view(noise_ND))
    return joint.mean + joint_noise * torch.exp(0.5 * joint.logvar)


def _other_view(values_ND: Tensor) -> Tensor:
    return values_ND.roll(len(values_ND) // 2, dims=0)


FUSIONS: dict[str, Fusion] = {
    "none": lambda posterior, z_ND, noise_ND: z_ND,
    "mean": lambda posterior, z_ND, noise_ND: 0.5 * (z_ND + _other_view(z_ND)),
    "swap": lambda posterior, z_ND, noise_ND: _other_view(z_ND),
    "poe": product_of_experts,
}
"""Fusions by `latent.fusion`, see `LatentConfig`."""
