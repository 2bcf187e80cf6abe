"""Decoupled contrastive learning."""

import torch
from torch import Tensor

from marl.losses.ssl.pairing import LEFT_OUT, Pairing, rivals

__all__ = ["dcl"]


def dcl(a_BD: Tensor, b_BD: Tensor, pairing: Pairing) -> Tensor:
    """NT-Xent whose denominator leaves out the positive, so that easy positives do not shrink the gradient.

    Yeh, Hong, Hsu, Liu, Chen and LeCun, "Decoupled Contrastive Learning", ECCV 2022: their
    loss L_DC, without weights. It may be negative. A clip without negatives adds zero, as it does in NT-Xent.

    Args:
        a_BD: latents of the first views.
        b_BD: latents of the second views.
        pairing: of the batch.

    Returns:
        A scalar, nats.
    """
    positive_N, log_negatives_N = rivals(a_BD, b_BD, pairing)
    has_negatives_N = log_negatives_N > 0.5 * LEFT_OUT
    return torch.where(has_negatives_N, log_negatives_N - positive_N, 0.0).mean()
