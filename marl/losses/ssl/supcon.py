"""Supervised contrast: every clip that agrees in the shared factors is a positive."""

import torch
from torch import Tensor

from marl.losses.ssl.pairing import LEFT_OUT, Pairing, identity, tiled, unit_clips

__all__ = ["supcon"]


def supcon(a_BD: Tensor, b_BD: Tensor, pairing: Pairing) -> Tensor:
    """Mean over clips and their positives of the cross-entropy of finding a positive among all other clips.

    Khosla et al., "Supervised Contrastive Learning", NeurIPS 2020, equation 2: the mean over positives is outside of
    the logarithm. Positives are all other clips of both views whose pairs agree in the shared factors. They stay in the
    denominator, even if left out as negatives.

    Args:
        a_BD: latents of the first views.
        b_BD: latents of the second views.
        pairing: of the batch.

    Returns:
        A scalar, nats.
    """
    unit_ND = unit_clips(a_BD, b_BD)
    similarity_NN = (unit_ND / pairing.temperature) @ unit_ND.mT
    own_NN = identity(similarity_NN)
    positive_NN = tiled(pairing.same_BB) & ~own_NN
    left_out_NN = tiled(pairing.left_out_BB & ~pairing.same_BB) | own_NN
    log_all_N = torch.logsumexp(torch.where(left_out_NN, LEFT_OUT, similarity_NN), dim=1)
    positive_N = torch.where(positive_NN, similarity_NN, 0.0).sum(dim=1) / positive_NN.sum(dim=1)
    return (log_all_N - positive_N).mean()
