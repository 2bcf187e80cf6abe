"""How far a decoded spectrogram is from the original."""

from torch import Tensor

__all__ = ["squared_error"]


def squared_error(decoded_VPQ: Tensor, target_VPQ: Tensor) -> Tensor:
    """Squared error summed over a spectrogram, averaged over clips: a scalar.

    Written so that the gradient, 2 (decoded - target), takes one product over the largest tensor of a step; that of a
    plain square takes two and a sum.
    """
    difference = decoded_VPQ - target_VPQ
    total = (difference * difference.detach()).sum()
    return (2 * total - total.detach()) / len(decoded_VPQ)
