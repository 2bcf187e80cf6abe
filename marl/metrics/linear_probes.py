"""Linear probes: accuracy of a linear classifier on each of many representations, in closed form.

Ridge regression from standardised latents, with an intercept, to one-hot classes; the prediction is the class with the
largest output. Its cost is negligible beside that of the networks in `marl.metrics.probes`, so that it is their proxy
in intermediate reports. It misses factors that are not a linear function of the latents.

Y is the classes of all factors, concatenated.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import one_hot

__all__ = ["RIDGE", "linear_probe_accuracy"]

RIDGE = 1e-3
"""Penalty on squared weights, relative to squared errors averaged over clips."""


def linear_probe_accuracy(
    fit_RND: Tensor,
    fit_class_NC: Tensor,
    held_out_RND: Tensor,
    held_out_class_NC: Tensor,
    classes_C: Sequence[int],
    posterior_deviation_RD: Tensor | None = None,
) -> Tensor:
    """Return the fraction of held-out clips whose class each probe predicts, [R, C].

    A representation without information predicts the most frequent class of the clips to fit on. Arguments are as in
    `marl.metrics.probes.probe_accuracy`, with finite representations.
    """
    fit, held_out = fit_RND.to(torch.float64), held_out_RND.to(torch.float64)
    mean = fit.mean(dim=1, keepdim=True)
    deviation = fit.std(dim=1, keepdim=True)
    # Relative to large means, because the rounding of a constant is no deviation.
    scale = torch.where(deviation > 1e-6 * mean.abs().clamp_min(1.0), deviation, torch.inf)
    if posterior_deviation_RD is not None:
        scale = scale.maximum(posterior_deviation_RD[:, None].to(torch.float64))
    standard_RND = (fit - mean) / scale
    target_NY = torch.cat(
        [one_hot(column, classes) for column, classes in zip(fit_class_NC.unbind(dim=1), classes_C, strict=True)], dim=1
    ).to(torch.float64)
    frequency_Y = target_NY.mean(dim=0)
    # The normal equations of all factors at once. Latents have mean zero, so the intercept is the frequency of each
    # class. A constant latent has zeros there: the ridge makes its weight zero and the matrix regular.
    clips = standard_RND.shape[1]
    correlation_RDD = standard_RND.mT @ standard_RND / clips
    correlation_RDD.diagonal(dim1=1, dim2=2).add_(RIDGE)
    moment_RDY = standard_RND.mT @ (target_NY - frequency_Y) / clips
    weight_RDY = torch.cholesky_solve(moment_RDY, torch.linalg.cholesky_ex(correlation_RDD).L)
    output_RNY = ((held_out - mean) / scale) @ weight_RDY + frequency_Y
    predicted_RNC = torch.stack([output.argmax(dim=-1) for output in output_RNY.split(list(classes_C), dim=-1)], dim=-1)
    return (predicted_RNC == held_out_class_NC).to(torch.float32).mean(dim=1)
