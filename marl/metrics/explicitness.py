"""Explicitness (Ridgeway and Mozer, NeurIPS 2018) as in disentanglement_lib.

The score of a factor is the area under the receiver operating characteristic of each class against the rest, averaged
over classes, of a multinomial logistic regression on all latents: 0.5 is chance, one is perfect (not rescaled). Unlike
disentanglement_lib, the regression is solved to convergence.
"""

from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits
from torch import Tensor

__all__ = ["explicitness"]

_CHANCE = 0.5
_TOLERANCE = 1e-6


def explicitness(
    fit_KND: Tensor,
    fit_class_NC: Tensor,
    held_out_KND: Tensor,
    held_out_class_NC: Tensor,
    posterior_deviation_KD: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Return the explicitness of each factor, float64 [K, C], and its mean over the factors that vary, [K].

    Departures where disentanglement_lib raises: constant latents are ignored; a class without held-out clips is
    ignored; a class without clips to fit on scores chance; factors with a single value score chance and are ignored in
    the mean, which is chance without other factors. `posterior_deviation_KD` is as in
    `marl.metrics.readers.Reader`; without it latents are standardised, as in disentanglement_lib.
    """
    from sklearn.linear_model import LogisticRegression  # Takes a second to import, see `marl.metrics.sap`.

    fit, held_out = fit_KND.to(torch.float64), held_out_KND.to(torch.float64)
    mean = fit.mean(dim=1, keepdim=True)
    deviation = (fit - mean).square().mean(dim=1, keepdim=True).sqrt()
    # Relative to the mean, because the rounding of a constant is no deviation.
    scale = torch.where(deviation > 1e-6 * mean.abs(), deviation, torch.inf)
    if posterior_deviation_KD is not None:
        scale = scale.maximum(posterior_deviation_KD[:, None].to(torch.float64))
    fit, held_out = (((part - mean) / scale).cpu() for part in (fit, held_out))
    fit_class_CN, held_out_class_CN = (part.mT.cpu().numpy() for part in (fit_class_NC, held_out_class_NC))

    def areas(model: int) -> list[float]:
        classes = zip(fit_class_CN, held_out_class_CN, strict=True)
        fit_ND, held_out_ND = fit[model].numpy(), held_out[model].numpy()
        new_regression = partial(LogisticRegression, tol=_TOLERANCE, max_iter=1000)
        return [_area(new_regression(), fit_ND, fit_N, held_out_ND, held_out_N) for fit_N, held_out_N in classes]

    # With more BLAS threads than processors, threads wait for one another. The limit holds for libraries loaded before.
    with threadpool_limits(1, "blas"), ThreadPoolExecutor(torch.get_num_threads()) as threads:
        area_KC = torch.tensor(list(threads.map(areas, range(len(fit)))), dtype=torch.float64, device=fit_KND.device)
    varied_C = (held_out_class_NC != held_out_class_NC[:1]).any(dim=0)
    above_K = torch.where(varied_C, area_KC - _CHANCE, 0.0).sum(dim=-1)
    return area_KC, above_K / varied_C.sum().clamp_min(1) + _CHANCE


def _area(
    regression: Any,
    fit_ND: NDArray[np.float64],
    fit_class_N: NDArray[np.integer],
    held_out_ND: NDArray[np.float64],
    held_out_class_N: NDArray[np.integer],
) -> float:
    """Fit a regression; return the area under the curve on held-out clips, the mean over classes against the rest."""
    from scipy.stats import rankdata

    class_Y, count_Y = np.unique(held_out_class_N, return_counts=True)
    fitted_Y, clips = np.unique(fit_class_N), len(held_out_class_N)
    if len(class_Y) < 2:
        return _CHANCE
    # In float32, so that rounding does not order equal clips.
    score_NY = np.zeros((clips, len(class_Y)), dtype=np.float32)
    if fit_ND.shape[1] and len(fitted_Y) > 1:
        regression.fit(fit_ND, fit_class_N)
        is_fitted_Y = np.isin(class_Y, fitted_Y)
        columns = np.searchsorted(fitted_Y, class_Y[is_fitted_Y])
        score_NY[:, is_fitted_Y] = regression.predict_proba(held_out_ND)[:, columns]
    # The area is the Mann-Whitney statistic: the fraction of pairs of a member and another clip that are in order.
    rank_NY, is_member_NY = rankdata(score_NY, axis=0), held_out_class_N[:, None] == class_Y
    in_order_Y = (rank_NY * is_member_NY).sum(axis=0) - count_Y * (count_Y + 1) / 2
    return float(np.mean(in_order_Y / (count_Y * (clips - count_Y))))
