"""What a linear classifier can read from a representation, for many representations at once, without training.

Ridge regression from standardised latents, with an intercept, to one-hot classes; the class of the largest output is
the answer. Its solution is closed, so it costs next to nothing beside the small networks of `marl.metrics.probes`, for
which it stands in while trials are young. A latent that tells a factor other than by a straight line is not seen.

R is representations, C factors, N clips, D latents, K classes of all factors side by side.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import one_hot

__all__ = ["RIDGE", "linear_probe_accuracy"]

RIDGE = 1e-3
"""Penalty on the squared weights, against squared errors averaged over clips."""


def linear_probe_accuracy(
    fit_RND: Tensor, fit_class_NC: Tensor, held_out_RND: Tensor, held_out_class_NC: Tensor, classes_C: Sequence[int]
) -> Tensor:
    """Share of held-out clips whose class each probe tells, [R, C].

    What tells nothing is answered with the class that is most frequent among the clips to fit on.

    Args:
        fit_RND: representations of the clips to fit on, finite; a latent that one has not is constant.
        fit_class_NC: their class by factor, from zero.
        held_out_RND: the same representations of other clips.
        held_out_class_NC: their classes.
        classes_C: how many classes each factor has.
    """
    fit, held_out = fit_RND.to(torch.float64), held_out_RND.to(torch.float64)
    mean = fit.mean(dim=1, keepdim=True)
    deviation = fit.std(dim=1, keepdim=True)
    # Relative to large means, because a constant's own rounding is no deviation.
    scale = torch.where(deviation > 1e-6 * mean.abs().clamp_min(1.0), deviation, torch.inf)
    standard_RND = (fit - mean) / scale
    target_NK = torch.cat(
        [one_hot(column, classes) for column, classes in zip(fit_class_NC.unbind(dim=1), classes_C, strict=True)], dim=1
    ).to(torch.float64)
    share_K = target_NK.mean(dim=0)
    # The normal equations of all factors at once. Latents have mean zero, so the intercept is each class's share, and
    # one that is constant has zeros there: the ridge makes its weight zero and the matrix never singular.
    clips = standard_RND.shape[1]
    correlation_RDD = standard_RND.mT @ standard_RND / clips
    correlation_RDD.diagonal(dim1=1, dim2=2).add_(RIDGE)
    moment_RDK = standard_RND.mT @ (target_NK - share_K) / clips
    weight_RDK = torch.cholesky_solve(moment_RDK, torch.linalg.cholesky_ex(correlation_RDD).L)
    output_RNK = ((held_out - mean) / scale) @ weight_RDK + share_K
    told_RNC = torch.stack([output.argmax(dim=-1) for output in output_RNK.split(list(classes_C), dim=-1)], dim=-1)
    return (told_RNC == held_out_class_NC).to(torch.float32).mean(dim=1)
