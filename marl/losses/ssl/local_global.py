"""Deep InfoMax: a clip is told from others by what its latents and each of its parts have in common."""

import torch
from torch import Tensor
from torch.nn.functional import normalize

from marl.losses.ssl.pairing import LEFT_OUT, identity

__all__ = ["local_global"]


def local_global(global_NE: Tensor, local_NLE: Tensor, left_out_NN: Tensor, temperature: Tensor) -> Tensor:
    """Mean over parts of the cross-entropy of finding the clip, among the batch, that a part was taken from.

    Hjelm et al., "Learning Deep Representations by Mutual Information Estimation and Maximization", ICLR 2019, section
    3.2 with the InfoNCE estimator of equation 5; scores are cosine similarities over a temperature. With predictions
    of later parts from earlier ones in the place of latents, it is contrastive predictive coding (van den Oord, Li and
    Vinyals, 2018, equation 4).

    Args:
        global_NE: what the latents of each clip say about a part, [N, E], or [N, L, E] if that depends on the part.
        local_NLE: features of L parts of each clip.
        left_out_NN: different clips that must not count as negatives of each other.
        temperature: a positive scalar.

    Returns:
        A scalar, nats.
    """
    if global_NE.ndim == 2:
        global_NE = global_NE[:, None].expand_as(local_NLE)
    queries_LNE = normalize(global_NE, dim=-1).transpose(0, 1)
    keys_LEN = normalize(local_NLE, dim=-1).permute(1, 2, 0)
    similarity_LNN = queries_LNE @ keys_LEN / temperature
    positive_LN = similarity_LNN.diagonal(dim1=1, dim2=2)
    logits_LNN = torch.where(left_out_NN & ~identity(left_out_NN), LEFT_OUT, similarity_LNN)
    # Over queries: each part looks for its clip.
    return (torch.logsumexp(logits_LNN, dim=1) - positive_LN).mean()
