"""NT-Xent, the loss of SimCLR."""

from torch import Tensor
from torch.nn.functional import logsigmoid

from marl.losses.ssl.pairing import Pairing, rivals

__all__ = ["nt_xent"]


def nt_xent(a_BD: Tensor, b_BD: Tensor, pairing: Pairing) -> Tensor:
    """Mean over all clips of the cross-entropy of finding a clip's other view among all other clips, of both views.

    Chen, Kornblith, Norouzi and Hinton, "A Simple Framework for Contrastive Learning of Visual Representations", ICML
    2020, equation 1. The chance that a softmax gives the other view is a logistic function of how far its similarity
    is above the logsumexp of the negatives. A clip without negatives adds zero.

    Args:
        a_BD: latents of the first views.
        b_BD: latents of the second views.
        pairing: of the batch.

    Returns:
        A scalar, nats.
    """
    positive_N, log_negatives_N = rivals(a_BD, b_BD, pairing)
    return -logsigmoid(positive_N - log_negatives_N).mean()
