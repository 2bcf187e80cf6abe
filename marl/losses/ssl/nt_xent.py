"""NT-Xent, the loss of SimCLR."""

from torch import Tensor
from torch.nn.functional import logsigmoid

from marl.losses.ssl.strategy import Pairing, pairwise, positive_and_negatives

__all__ = ["NT_XENT", "nt_xent"]


def nt_xent(first_BD: Tensor, second_BD: Tensor, pairing: Pairing) -> Tensor:
    """Return the cross-entropy of identifying the other view of a clip among all other clips, averaged over clips.

    Chen, Kornblith, Norouzi and Hinton, "A Simple Framework for Contrastive Learning of Visual Representations", ICML
    2020, equation 1. In nats. A clip without negatives contributes zero. The softmax probability of the other view is a
    logistic function of its logit minus the logsumexp of the logits of the negatives.
    """
    positive_N, log_negatives_N = positive_and_negatives(first_BD, second_BD, pairing)
    return -logsigmoid(positive_N - log_negatives_N).mean()


NT_XENT = pairwise("nt_xent", nt_xent)
