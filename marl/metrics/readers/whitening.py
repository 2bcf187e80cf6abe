"""Whitening of representations, the first step of all readers."""

from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["Whitening"]

# A standard deviation this far below the mean is the rounding of a constant in float32.
_CONSTANT = 1e-6
# Smaller variances of principal components of standardised latents come from rounding in float32.
_DEPENDENT = 1e-9


@dataclass(frozen=True)
class Whitening:
    """Affine maps to the principal components of standardised latents, scaled to variance one.

    Readers then depend neither on the scale of a latent nor, but for the initial values of networks, on a rotation.
    There are as many components E as latents, sorted by variance. Where latents are constant or linearly dependent, the
    last components are zero.
    """

    mean_R1D: Tensor
    weight_RDE: Tensor

    @staticmethod
    def fit(latents_RND: Tensor, posterior_deviation_RD: Tensor | None = None) -> "Whitening":
        """Return the map of each representation.

        If latents are posterior means, `posterior_deviation_RD` is the root-mean-square deviation of posteriors. The
        map is then that of samples, so that the means of a collapsed latent stay as small as they are.
        """
        latents = latents_RND.to(torch.float64)
        mean = latents.mean(dim=1, keepdim=True)
        centred = latents - mean
        deviation = centred.square().mean(dim=1, keepdim=True).sqrt()
        noise_R1D = torch.zeros_like(mean) if posterior_deviation_RD is None else posterior_deviation_RD[:, None]
        scale = torch.where(deviation > _CONSTANT * mean.abs(), deviation.maximum(noise_R1D), torch.inf)
        standard = centred / scale
        covariance_RDD = standard.mT @ standard / latents.shape[1] + torch.diag_embed(
            (noise_R1D / scale).square()[:, 0]
        )
        variance_RE, component_RDE = torch.linalg.eigh(covariance_RDD)
        variance_RE, component_RDE = variance_RE.flip(-1), component_RDE.flip(-1)
        # Signs of eigenvectors are arbitrary, and would change when a constant latent is added.
        largest_R1E = component_RDE.gather(1, component_RDE.abs().argmax(dim=1, keepdim=True))
        component_RDE = component_RDE * largest_R1E.sign()
        inverse_RE = torch.where(variance_RE > _DEPENDENT, variance_RE, torch.inf).rsqrt()
        return Whitening(mean, component_RDE * inverse_RE[:, None] / scale.mT)

    def __call__(self, latents_RND: Tensor) -> Tensor:
        """Return the components of clips, float64 [R, N, E]."""
        return (latents_RND.to(torch.float64) - self.mean_R1D) @ self.weight_RDE
