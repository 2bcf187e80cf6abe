"""InfoNCE between two views, in both directions."""

import torch
from torch import Tensor
from torch.nn.functional import normalize

__all__ = ["infonce"]

# Leaves a pair out of a softmax in float32 without an infinity, whose gradient would be undefined.
_LEFT_OUT = -1e9


def infonce(a_BD: Tensor, b_BD: Tensor, left_out_BB: Tensor, temperature: Tensor) -> Tensor:
    """Mean over both directions of the cross-entropy of finding a clip's other view among the batch.

    van den Oord, Li and Vinyals, "Representation Learning with Contrastive Predictive Coding", 2018, equation 4, with
    cosine similarity over temperature, made symmetric as in CLIP (Radford et al., 2021, figure 3).

    Args:
        a_BD: latents of the first views.
        b_BD: latents of the second views.
        left_out_BB: pairs to leave out of each other's negatives; false on the diagonal.
        temperature: a positive scalar.

    Returns:
        A scalar, nats.
    """
    similarity_BB = normalize(a_BD, dim=-1) @ normalize(b_BD, dim=-1).mT / temperature
    logits_BB = torch.where(left_out_BB, _LEFT_OUT, similarity_BB)
    positive_B = similarity_BB.diagonal()
    from_a = torch.logsumexp(logits_BB, dim=1) - positive_B
    from_b = torch.logsumexp(logits_BB, dim=0) - positive_B
    return 0.5 * (from_a.mean() + from_b.mean())
