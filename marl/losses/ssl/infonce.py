"""InfoNCE between two views, in both directions."""

import torch
from torch import Tensor
from torch.nn.functional import normalize

from marl.losses.ssl.strategy import EXCLUDED, Pairing, pairwise

__all__ = ["INFONCE", "infonce"]


def infonce(first_BD: Tensor, second_BD: Tensor, pairing: Pairing) -> Tensor:
    """Return the cross-entropy of identifying the other view of a clip in the batch, averaged over both directions.

    van den Oord, Li and Vinyals, "Representation Learning with Contrastive Predictive Coding", 2018, equation 4, with
    cosine similarity over temperature, made symmetric as in CLIP (Radford et al., 2021, figure 3). In nats.
    """
    similarity_BB = (normalize(first_BD, dim=-1) / pairing.temperature) @ normalize(second_BD, dim=-1).mT
    logits_BB = torch.where(pairing.excluded_negatives_BB, EXCLUDED, similarity_BB)
    positive_B = similarity_BB.diagonal()
    from_first = torch.logsumexp(logits_BB, dim=1) - positive_B
    from_second = torch.logsumexp(logits_BB, dim=0) - positive_B
    return 0.5 * (from_first.mean() + from_second.mean())


INFONCE = pairwise("infonce", infonce)
