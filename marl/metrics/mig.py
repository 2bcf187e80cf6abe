"""Mutual information gap (Chen et al., NeurIPS 2018) as disentanglement_lib computes it.

K is models, C factors, D latents.
"""

import torch
from torch import Tensor
from torch.nn.functional import pad

__all__ = ["mutual_information_gap"]


def mutual_information_gap(information_KDC: Tensor, entropy_C: Tensor) -> Tensor:
    """Mean over factors of the gap between the two most informative latents, over the factor's entropy. [K].

    From 0 to 1, which is a latent of its own for each factor, that tells all of it. A single latent has no rival, and
    without any latent the gap is zero. Where disentanglement_lib gives NaN we differ: a factor with a single value can
    be told by no latent, so it is left out of the mean, and without any factor left the gap is zero.

    Args:
        information_KDC: mutual information of latents and factors; rows of zeros for latents that a model has not.
        entropy_C: entropy of each factor, in the same unit.
    """
    varied_C = entropy_C > 0
    # Two latents that tell nothing change no gap, and there are always two to compare.
    top_K2C = pad(information_KDC, (0, 0, 0, 2)).topk(2, dim=1).values
    gap_KC = torch.where(varied_C, (top_K2C[:, 0] - top_K2C[:, 1]) / entropy_C, 0.0)
    return gap_KC.sum(dim=-1) / varied_C.sum().clamp_min(1)
