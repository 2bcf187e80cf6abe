"""Statistics of results: intervals over seeds, standard errors over clips, probabilities of the front, and leakage.

Intervals over seeds are Student's t intervals of the mean over infinitely many seeds, on the given held-out clips. They
do not include the variation between sets of clips, which standard errors over clips measure, for one model or for
values averaged over models.

Simulated coverage of a 90 % interval at 3 seeds: 90 % for normal values, 87 % for accuracies of 0.95 ± 0.03 (beta
distribution), 84 % for 0.95 ± 0.045 and 82 % for 0.98 ± 0.02. Coverage falls with the skew, which cannot be estimated
from three values. A logit transform does not help: its interval covers the mean of accuracies less with each added seed
(82 % instead of 88 % at 10 seeds for 0.95 ± 0.03).

T is trials, R replicates of all trials, M objectives, S draws, N clips.
"""

from collections.abc import Mapping
from itertools import product
from typing import Any

import numpy as np
import pandas as pd

from study.analysis.pareto import is_dominated, to_costs
from study.errors import UserError, option
from study.spec import Spec

_DRAWS = 2000
_CHUNK = 200  # trials, or draws, that are computed together
# Degrees of freedom of the pooled covariance of the other trials. In simulated studies of two to five seeds, with equal
# spreads or spreads that differ by factors of 1.5 or 2.2, four scored (Brier, log) as well as a number estimated from
# the spreads (Smyth 2004, limma), and better than each trial's covariance alone, unless spreads differ much at 3 seeds.
_PRIOR_DEGREES = 4

READINGS = {
    "information": ("strong", "samples"),
    "probe": ("lightweight", "means"),
    "sampled_probe": ("lightweight", "samples"),
    "linear_information": ("linear", "samples"),
}
"""Group of metrics: the reader (`marl.metrics.readers`), and what it reads of the posteriors.

Probes are accuracies, the others information as a fraction of the factor's entropy.
"""


def ci_half_width(sd: Any, n: Any, level: float = 0.9) -> Any:
    """Return half the width of the t interval, of probability `level`, of a mean over `n` seeds with deviation `sd`.

    The result has the unit and the shape of `sd`, and is NaN for a single seed.
    """
    from scipy.special import stdtrit  # a fifth of the start of `ls` and `status`

    return stdtrit(np.asarray(n) - 1.0, (1 + level) / 2) * sd / np.sqrt(n)


def wilson_interval(successes: int, trials: int, level: float = 0.9) -> tuple[float, float]:
    """Return Wilson's interval of a probability from a number of successes; 0 to 1 without trials."""
    from scipy.special import ndtri

    if trials == 0:
        return 0.0, 1.0
    z = float(ndtri((1 + level) / 2))
    rate, scale = successes / trials, 1 + z**2 / trials
    middle = (rate + z**2 / (2 * trials)) / scale
    half = z / scale * np.sqrt(rate * (1 - rate) / trials + z**2 / (4 * trials**2))
    return max(0.0, float(middle - half)), min(1.0, float(middle + half))


def accuracy_standard_error(accuracy: Any, clips: int) -> Any:
    """Return the standard error of an accuracy over clips; its square is unbiased. NaN for fewer than two clips."""
    return np.sqrt(accuracy * (1 - accuracy) / (clips - 1 if clips > 1 else np.nan))


def mean_standard_error(value_N: np.ndarray) -> np.ndarray:
    """Return the standard error of a mean over clips, [..., N] to [...]; its square is unbiased. NaN for one clip."""
    clips = value_N.shape[-1]
    if clips < 2:
        return np.full(value_N.shape[:-1], np.nan)
    return np.asarray(value_N.std(axis=-1, ddof=1) / np.sqrt(clips))


def rmse_standard_error(squared_error_N: np.ndarray) -> np.ndarray:
    """Return the standard error of an RMSE over clips, [..., N] to [...], by the delta method."""
    rmse = np.sqrt(squared_error_N.mean(axis=-1))
    return np.asarray(mean_standard_error(squared_error_N) / (2 * np.where(rmse > 0, rmse, 1.0)))


def readings(row: pd.Series, factor: str, classes: int, subspace: str, clips: int = 0) -> pd.DataFrame:
    """Return what each reader finds out about a factor from a subspace of a trial, between nothing (0) and all (1).

    `row` is the results of the trial. `classes` is the number of classes of the factor among the held-out clips, and
    `clips` the number of these clips.

    Returns:
        A row for each kind of reading that the trial has: `reader`, `of` (`means` or `samples` of the posteriors),
        `metric` (the column that it comes from), `share` (the information as a fraction of the factor's entropy; or the
        accuracy, on a scale where chance is 0 and perfect is 1), and of the share `sd` (standard deviation over seeds),
        `ci` (half the width of the 90 % interval) and `clips_se` (standard error over the held-out clips).
    """
    rows = []
    for group, (reader, of) in READINGS.items():
        name = f"{group}/{factor}/{subspace}"
        value = row.get(name, np.nan)
        if classes < 2 or pd.isna(value):
            continue
        chance = 1 / classes if "probe" in group else 0.0
        scale = 1 / (1 - chance)
        spread = {end: scale * row.get(f"{name}/{end}", np.nan) for end in ("sd", "ci", "clips_se")}
        if "probe" in group:
            spread["clips_se"] = scale * accuracy_standard_error(value, clips)
        kind = {"reader": reader, "of": of, "metric": name}
        rows.append({**kind, "share": scale * (value - chance), **spread})
    numbers = dict.fromkeys(("share", "sd", "ci", "clips_se"), float)
    return pd.DataFrame(rows, columns=["reader", "of", "metric", *numbers]).astype(numbers)


def leakage(results: pd.DataFrame, spec: Spec, trial: int, classes: Mapping[str, int], clips: int) -> pd.DataFrame:
    """Return how much each subspace of a complete trial has of each factor.

    `results` is the table of `StudyResults.results`. `classes` is the number of classes of each factor among the
    held-out clips; factors with one class are skipped. `clips` is the number of held-out clips.

    Returns:
        A row for each factor, subspace and kind of reading: `factor`, `subspace`, `belongs` (whether the subspace is
        meant to hold the factor), and the columns of `readings`.
    """
    complete = results[results["state"] == "complete"].set_index("trial")
    if complete.empty:
        raise UserError(f"study {spec.name!r} has no complete trial yet")
    if trial not in complete.index:
        numbers = ", ".join(map(str, complete.index))
        raise UserError(f"{option('trial')}: must be a complete trial ({numbers}); got {trial}")
    tables = []
    for (factor, count), subspace in product(classes.items(), ("private", "shared", "both")):
        belongs = subspace == "both" or (factor in spec.shared_factors) == (subspace == "shared")
        table = readings(complete.loc[trial], factor, count, subspace, clips)
        table.insert(0, "belongs", belongs)
        table.insert(0, "subspace", subspace)
        table.insert(0, "factor", factor)
        tables.append(table)
    return pd.concat(tables, ignore_index=True)


def front_probabilities(reports: pd.DataFrame, objectives: Mapping[str, str], seeds: int | None = None) -> pd.Series:
    """Return the probability that each trial's means over infinitely many seeds are on the Pareto front.

    The posterior of a trial's means, under a flat prior, is a multivariate t distribution around its means over seeds.
    Its covariance combines the trial's covariance of the objectives over seeds with the pooled covariance of all other
    trials, which counts as 4 degrees of freedom; so trials of one, two or three seeds have a usable covariance.
    Probabilities are fractions of 2,000 draws, which are the same in every call; their standard error is at most 0.011.

    In simulated studies the probabilities are calibrated if trials near the front differ by more than the standard
    errors of their means. On a more crowded front, probabilities below a half are too low: 0.1 can be 0.2, and 0.3 can
    be 0.5. Trials are treated as independent, although a seed may have the same effect on all of them.

    `reports` has a row for each replicate at the full budget; rows with a non-finite objective are ignored. The
    probability is NaN if no trial has two seeds, because their spread is unknown. With `seeds`, it is what that many
    seeds for each trial would tell if the means and the spreads stayed as they are.
    """
    is_finite_R = np.isfinite(to_costs(reports, objectives)).all(axis=1)
    rows = reports[is_finite_R].sort_values(["trial", "seed"])
    trial_R, trials = pd.factorize(rows["trial"])
    mean_TM, scatter_TMM, seeds_T = _moments(to_costs(rows, objectives), trial_R)
    if seeds_T.sum() == len(seeds_T):  # no trial has two seeds
        probability_T = np.full(len(seeds_T), np.nan)
    else:
        if seeds is not None:
            scatter_TMM *= ((seeds - 1) / np.maximum(seeds_T - 1, 1))[:, None, None]
            seeds_T = np.where(seeds_T > 1, seeds, seeds_T)
        probability_T = _front_fractions(_draws(mean_TM, scatter_TMM, seeds_T))
    return pd.Series(probability_T, index=pd.Index(trials, name="trial"), name="front_probability")


def _moments(cost_RM: np.ndarray, trial_R: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the mean, the scatter matrix and the number of replicates of each trial."""
    _, first_T, seeds_T = np.unique(trial_R, return_index=True, return_counts=True)
    # Relative to the first replicate, a value that all replicates share has a spread of exactly zero.
    offset_RM = cost_RM - cost_RM[first_T][trial_R]
    mean_TM = np.zeros((len(seeds_T), cost_RM.shape[1]))
    np.add.at(mean_TM, trial_R, offset_RM)
    mean_TM /= seeds_T[:, None]
    residual_RM = offset_RM - mean_TM[trial_R]
    scatter_TMM = np.zeros((*mean_TM.shape, cost_RM.shape[1]))
    np.add.at(scatter_TMM, trial_R, residual_RM[:, :, None] * residual_RM[:, None, :])
    return cost_RM[first_T] + mean_TM, scatter_TMM, seeds_T


def _draws(mean_TM: np.ndarray, scatter_TMM: np.ndarray, seeds_T: np.ndarray) -> np.ndarray:
    """Draw means of the trials from their posterior, [T, S, M]."""
    degrees_T = seeds_T - 1
    other_degrees_T = degrees_T.sum() - degrees_T
    prior_T = np.minimum(_PRIOR_DEGREES, other_degrees_T)
    total_T = (prior_T + degrees_T).astype(float)
    pooled_TMM = (scatter_TMM.sum(axis=0) - scatter_TMM) / np.maximum(other_degrees_T, 1)[:, None, None]
    covariance_TMM = (prior_T[:, None, None] * pooled_TMM + scatter_TMM) / (total_T * seeds_T)[:, None, None]
    if degrees_T.sum() < mean_TM.shape[1]:  # too few replicates to estimate correlations
        covariance_TMM = covariance_TMM * np.eye(mean_TM.shape[1])
    # By correlations, so that units do not matter and objectives without spread stay constant.
    sd_TM = np.sqrt(np.diagonal(covariance_TMM, axis1=1, axis2=2).clip(min=0.0))
    scale_TMM = sd_TM[:, :, None] * sd_TM[:, None, :]
    correlation_TMM = np.divide(covariance_TMM, scale_TMM, out=np.zeros_like(scale_TMM), where=scale_TMM > 0)
    variance_TM, axes_TMM = np.linalg.eigh(correlation_TMM)
    root_TMM = axes_TMM * np.sqrt(variance_TM.clip(min=0.0))[:, None, :]
    normal, chi_square = np.random.default_rng(0).spawn(2)
    draw_TSM = np.empty((len(mean_TM), _DRAWS, mean_TM.shape[1]))
    for start in range(0, len(mean_TM), _CHUNK):  # in chunks to save memory
        chunk = slice(start, start + _CHUNK)
        total_T1 = total_T[chunk, None]
        normal_TSM = normal.standard_normal(draw_TSM[chunk].shape) @ root_TMM[chunk].mT
        chi_TS = np.sqrt(chi_square.chisquare(total_T1, (len(total_T1), _DRAWS)) / total_T1)
        draw_TSM[chunk] = mean_TM[chunk, None] + sd_TM[chunk, None] * normal_TSM / chi_TS[:, :, None]
    return draw_TSM


def _front_fractions(cost_TSM: np.ndarray) -> np.ndarray:
    """Return the fraction of draws in which each trial is on the front, [T]."""
    # A trial whose best draw is dominated by another's worst draw is dominated in every draw.
    near = np.flatnonzero(~is_dominated(cost_TSM.min(axis=1), cost_TSM.max(axis=1)))
    count_T = np.zeros(len(cost_TSM), dtype=int)
    front_counts = _front_counts_of_two if cost_TSM.shape[2] == 2 else _front_counts
    for start in range(0, cost_TSM.shape[1], _CHUNK):
        chunk_TSM = cost_TSM[near, start : start + _CHUNK]
        count_T[near] += front_counts(chunk_TSM.transpose(2, 1, 0)).astype(int)
    return np.asarray(count_T / cost_TSM.shape[1])


def _front_counts_of_two(cost_2ST: np.ndarray) -> np.ndarray:
    """Return the number of draws in which each trial is on the front, for two objectives, [T].

    Sorted by the first objective, a trial is on the front if it is better in the second than all before it, or equal
    in both to such a trial.
    """
    order_ST = np.lexsort(cost_2ST[::-1], axis=-1)
    sorted_2ST = np.take_along_axis(cost_2ST, order_ST[None], axis=-1)
    best_ST = np.minimum.accumulate(sorted_2ST[1], axis=-1)
    is_front_ST = np.ones(order_ST.shape, dtype=bool)
    is_front_ST[:, 1:] = sorted_2ST[1, :, 1:] < best_ST[:, :-1]
    is_equal_ST = np.zeros(order_ST.shape, dtype=bool)
    is_equal_ST[:, 1:] = (sorted_2ST[:, :, 1:] == sorted_2ST[:, :, :-1]).all(axis=0)
    if is_equal_ST.any():  # equal trials follow the first of them
        first_ST = np.maximum.accumulate(np.where(is_equal_ST, 0, np.arange(order_ST.shape[1])), axis=-1)
        is_front_ST = np.take_along_axis(is_front_ST, first_ST, axis=-1)
    return np.bincount(order_ST[is_front_ST], minlength=order_ST.shape[1])


def _front_counts(cost_MST: np.ndarray) -> np.ndarray:
    """Return the number of draws in which each trial is on the front, for any number of objectives, [T].

    Repeatedly takes the first remaining trial of each draw, which is on the front, and removes the trials that it
    dominates. L is the remaining pairs of a draw and a trial.
    """
    _, draws, trials = cost_MST.shape
    order_ST = np.lexsort(cost_MST[::-1], axis=-1)
    cost_ML = np.take_along_axis(cost_MST, order_ST[None], axis=-1).reshape(len(cost_MST), -1)
    trial_L, draw_L = order_ST.ravel(), np.repeat(np.arange(draws), trials)
    count_T = np.zeros(trials)
    while len(draw_L):
        is_first_L = np.diff(draw_L, prepend=-1) > 0
        count_T += np.bincount(trial_L[is_first_L], minlength=trials)
        first_ML = cost_ML[:, is_first_L][:, np.cumsum(is_first_L) - 1]
        remains_L = ((cost_ML < first_ML).any(axis=0) | (cost_ML == first_ML).all(axis=0)) & ~is_first_L
        cost_ML, trial_L, draw_L = cost_ML[:, remains_L], trial_L[remains_L], draw_L[remains_L]
    return count_T
