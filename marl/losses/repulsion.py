"""Repulsion: the reverse of contrast, for latents that must not hold what two views share."""

from torch import Tensor
from torch.nn.functional import normalize

__all__ = ["repulsion"]


def repulsion(a_BD: Tensor, b_BD: Tensor) -> Tensor:
    """Mean over pairs of the squared positive part of the cosine similarity of both views.

    For latents that must not hold what the views share. Orthogonal or opposite views add zero and are left alone, so
    that nothing is gained without bound, as it would be by a contrastive loss with its sign reversed.

    Args:
        a_BD: latents of the first views.
        b_BD: latents of the second views.

    Returns:
        A scalar between 0 and 1.
    """
    cosine_B = (normalize(a_BD, dim=-1) * normalize(b_BD, dim=-1)).sum(dim=-1)
    return cosine_B.clamp_min(0).square().mean()
