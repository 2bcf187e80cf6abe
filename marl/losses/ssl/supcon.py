"""Supervised contrastive learning: every clip that agrees in the shared factors is a positive."""

import torch
from torch import Tensor

from marl.losses.ssl.strategy import EXCLUDED, Pairing, identity, pairwise, tile_views, unit_clips

__all__ = ["SUPCON", "supcon"]


def supcon(first_BD: Tensor, second_BD: Tensor, pairing: Pairing) -> Tensor:
    """Return the cross-entropy of identifying a positive among all other clips, averaged over clips and positives.

    Khosla et al., "Supervised Contrastive Learning", NeurIPS 2020, equation 2: the mean over positives is outside the
    logarithm. Positives are all other clips of both views whose pairs agree in the shared factors. They stay in the
    denominator, even if they are excluded as negatives. In nats.
    """
    unit_ND = unit_clips(first_BD, second_BD)
    similarity_NN = (unit_ND / pairing.temperature) @ unit_ND.mT
    own_NN = identity(similarity_NN)
    positive_NN = tile_views(pairing.same_BB) & ~own_NN
    excluded_NN = tile_views(pairing.excluded_negatives_BB & ~pairing.same_BB) | own_NN
    log_all_N = torch.logsumexp(torch.where(excluded_NN, EXCLUDED, similarity_NN), dim=1)
    positive_N = torch.where(positive_NN, similarity_NN, 0.0).sum(dim=1) / positive_NN.sum(dim=1)
    return (log_all_N - positive_N).mean()


SUPCON = pairwise("supcon", supcon)
