"""InfoNCE between two views, in both directions."""

import torch
from torch import Tensor
from torch.nn.functional import normalize

from marl.losses.ssl.pairing import LEFT_OUT, Pairing

__all__ = ["infonce"]


def infonce(a_BD: Tensor, b_BD: Tensor, pairing: Pairing) -> Tensor:
    """Mean over both directions of the cross-entropy of finding a clip's other view among the batch's other views.

    van den Oord, Li and Vinyals, "Representation Learning with Contrastive Predictive Coding", 2018, equation 4, with
    cosine similarity over temperature, made symmetric as in CLIP (Radford et al., 2021, figure 3).

    Args:
        a_BD: latents of the first views.
        b_BD: latents of the second views.
        pairing: of the batch.

    Returns:
        A scalar, nats.
    """
    similarity_BB = (normalize(a_BD, dim=-1) / pairing.temperature) @ normalize(b_BD, dim=-1).mT
    logits_BB = torch.where(pairing.left_out_BB, LEFT_OUT, similarity_BB)
    positive_B = similarity_BB.diagonal()
    from_a = torch.logsumexp(logits_BB, dim=1) - positive_B
    from_b = torch.logsumexp(logits_BB, dim=0) - positive_B
    return 0.5 * (from_a.mean() + from_b.mean())
