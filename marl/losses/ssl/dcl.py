"""Decoupled contrastive learning."""

import torch
from torch import Tensor

from marl.losses.ssl.strategy import EXCLUDED, Pairing, pairwise, positive_and_negatives

__all__ = ["DCL", "dcl"]


def dcl(first_BD: Tensor, second_BD: Tensor, pairing: Pairing) -> Tensor:
    """Return NT-Xent without the positive in the denominator, averaged over clips.

    Yeh, Hong, Hsu, Liu, Chen and LeCun, "Decoupled Contrastive Learning", ECCV 2022, loss L_DC without weights. Easy
    positives do not shrink the gradient. In nats; may be negative. A clip without negatives contributes zero.
    """
    positive_N, log_negatives_N = positive_and_negatives(first_BD, second_BD, pairing)
    has_negatives_N = log_negatives_N > 0.5 * EXCLUDED
    return torch.where(has_negatives_N, log_negatives_N - positive_N, 0.0).mean()


DCL = pairwise("dcl", dcl)
