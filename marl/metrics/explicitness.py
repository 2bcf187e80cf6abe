"""Explicitness (Ridgeway and Mozer, NeurIPS 2018) as disentanglement_lib computes it.

How well a multinomial logistic regression on all latents tells a factor: the area under the receiver operating
characteristic of each class against the rest, 0.5 by chance and 1 if perfect (not rescaled), mean over classes.

K is models, N clips, C factors, D latents, J classes of one factor.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from marl.metrics.logistic import multinomial_logistic

__all__ = ["explicitness"]


def explicitness(
    fit_KND: Tensor, fit_class_NC: Tensor, held_out_KND: Tensor, held_out_class_NC: Tensor, classes_C: Sequence[int]
) -> tuple[Tensor, Tensor]:
    """Of each factor, float64 [K, C], and its mean over the factors that vary, [K].

    Where disentanglement_lib raises we differ: a constant latent is not used, a class that no held-out clip has is left
    out of its factor's mean, one that no clip to fit on has cannot be told (0.5), and a factor with a single value is
    0.5 and left out of the mean over factors, which is 0.5 without any factor left.

    Args:
        fit_KND: latents of the clips to fit on, finite; one that a model has not is constant.
        fit_class_NC: their class by factor, from zero.
        held_out_KND: the same latents of other clips.
        held_out_class_NC: their classes.
        classes_C: how many classes each factor has.
    """
    fit, held_out = fit_KND.to(torch.float64), held_out_KND.to(torch.float64)
    mean = fit.mean(dim=1, keepdim=True)
    deviation = (fit - mean).square().mean(dim=1, keepdim=True).sqrt()
    # Relative to the mean, because rounding of a constant is no deviation.
    scale = torch.where(deviation > 1e-6 * mean.abs(), deviation, torch.inf)
    fit, held_out = (fit - mean) / scale, (held_out - mean) / scale
    columns, varied = [], []
    for class_N, answer_N, classes in zip(
        fit_class_NC.unbind(dim=1), held_out_class_NC.unbind(dim=1), classes_C, strict=True
    ):
        weight_KJD, intercept_KJ1 = multinomial_logistic(fit, class_N, classes)
        # In less precision than computed, so that rounding breaks no tie of equal clips.
        share_KJN = (weight_KJD @ held_out.mT + intercept_KJ1).softmax(dim=1).to(torch.float32)
        belongs_JN = one_hot(answer_N, classes).mT
        there_J = belongs_JN.any(dim=-1)
        columns.append(_area(share_KJN, belongs_JN).sum(dim=-1) / there_J.sum())
        varied.append(there_J.sum() > 1)
    # Above chance, so that nothing to take the mean of is chance.
    area_KC, varied_C = torch.stack(columns, dim=-1), torch.stack(varied)
    above_KC = torch.where(varied_C, area_KC - 0.5, 0.0)
    return above_KC + 0.5, above_KC.sum(dim=-1) / varied_C.sum().clamp_min(1) + 0.5


def _area(score_KJN: Tensor, belongs_JN: Tensor) -> Tensor:
    """Share of pairs of a clip of the class and one of another that scores put in order; a tie is half, [K, J].

    Zero for a class that no clip has, or all.
    """
    sorted_KJN = score_KJN.sort(dim=-1).values
    below_KJN = torch.searchsorted(sorted_KJN, score_KJN) + torch.searchsorted(sorted_KJN, score_KJN, right=True)
    members_J = belongs_JN.sum(dim=-1)
    pairs_J = members_J * (belongs_JN.shape[-1] - members_J)
    # Pairs of two clips of the class are half in order.
    in_order_KJ = ((below_KJN * belongs_JN).sum(dim=-1) - members_J.square()).to(torch.float64) / 2
    return in_order_KJ / pairs_J.clamp_min(1)
