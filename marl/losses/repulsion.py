"""Repulsion: the reverse of contrast, for latents that must not represent what the two views share."""

from torch import Tensor
from torch.nn.functional import normalize

from marl.losses.ssl.strategy import Strategy

__all__ = ["REPULSION", "repulsion"]


def repulsion(first_BD: Tensor, second_BD: Tensor) -> Tensor:
    """Return the squared positive part of the cosine similarity of the two views, averaged over pairs.

    Orthogonal and opposite views contribute zero, so the loss is bounded below, unlike a contrastive loss with its sign
    reversed. The value is between 0 and 1.
    """
    cosine_B = (normalize(first_BD, dim=-1) * normalize(second_BD, dim=-1)).sum(dim=-1)
    return cosine_B.clamp_min(0).square().mean()


REPULSION = Strategy("repulsion", lambda inputs: repulsion(*inputs.views()[:2]))
