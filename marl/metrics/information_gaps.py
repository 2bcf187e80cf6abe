"""Gaps of mutual information: MIG, JEMMIG and DCIMIG.

JEMMIG and DCIMIG follow the library of Zaidi et al. ("Measuring disentanglement: a review of metrics", 2020;
ubisoft-laforge-DisentanglementMetrics). In all tables the rows of padded latents are zero.
"""

import math

import torch
from torch import Tensor
from torch.nn.functional import pad

from marl.metrics.mutual_information import BINS

__all__ = ["dcimig", "jemmig", "mutual_information_gap"]

_ROUNDING = 1e-12


def mutual_information_gap(information_KDC: Tensor, entropy_C: Tensor) -> Tensor:
    """Return the mean over factors of the gap between the two most informative latents, over the factor's entropy, [K].

    Chen et al., NeurIPS 2018, as in disentanglement_lib. One means that each factor has a separate latent that
    determines it. With a single latent the second is zero; without latents the gap is zero. A departure where
    disentanglement_lib returns NaN: factors with a single value are ignored, and without other factors the gap is zero.
    """
    varied_C = entropy_C > 0
    # Two latents without information are added, so that there are always two to compare.
    top_K2C = pad(information_KDC, (0, 0, 0, 2)).topk(2, dim=1).values
    gap_KC = torch.where(varied_C, (top_K2C[:, 0] - top_K2C[:, 1]) / entropy_C, 0.0)
    return gap_KC.sum(dim=-1) / varied_C.sum().clamp_min(1)


def jemmig(
    information_KDC: Tensor, joint_entropy_KDC: Tensor, mask_KD: Tensor, entropy_C: Tensor, bins: int = BINS
) -> Tensor:
    """Return the joint entropy minus mutual information gap (Do and Tran, ICLR 2020), normalised, [K].

    The mean over factors of 1 - (joint entropy - largest information + second largest) / (factor's entropy +
    log(bins)), where the joint entropy is that of the factor and its most informative latent, and the divisor its upper
    bound. Zero means a uniform latent without information; one means that each factor has a separate latent that
    determines it and is determined by it. Constant latents score log(bins) over the divisor, not zero.

    Departures from the library, which raises or depends on the order of latents: with a single latent the second
    largest information is zero; of equally informative latents the one with the smallest joint entropy counts; factors
    with a single value are ignored; without other factors, or without latents, the score is zero.
    """
    varied_C = entropy_C > 0
    largest_C = entropy_C + math.log(bins)
    best_KC, second_KC = pad(information_KDC, (0, 0, 0, 2)).topk(2, dim=1).values.unbind(dim=1)
    is_best_KDC = (information_KDC >= best_KC[:, None] - _ROUNDING) & (mask_KD > 0)[..., None]
    compact_KC = pad(torch.where(is_best_KDC, 1 - joint_entropy_KDC / largest_C, 0.0), (0, 0, 0, 1)).amax(dim=1)
    score_KC = compact_KC + (best_KC - second_KC) / largest_C
    return torch.where(varied_C, score_KC, 0.0).sum(dim=-1) / varied_C.sum().clamp_min(1)


def dcimig(information_KDC: Tensor, entropy_C: Tensor) -> Tensor:
    """Return DCIMIG (Sepliarskaia et al., "Evaluating disentangled representations", 2019), [K].

    The gap of a latent is between the two factors that it has most information about, and counts for the first of them.
    The largest gap for each factor is added up, and the sum divided by the entropy of all factors. One means that each
    factor has a latent that determines it and has no information about others; other latents do not count.

    Departures from the library, which raises or returns NaN: a factor with a single value contributes nothing; with a
    single factor the second largest information is zero; without latents or varied factors the score is zero.
    """
    best_KD, second_KD = pad(information_KDC, (0, 2)).topk(2, dim=-1).values.unbind(dim=-1)
    # With two best factors the gap is zero, so it does not matter which of them is credited.
    is_best_KDC = information_KDC == best_KD[..., None]
    credit_KDC = is_best_KDC * (best_KD - second_KD)[..., None]
    total = entropy_C.sum()
    score_K = pad(credit_KDC, (0, 0, 0, 1)).amax(dim=1).sum(dim=-1) / total
    return score_K.where(total > 0, 0.0)
