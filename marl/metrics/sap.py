"""Separated attribute predictability (Kumar et al., ICLR 2018) as disentanglement_lib computes it for classes.

How much better the best single latent tells a factor than the second best. What a latent tells is the accuracy on
held-out clips of a linear support vector machine on that latent alone: scikit-learn's `LinearSVC(C=0.01,
class_weight="balanced")`, that is squared hinge, one class against the rest, weight and intercept both penalised.

No solver passes over clips. With one latent the clips inside the margin are those on one side of a threshold, so sums
over them are looked up among cumulative sums along sorted clips, and as all is quadratic while these clips stay the
same, Newton's method ends at the exact solution, after few steps for all problems at once.

K is models, N clips, C factors, D latents, J classes of one factor, M clips of the class that has most, S step sizes.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad

__all__ = ["sap_accuracies", "sap_gap"]

_C = 0.01
# The first stays, and of equally good ones it wins.
_STEP_SIZES = (0.0, 1.0, 0.5, 0.25, 0.125)
_STEPS = 50
# Most numbers in a table of clips, latents and classes of some models: 128 MB of float64.
_NUMBERS = 1 << 24


class _Sorted(NamedTuple):
    """Clips in order of one latent, and sums over those before each."""

    value_KDJM: Tensor
    """Infinite where a class has fewer clips than another."""
    moment_KDJM3: Tensor
    """Sums of 1, x and x² over the first clips, from none of them to all."""


class _Fit(NamedTuple):
    """Lines w x + b, and what they cost."""

    line_KDJS2: Tensor
    objective_KDJS: Tensor
    target_KDJS2: Tensor
    """The best line while the same clips are inside the margin."""


def sap_gap(accuracy_KDC: Tensor, mask_KD: Tensor, chance_C: Tensor) -> Tensor:
    """Mean over factors of the accuracy of the best latent minus that of the second best, [K].

    Where disentanglement_lib raises we differ: a factor with a single value can be told by no latent, so it is left out
    of the mean, a single latent is compared with chance, and without any latent or factor left the gap is zero.

    Args:
        accuracy_KDC: of each latent by itself, from `sap_accuracies`.
        mask_KD: one for each latent that a model has, zero for padding.
        chance_C: accuracy without any latent, which is one for a factor with a single value.
    """
    varied_C = chance_C < 1
    known_KDC = accuracy_KDC.masked_fill(mask_KD[..., None] == 0, -torch.inf)
    best_KC, second_KC = pad(known_KDC, (0, 0, 0, 2), value=-torch.inf).topk(2, dim=1).values.unbind(dim=1)
    second_KC = torch.where(second_KC.isfinite(), second_KC, chance_C)
    gap_KC = torch.where(varied_C, (best_KC - second_KC).clamp_min(0.0), 0.0)
    return gap_KC.sum(dim=-1) / varied_C.sum().clamp_min(1)


def sap_accuracies(
    fit_KND: Tensor, fit_class_NC: Tensor, held_out_KND: Tensor, held_out_class_NC: Tensor, classes_C: Sequence[int]
) -> Tensor:
    """Share of held-out clips whose class each latent tells by itself, float64 [K, D, C].

    A constant latent is answered with the class that is most frequent among the clips to fit on, or with either of two,
    whose weights are balanced. Where disentanglement_lib raises we differ: a factor with a single value among the clips
    to fit on is answered with that.

    Args:
        fit_KND: latents of the clips to fit on, finite; one that a model has not is constant.
        fit_class_NC: their class by factor, from zero.
        held_out_KND: the same latents of other clips.
        held_out_class_NC: their classes.
        classes_C: how many classes each factor has.
    """
    clips = max(fit_KND.shape[1], held_out_KND.shape[1])
    models = max(1, _NUMBERS // max(1, clips * fit_KND.shape[2] * max(classes_C)))
    chunks = []
    for fit, held_out in zip(fit_KND.split(models), held_out_KND.split(models), strict=True):
        fit_KDN, held_out_KDN = (part.to(torch.float64).mT.contiguous() for part in (fit, held_out))
        everything = _sorted(fit_KDN[:, :, None])
        shares = []
        for class_N, answer_N, classes in zip(
            fit_class_NC.unbind(dim=1), held_out_class_NC.unbind(dim=1), classes_C, strict=True
        ):
            weight_KDJ, intercept_KDJ = _machines(fit_KDN, everything, class_N, classes).unbind(dim=-1)
            output_KDNJ = torch.addcmul(intercept_KDJ[..., None, :], held_out_KDN[..., None], weight_KDJ[..., None, :])
            shares.append((output_KDNJ.argmax(dim=-1) == answer_N).to(torch.float64).mean(dim=-1))
        chunks.append(torch.stack(shares, dim=-1))
    return torch.cat(chunks)


def _machines(fit_KDN: Tensor, everything: _Sorted, class_N: Tensor, classes: int) -> Tensor:
    """Weight and intercept for each class of one factor, [K, D, J, 2]."""
    count_J = class_N.bincount(minlength=classes)
    rank_M = torch.arange(int(count_J.max()), device=class_N.device)
    place_JM = (count_J.cumsum(dim=0) - count_J)[:, None] + rank_M
    clip_JM = class_N.argsort(stable=True)[place_JM.clamp_max(len(class_N) - 1)]
    own = _sorted(fit_KDN[..., clip_JM].masked_fill(rank_M >= count_J[:, None], torch.inf))
    # As in liblinear, where a class is balanced but the rest is not, unless it is a single class.
    present = (count_J > 0).sum()
    weight_J = len(class_N) / (present * count_J.clamp_min(1))
    rest_J = torch.where(present == 2, len(class_N) / (2 * (len(class_N) - count_J).clamp_min(1)), 1.0)
    cost_J2 = _C * torch.stack([weight_J, rest_J], dim=-1).to(torch.float64)

    step_S1 = torch.tensor(_STEP_SIZES, dtype=torch.float64, device=fit_KDN.device)[:, None]
    fit = _evaluate(fit_KDN.new_zeros(*own.value_KDJM.shape[:3], 1, 2), own, everything, cost_J2)
    for _ in range(_STEPS):
        tried = _evaluate(torch.lerp(fit.line_KDJS2, fit.target_KDJS2, step_S1), own, everything, cost_J2)
        best_KDJ1 = tried.objective_KDJS.argmin(dim=-1, keepdim=True)
        best_KDJ11 = best_KDJ1[..., None]
        fit = _Fit(
            tried.line_KDJS2.take_along_dim(best_KDJ11, dim=3),
            tried.objective_KDJS.take_along_dim(best_KDJ1, dim=3),
            tried.target_KDJS2.take_along_dim(best_KDJ11, dim=3),
        )
        if not best_KDJ1.any():
            break
    line_KDJ2 = fit.line_KDJS2.squeeze(-2)
    line_KDJ2[..., 1].masked_fill_(count_J == 0, -torch.inf)  # is never the answer
    return line_KDJ2


def _evaluate(line_KDJS2: Tensor, own: _Sorted, everything: _Sorted, cost_J2: Tensor) -> _Fit:
    """What lines cost: (w² + b²) / 2 + sum of cost · (y - w x - b)² over clips with y (w x + b) < 1."""
    positive = cost_J2[:, :1, None] * _inside(line_KDJS2, own)
    both = _inside(-line_KDJS2.flatten(2, 3)[:, :, None], everything).view_as(positive)
    negative = cost_J2[:, 1:, None] * (both - _inside(-line_KDJS2, own))
    # Weighted sums over the clips inside the margin of 1, x, x², y and y x.
    n, x, xx = (positive + negative).unbind(dim=-1)
    y, yx, _ = (positive - negative).unbind(dim=-1)
    w, b = line_KDJS2.unbind(dim=-1)
    squares = n - 2 * (b * y + w * yx) + b * b * n + 2 * w * b * x + w * w * xx
    # The normal equations of a ridge regression; what cancels is small beside the rest.
    determinant = 1 + 2 * (n + xx) + 4 * (n * xx - x * x)
    target = torch.stack([2 * yx * (1 + 2 * n) - 4 * x * y, 2 * y * (1 + 2 * xx) - 4 * x * yx], dim=-1)
    return _Fit(line_KDJS2, (w * w + b * b) / 2 + squares, target / determinant[..., None])


def _sorted(value_KDJM: Tensor) -> _Sorted:
    value = value_KDJM.sort(dim=-1).values
    there = value.isfinite()
    finite = value.where(there, 0.0)
    moment = torch.stack([there.to(value.dtype), finite, finite.square()], dim=-1).cumsum(dim=-2)
    return _Sorted(value, pad(moment, (0, 0, 1, 0)))


def _inside(line_KDJS2: Tensor, clips: _Sorted) -> Tensor:
    """Sums of 1, x and x² over clips with w x + b < 1, [K, D, J, S, 3]."""
    w, b = line_KDJS2.unbind(dim=-1)
    position = torch.searchsorted(clips.value_KDJM, (1 - b) / w)
    below = clips.moment_KDJM3.gather(-2, position[..., None].expand(*position.shape, 3))
    return torch.where(w.signbit()[..., None], clips.moment_KDJM3[..., -1:, :] - below, below)
