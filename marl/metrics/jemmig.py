"""JEMMIG, the joint entropy minus mutual information gap (Do and Tran, ICLR 2020).

The normalised form of the library of Zaidi et al. ("Measuring disentanglement: a review of metrics", 2020;
ubisoft-laforge-DisentanglementMetrics), one minus the ratio, so that higher is better.

K is models, C factors, D latents.
"""

import math

import torch
from torch import Tensor
from torch.nn.functional import pad

from marl.metrics.mutual_information import BINS

__all__ = ["jemmig"]

_ROUNDING = 1e-12


def jemmig(
    information_KDC: Tensor, joint_entropy_KDC: Tensor, mask_KD: Tensor, entropy_C: Tensor, bins: int = BINS
) -> Tensor:
    """Mean over factors of how well one latent, and no second, tells of each, and of nothing else. [K].

    One minus (joint entropy - largest information + second largest) / (factor's entropy + log(bins)), where the joint
    entropy is that of the factor and its most informative latent, and the divisor the largest that it could be. From 0,
    a latent that is uniform and tells nothing, to 1, a latent of its own for each factor, that tells all of it and
    nothing else. Constant latents do not score zero, because they tell nothing of anything else either: they score
    log(bins) over the divisor.

    Where the library raises or depends on the order of latents we differ: a single latent has no rival; among latents
    that tell equally much the one with the smallest joint entropy is taken; a factor with a single value, of which all
    latents tell equally little, is left out of the mean; without any factor left, or any latent, the score is zero.

    Args:
        information_KDC: mutual information of latents and factors, nats; zero for latents that a model has not.
        joint_entropy_KDC: joint entropy of each latent and factor, nats.
        mask_KD: one for each latent that a model has, zero for padding.
        entropy_C: entropy of each factor, nats.
        bins: how many each latent had.
    """
    varied_C = entropy_C > 0
    largest_C = entropy_C + math.log(bins)
    # Two latents that tell nothing change no gap, and there are always two to compare.
    best_KC, second_KC = pad(information_KDC, (0, 0, 0, 2)).topk(2, dim=1).values.unbind(dim=1)
    is_best_KDC = (information_KDC >= best_KC[:, None] - _ROUNDING) & (mask_KD > 0)[..., None]
    compact_KC = pad(torch.where(is_best_KDC, 1 - joint_entropy_KDC / largest_C, 0.0), (0, 0, 0, 1)).amax(dim=1)
    score_KC = compact_KC + (best_KC - second_KC) / largest_C
    return torch.where(varied_C, score_KC, 0.0).sum(dim=-1) / varied_C.sum().clamp_min(1)
