"""Mutual information gap (Chen et al., NeurIPS 2018) as disentanglement_lib computes it."""

from torch import Tensor

__all__ = ["mutual_information_gap"]


def mutual_information_gap(information_KDC: Tensor, entropy_C: Tensor) -> Tensor:
    """Mean over factors of the gap between the two most informative latents, over the factor's entropy. [K].

    Where disentanglement_lib gives NaN we differ: a factor with a single value can be told by no latent, so it is left
    out of the mean, and without any factor left the gap is zero.

    Args:
        information_KDC: mutual information of latents and factors; rows of zeros for latents that a model has not.
        entropy_C: entropy of each factor, in the same unit.
    """
    varied = entropy_C > 0
    if not varied.any():
        return information_KDC.new_zeros(len(information_KDC))
    information = information_KDC[:, :, varied]
    if information.shape[1] == 1:  # a single latent has no rival
        gap = information[:, 0]
    else:
        top = information.topk(2, dim=1).values
        gap = top[:, 0] - top[:, 1]
    return (gap / entropy_C[varied]).mean(dim=-1)
