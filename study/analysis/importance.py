"""Which parameters of a study matter to a metric.

Each method answers a question of its own. `fanova`: how much of the metric's variance over the space goes with a
parameter alone (fanova.py). `mean_decrease_impurity`: how much a parameter's splits explain where the trials lie,
which a search has drawn towards good ones; interactions count. `ped_anova`: how much the best tenth of the trials, and
at least five of them, differ from all in a parameter, that is what has to be chosen well to get there.
"""

import math
import warnings
from collections.abc import Sequence
from typing import Literal

import numpy as np
import optuna
import pandas as pd
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.importance import MeanDecreaseImpurityImportanceEvaluator, PedAnovaImportanceEvaluator

from study.analysis.fanova import main_effects
from study.errors import UserError
from study.search.history import as_spec
from study.search.sampler import PastTrial, distribution_of, frozen_trial
from study.spec import Scalar, Spec
from study.spec.metrics import direction_of

__all__ = ["EVALUATORS", "LEAST_TRIALS", "MOST_TRIALS", "Evaluator", "UndeterminedError", "importances"]

Evaluator = Literal["fanova", "ped_anova", "mean_decrease_impurity"]
EVALUATORS: tuple[Evaluator, ...] = ("fanova", "ped_anova", "mean_decrease_impurity")
LEAST_TRIALS = 4
MOST_TRIALS = 1000
"""Of more trials, so many are drawn at random."""

# Which part of the trials is the best, and how many it needs at least (Optuna's advice), though no more than half.
_BEST_PART, _LEAST_BEST, _LARGEST_BEST_PART = 0.1, 5, 0.5


class UndeterminedError(UserError):
    """What matters cannot be said; the message says why."""


def importances(
    table: pd.DataFrame, spec: Spec, metric: str, evaluator: Evaluator = "fanova", seed: int = 0
) -> pd.DataFrame:
    """How much of a metric each parameter accounts for, among complete trials.

    A parameter with a range on a logarithmic scale is seen by its logarithm: all its decades count alike.

    Parameters that all trials have share one between them. One that exists only on a condition is measured by
    `ped_anova` with the others, as Optuna does. By forests it is measured among the trials that have it: its importance
    is its share among those, beside all other parameters that they all have, and adds to no sum.

    Args:
        table: results of trials.
        spec: of the study.
        metric: a column of results. Which way it is better (`study.spec.metrics`) matters to `ped_anova` alone.
        evaluator: the method.
        seed: of the forests and of the sample of trials.

    Returns:
        `parameter`; `importance` from 0 to 1, most important first, not a number where it cannot be said: fewer than
        `LEAST_TRIALS` have the parameter, or nothing else varies among these; `trials` with it that were looked at;
        `complete`, how many of those with it there are. Where these are more, the former are from a random sample of
        `MOST_TRIALS` of all.

    Raises:
        UndeterminedError: when fewer than `LEAST_TRIALS` complete trials have the metric, it is the same in all of
            them, or fewer than two parameters vary.
        UserError: when there is no such method.
    """
    if evaluator not in EVALUATORS:
        raise UserError(f"importance is computed by one of {', '.join(EVALUATORS)}; got {evaluator!r}")
    known = _with_metric(table, metric)
    trials = known.sample(MOST_TRIALS, random_state=seed).sort_index() if len(known) > MOST_TRIALS else known
    names = [name for name in spec.space if f"config/{name}" in table]
    has = {name: trials[f"config/{name}"].notna() for name in names}
    varying = [name for name in names if _varies(trials, name)]
    if len(varying) < 2:
        raise UndeterminedError(
            f"importance compares at least two parameters that vary; among the complete trials there vary: "
            f"{', '.join(varying) or 'none'}"
        )
    scores: dict[str, float] = {}
    if evaluator == "ped_anova":
        scores = _by_best(trials, spec, [name for name in names if has[name].any()], metric)
    else:
        for name in names:
            if name not in scores:
                group = trials[has[name]]
                common = [one for one in names if has[one][group.index].all()]
                of_group = _by_forest(group, spec, common, metric, evaluator, seed)
                # Parameters that just these trials have are answered at once.
                scores |= {one: score for one, score in of_group.items() if has[one].equals(has[name])}
    found = pd.DataFrame(
        {
            "parameter": names,
            "importance": [scores.get(name, math.nan) for name in names],
            "trials": [int(has[name].sum()) for name in names],
            "complete": [int(known[f"config/{name}"].notna().sum()) for name in names],
        }
    )
    if found["importance"].isna().all():
        raise UndeterminedError(
            "importance compares parameters that vary together; no two do among the complete trials"
        )
    return found.sort_values("importance", ascending=False, kind="stable", ignore_index=True)


def _with_metric(table: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Complete trials that have a metric, by number."""
    known = table[table["state"] == "complete"]
    known = known[np.isfinite(known[metric].astype(float))] if metric in table else known.iloc[:0]
    if len(known) < LEAST_TRIALS:
        raise UndeterminedError(
            f"importance needs at least {LEAST_TRIALS} complete trials that have {metric}; there are {len(known)}"
        )
    if _is_constant(known[metric]):
        raise UndeterminedError(f"{metric} is the same in all {len(known)} complete trials, so nothing matters to it")
    return known.sort_values("trial", ignore_index=True)


def _by_forest(
    trials: pd.DataFrame, spec: Spec, names: Sequence[str], metric: str, evaluator: Evaluator, seed: int
) -> dict[str, float]:
    """Shares of parameters that all of some trials have; empty where these say nothing."""
    if len(trials) < LEAST_TRIALS or _is_constant(trials[metric]) or sum(_varies(trials, name) for name in names) < 2:
        return {}
    # In the order that Optuna's forests have: one of its evaluators mixes names up in any other.
    names = sorted(names)
    if evaluator == "fanova":
        columns = [_column(spec, name, trials) for name in names]
        effects = main_effects(columns, trials[metric].to_numpy(dtype=float), seed)
        scores = dict(zip(names, effects.tolist(), strict=True))
    else:
        study = _study(trials, spec, names, metric)
        scores = MeanDecreaseImpurityImportanceEvaluator(seed=seed).evaluate(study, names)
    return _shares(scores)


def _by_best(trials: pd.DataFrame, spec: Spec, names: Sequence[str], metric: str) -> dict[str, float]:
    part = min(max(_BEST_PART, _LEAST_BEST / len(trials)), _LARGEST_BEST_PART)
    evaluator = PedAnovaImportanceEvaluator(target_quantile=part)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that few trials have a parameter is in the table
        return _shares(evaluator.evaluate(_study(trials, spec, names, metric), list(names)))


def _shares(scores: dict[str, float]) -> dict[str, float]:
    total = sum(scores.values())
    return {name: float(score / total) for name, score in scores.items()} if total > 0 else {}


def _study(trials: pd.DataFrame, spec: Spec, names: Sequence[str], metric: str) -> optuna.Study:
    """Trials as Optuna's evaluators want them: with one objective, the metric."""
    distributions = {name: _even_distribution(spec, name) for name in names}
    study = optuna.create_study(direction="minimize" if direction_of(spec, metric) == "min" else "maximize")
    for row in trials[["trial", metric, *(f"config/{name}" for name in names)]].to_dict("records"):
        known = {name: row[f"config/{name}"] for name in names if pd.notna(row[f"config/{name}"])}
        parameters = {name: _even(spec, name, value) for name, value in known.items()}
        past = PastTrial(int(row["trial"]), "complete", parameters, [float(row[metric])], {})
        study.add_trial(frozen_trial(past, distributions))
    return study


def _column(spec: Spec, name: str, trials: pd.DataFrame) -> np.ndarray:
    """A parameter for a forest: its range from 0 to 1, [N], or one-hot, [N, K]."""
    values = [_even(spec, name, value) for value in trials[f"config/{name}"]]
    match _even_distribution(spec, name):
        case CategoricalDistribution() as distribution:
            return np.eye(len(distribution.choices))[[int(distribution.to_internal_repr(value)) for value in values]]
        case IntDistribution() as whole:  # each number stands for what rounds to it
            return (np.array(values, dtype=float) - whole.low + 0.5) / (whole.high - whole.low + 1)
        case FloatDistribution() as numbers:
            return (np.array(values, dtype=float) - numbers.low) / (numbers.high - numbers.low)
        case other:
            raise TypeError(f"{name}: {other} is no distribution of ours")


def _even_distribution(spec: Spec, name: str) -> BaseDistribution:
    """The distribution of what `_even` gives, even over its range."""
    parameter = spec.space[name]
    if parameter.log_uniform is None:
        return distribution_of(parameter)
    low, high = parameter.log_uniform
    return FloatDistribution(math.log(low), math.log(high))


def _even(spec: Spec, name: str, value: Scalar) -> Scalar:
    plain = as_spec(spec, name, value)
    return math.log(plain) if spec.space[name].log_uniform is not None and isinstance(plain, float) else plain


def _varies(trials: pd.DataFrame, name: str) -> bool:
    return bool(trials[f"config/{name}"].nunique() > 1)


def _is_constant(values: pd.Series) -> bool:
    return bool(np.ptp(values.to_numpy(dtype=float)) <= 1e-12 * np.abs(values).max())
