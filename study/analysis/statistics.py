"""How sure a study's numbers are: intervals over seeds, the part of held-out clips, and who is truly on the front.

Intervals over seeds are Student's t. An interval says where the mean over endlessly many seeds lies, on the held-out
clips that there are: all models are scored on the same ones, so what other clips would change is not in the spread over
seeds, and more seeds do not lessen it. The standard errors over clips are for one model, or for clips' values that were
averaged over models.

Coverage, by simulation, of an interval of 90 % at 3 seeds: 90 % for normal values, 87 % for accuracies of 0.95 ± 0.03
(beta), 84 % for 0.95 ± 0.045 and 82 % for 0.98 ± 0.02. It falls with the skew, which three values cannot tell, and is
low where the interval passes the metric's bound. A logit does not mend this: it covers the mean of logits, and the
mean of accuracies less and less as seeds are added (at 10 seeds 82 % instead of 88 % for 0.95 ± 0.03).

T is trials, R replicates of all trials, M objectives, S draws, N clips.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import stdtrit

from study.analysis.pareto import costs_of, dominated

__all__ = [
    "accuracy_standard_error",
    "front_probabilities",
    "half_width",
    "mean_standard_error",
    "rmse_standard_error",
]

_DRAWS = 2000
# So many trials, or draws, are computed together.
_AT_ONCE = 200
# As how many degrees of freedom the spread of the other trials counts. In simulated studies of two to five seeds, with
# trials' spreads alike or different by factors of 1.5 or 2.2, four had as good a Brier and log score as the number
# estimated from the spreads (Smyth 2004, limma); a better Brier score than the own spread alone at two seeds (where 0.5
# then meant 0.8) and, unless spreads are very unlike, at three; and a better log score than one spread for all.
_PRIOR = 4


def half_width(sd: Any, n: Any, level: float = 0.9) -> Any:
    """Half the width of the t interval around a mean over seeds; of any shape, a series gives a series.

    Args:
        sd: standard deviation over seeds.
        n: how many seeds.
        level: how often the interval is to contain the mean over endlessly many seeds.

    Returns:
        In the unit of `sd`; not a number where one seed says nothing of its spread, as `sd` itself.
    """
    return stdtrit(np.asarray(n) - 1.0, (1 + level) / 2) * sd / np.sqrt(n)


def accuracy_standard_error(accuracy: Any, clips: int) -> Any:
    """Over clips, of a share of right answers, of any shape; its square has no bias. One clip has none."""
    return np.sqrt(accuracy * (1 - accuracy) / ((clips - 1) or np.nan))


def mean_standard_error(value_N: np.ndarray) -> np.ndarray:
    """Over clips, of a mean of clips' values, [..., N] to [...]; its square has no bias. One clip has none."""
    clips = value_N.shape[-1]
    if clips < 2:
        return np.full(value_N.shape[:-1], np.nan)
    error: np.ndarray = value_N.std(axis=-1, ddof=1) / np.sqrt(clips)
    return error


def rmse_standard_error(squared_error_N: np.ndarray) -> np.ndarray:
    """Over clips, of the root of the mean of clips' squared errors, [..., N] to [...]: of the mean, times the slope."""
    rmse = np.sqrt(squared_error_N.mean(axis=-1))
    # Where no clip has an error, none is what it varies by.
    error: np.ndarray = mean_standard_error(squared_error_N) / (2 * np.where(rmse > 0, rmse, 1.0))
    return error


def front_probabilities(mature: pd.DataFrame, objectives: Mapping[str, str]) -> pd.Series:
    """How probable it is that a trial's means over endlessly many seeds are on the front of all trials' means.

    The posterior of a trial's means, under a flat prior, is a multivariate t around the means over its seeds. Its
    covariance, that of the objectives over seeds, is the trial's own and that of all other trials together, the latter
    counted as 4 degrees of freedom, so that trials of two or three seeds, or of one, have a usable one. Probabilities
    are shares of 2,000 draws, which are the same in every call: they are known to ±0.02.

    In simulated studies they are calibrated where trials near the front differ by more than the standard errors of
    their means. On a front that is more crowded than that, those below a half are too low: 0.1 can be 0.2, and 0.3
    can be 0.5. Trials count as independent: what a seed does to all of them alike would cancel in their differences,
    and is not taken out.

    Args:
        mature: a row for each replicate that counts, with `trial`, `seed` and the objectives. Rows in which an
            objective is not finite do not count.
        objectives: with the direction of each, `min` or `max`.

    Returns:
        By trial; not a number where no trial has two seeds, so that nothing is known of their spread.
    """
    is_known_R = np.isfinite(costs_of(mature, objectives)).all(axis=1)
    rows = mature[is_known_R].sort_values(["trial", "seed"])
    trial_R, trials = pd.factorize(rows["trial"])
    mean_TM, squares_TMM, seeds_T = _moments(costs_of(rows, objectives), trial_R)
    if seeds_T.sum() == len(seeds_T):  # or there is no trial at all
        probability_T = np.full(len(seeds_T), np.nan)
    else:
        probability_T = _shares_on_front(_draws(mean_TM, squares_TMM, seeds_T))
    return pd.Series(probability_T, index=pd.Index(trials, name="trial"), name="front_probability")


def _moments(cost_RM: np.ndarray, trial_R: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of each trial the mean, the squares and products of what its replicates deviate, and how many they are."""
    _, first_T, seeds_T = np.unique(trial_R, return_index=True, return_counts=True)
    # Measured from the first replicate, what all replicates have in common has exactly no spread.
    offset_RM = cost_RM - cost_RM[first_T][trial_R]
    mean_TM = np.zeros((len(seeds_T), cost_RM.shape[1]))
    np.add.at(mean_TM, trial_R, offset_RM)
    mean_TM /= seeds_T[:, None]
    residual_RM = offset_RM - mean_TM[trial_R]
    squares_TMM = np.zeros((*mean_TM.shape, cost_RM.shape[1]))
    np.add.at(squares_TMM, trial_R, residual_RM[:, :, None] * residual_RM[:, None, :])
    return cost_RM[first_T] + mean_TM, squares_TMM, seeds_T


def _draws(mean_TM: np.ndarray, squares_TMM: np.ndarray, seeds_T: np.ndarray) -> np.ndarray:
    """Means of the trials as they may be in truth, [T, S, M]."""
    own_T = seeds_T - 1
    others_T = own_T.sum() - own_T
    prior_T = np.minimum(_PRIOR, others_T)
    freedom_T = (prior_T + own_T).astype(float)
    pooled_TMM = (squares_TMM.sum(axis=0) - squares_TMM) / np.maximum(others_T, 1)[:, None, None]
    covariance_TMM = (prior_T[:, None, None] * pooled_TMM + squares_TMM) / (freedom_T * seeds_T)[:, None, None]
    if own_T.sum() < mean_TM.shape[1]:  # too few to tell how objectives go together
        covariance_TMM = covariance_TMM * np.eye(mean_TM.shape[1])
    # Through correlations, so that units do not matter and what has no spread stays where it is.
    sd_TM = np.sqrt(np.diagonal(covariance_TMM, axis1=1, axis2=2).clip(min=0.0))
    scale_TMM = sd_TM[:, :, None] * sd_TM[:, None, :]
    correlation_TMM = np.divide(covariance_TMM, scale_TMM, out=np.zeros_like(scale_TMM), where=scale_TMM > 0)
    variance_TM, axes_TMM = np.linalg.eigh(correlation_TMM)
    root_TMM = axes_TMM * np.sqrt(variance_TM.clip(min=0.0))[:, None, :]
    normal, chi_square = np.random.default_rng(0).spawn(2)
    drawn_TSM = np.empty((len(mean_TM), _DRAWS, mean_TM.shape[1]))
    for first in range(0, len(mean_TM), _AT_ONCE):  # what is drawn is the same, and takes less memory
        some = slice(first, first + _AT_ONCE)
        freedom_T1 = freedom_T[some, None]
        draw_TSM = normal.standard_normal(drawn_TSM[some].shape) @ root_TMM[some].mT
        shrunk_TS = np.sqrt(chi_square.chisquare(freedom_T1, (len(freedom_T1), _DRAWS)) / freedom_T1)
        drawn_TSM[some] = mean_TM[some, None] + sd_TM[some, None] * draw_TSM / shrunk_TS[:, :, None]
    return drawn_TSM


def _shares_on_front(cost_TSM: np.ndarray) -> np.ndarray:
    """In how many of the draws each trial is on the front, as a share."""
    # Whoever is at its best behind another at its worst is behind it in every draw.
    near = np.flatnonzero(~dominated(cost_TSM.min(axis=1), cost_TSM.max(axis=1)))
    times_T = np.zeros(len(cost_TSM), dtype=int)
    times_on_front = _times_on_front_of_two if cost_TSM.shape[2] == 2 else _times_on_front
    for first in range(0, cost_TSM.shape[1], _AT_ONCE):
        some_TSM = cost_TSM[near, first : first + _AT_ONCE]
        times_T[near] += times_on_front(some_TSM.transpose(2, 1, 0)).astype(int)
    share_T: np.ndarray = times_T / cost_TSM.shape[1]
    return share_T


def _times_on_front_of_two(cost_2ST: np.ndarray) -> np.ndarray:
    """In how many of the draws each trial is on the front, in two objectives.

    In the order of the first, a trial is on it that is better in the second than all before it, or as one that is.
    """
    order_ST = np.lexsort(cost_2ST[::-1], axis=-1)
    sorted_2ST = np.take_along_axis(cost_2ST, order_ST[None], axis=-1)
    best_ST = np.minimum.accumulate(sorted_2ST[1], axis=-1)
    is_front_ST = np.ones(order_ST.shape, dtype=bool)
    is_front_ST[:, 1:] = sorted_2ST[1, :, 1:] < best_ST[:, :-1]
    is_same_ST = np.zeros(order_ST.shape, dtype=bool)
    is_same_ST[:, 1:] = (sorted_2ST[:, :, 1:] == sorted_2ST[:, :, :-1]).all(axis=0)
    if is_same_ST.any():  # of several at one point all are what the first is
        first_ST = np.maximum.accumulate(np.where(is_same_ST, 0, np.arange(order_ST.shape[1])), axis=-1)
        is_front_ST = np.take_along_axis(is_front_ST, first_ST, axis=-1)
    times_T: np.ndarray = np.bincount(order_ST[is_front_ST], minlength=order_ST.shape[1])
    return times_T


def _times_on_front(cost_MST: np.ndarray) -> np.ndarray:
    """The same in any number of objectives.

    L is what is left of all draws. In order, the first that is left of a draw is on its front; what it dominates goes.
    """
    _, draws, trials = cost_MST.shape
    order_ST = np.lexsort(cost_MST[::-1], axis=-1)
    left_ML = np.take_along_axis(cost_MST, order_ST[None], axis=-1).reshape(len(cost_MST), -1)
    trial_L, draw_L = order_ST.ravel(), np.repeat(np.arange(draws), trials)
    times_T = np.zeros(trials)
    while len(draw_L):
        is_first_L = np.diff(draw_L, prepend=-1) > 0
        times_T += np.bincount(trial_L[is_first_L], minlength=trials)
        first_ML = left_ML[:, is_first_L][:, np.cumsum(is_first_L) - 1]
        stays_L = ((left_ML < first_ML).any(axis=0) | (left_ML == first_ML).all(axis=0)) & ~is_first_L
        left_ML, trial_L, draw_L = left_ML[:, stays_L], trial_L[stays_L], draw_L[stays_L]
    return times_T
