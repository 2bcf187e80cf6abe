"""Importance of each parameter of the search space for a metric, computed by `optuna.importance`."""

import math
import warnings
from typing import Literal, get_args

import numpy as np
import optuna
import pandas as pd
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from study.errors import UserError
from study.spec import Parameter, Spec

Evaluator = Literal["ped_anova", "fanova", "mean_decrease_impurity"]
EVALUATORS: tuple[Evaluator, ...] = get_args(Evaluator)
MIN_TRIALS = 4
MAX_FANOVA_TRIALS = 300
"""Maximum number of trials for fANOVA, whose time grows with their square: 3 s for 300 trials, 25 s for 1,000."""

MAX_BOOTSTRAP_TRIALS = 300
_BOOTSTRAP_DRAWS = 30

# Optuna logs every study that is created.
optuna.logging.set_verbosity(optuna.logging.ERROR)

# Optuna recommends at least five trials in the best tenth. The best trials are at most half of all.
_TARGET_QUANTILE, _MIN_TARGET_TRIALS, _MAX_TARGET_QUANTILE = 0.1, 5, 0.5


class UndeterminedError(UserError):
    """The importances cannot be computed; the message gives the reason."""


def importances(
    table: pd.DataFrame, spec: Spec, metric: str, evaluator: Evaluator = "ped_anova", seed: int = 0
) -> pd.DataFrame:
    """Return the importance of each parameter for a metric, among the complete trials.

    The value of a trial is its mean over replicates; the spread over seeds is ignored. Importances sum to 1, also for a
    metric that depends on no parameter. Conditional parameters are treated as in Optuna: `ped_anova` measures each
    parameter among the trials that have it and weights it by the share of these trials (Conditional PED-ANOVA,
    arXiv:2601.20800); the evaluators based on forests only measure the parameters that all trials have.

    `ped_anova` measures how the best tenth of the trials (at least five) differs from all trials in a parameter
    (Watanabe et al., IJCAI 2023); only this evaluator depends on the direction of the metric. `fanova` measures the
    share of the metric's variance over the whole space that a parameter explains alone (Hutter et al., ICML 2014).
    `mean_decrease_impurity` measures how much the splits of a random forest by a parameter explain, interactions
    included. The seed is that of the forests, and of the random sample of `MAX_FANOVA_TRIALS` trials for `fanova`.

    Returns:
        A row for each parameter, most important first: `parameter`; `importance`, NaN for parameters that the evaluator
        cannot measure; `trials` and `complete`, the numbers of evaluated and of complete trials that have it.

    Raises:
        UndeterminedError: If fewer than `MIN_TRIALS` complete trials have the metric, if it is the same in all of
            them, or if fewer than two of the measured parameters vary.
    """
    if evaluator not in EVALUATORS:
        raise UserError(f"evaluator must be one of {', '.join(EVALUATORS)}; got {evaluator!r}")
    complete = _complete_trials(table, metric)
    trials = complete
    if evaluator == "fanova" and len(complete) > MAX_FANOVA_TRIALS:
        trials = complete.sample(MAX_FANOVA_TRIALS, random_state=seed).sort_index()
    names = [name for name in spec.space if f"config/{name}" in table]
    columns = [f"config/{name}" for name in names]
    counts = trials[columns].notna().sum().to_numpy()
    min_count = 1 if evaluator == "ped_anova" else len(trials)
    measured = [name for name, count in zip(names, counts, strict=True) if count >= min_count]
    varying = [name for name in measured if trials[f"config/{name}"].nunique() > 1]
    if len(varying) < 2:
        raise UndeterminedError(
            "importance compares at least two parameters that vary among the complete trials; "
            f"{evaluator} can compare: {', '.join(varying) or 'none'}"
        )
    scores = _scores(trials, spec, metric, measured, evaluator, seed)
    importance = pd.DataFrame({"parameter": names, "importance": [scores.get(name, math.nan) for name in names]})
    importance = importance.assign(trials=counts, complete=complete[columns].notna().sum().to_numpy())
    return importance.sort_values("importance", ascending=False, kind="stable", ignore_index=True)


def importance_intervals(
    table: pd.DataFrame, spec: Spec, metric: str, evaluator: Evaluator = "ped_anova", level: float = 0.9
) -> pd.DataFrame:
    """Return intervals of `importances` by a bootstrap over the complete trials, by parameter: `low` and `high`.

    They show how much the importances depend on which trials the study has, and contain the importance of all trials.
    A draw has at most `MAX_BOOTSTRAP_TRIALS` trials, so that intervals of larger studies are too wide.
    """
    complete = _complete_trials(table, metric)
    random = np.random.default_rng(0)
    draws = []
    for _ in range(_BOOTSTRAP_DRAWS):
        count = min(len(complete), MAX_BOOTSTRAP_TRIALS)
        sample = complete.iloc[random.integers(len(complete), size=count)]
        try:
            draws.append(importances(sample, spec, metric, evaluator).set_index("parameter")["importance"])
        except UndeterminedError:  # all trials of the draw are equal
            continue
    if not draws:
        return pd.DataFrame(columns=["low", "high"], dtype=float)
    limits = pd.concat(draws, axis=1).quantile([(1 - level) / 2, (1 + level) / 2], axis=1).T
    limits = limits.set_axis(["low", "high"], axis=1)
    estimate = importances(table, spec, metric, evaluator).set_index("parameter")["importance"].reindex(limits.index)
    return limits.assign(
        low=np.fmin(limits["low"], estimate.to_numpy()), high=np.fmax(limits["high"], estimate.to_numpy())
    )


def _complete_trials(table: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Return the complete trials with a finite value of the metric, in the order of their numbers."""
    complete = table[table["state"] == "complete"]
    complete = complete[np.isfinite(complete[metric].astype(float))] if metric in table else complete.iloc[:0]
    if len(complete) < MIN_TRIALS:
        raise UndeterminedError(
            f"importance needs at least {MIN_TRIALS} complete trials that have {metric}; got {len(complete)}"
        )
    values = complete[metric].to_numpy(dtype=float)
    if np.ptp(values) <= 1e-12 * np.abs(values).max():
        raise UndeterminedError(f"importance needs a metric that varies; {metric} is the same in all complete trials")
    return complete.sort_values("trial", ignore_index=True)


def _scores(
    trials: pd.DataFrame, spec: Spec, metric: str, names: list[str], evaluator: Evaluator, seed: int
) -> dict[str, float]:
    """Return the importances of some parameters as Optuna computes them."""
    study = optuna.create_study(direction="minimize" if spec.direction(metric) == "min" else "maximize")
    distributions = {name: _distribution(spec.space[name]) for name in names}
    for row in trials.to_dict("records"):
        present = {name: row[f"config/{name}"] for name in names if pd.notna(row[f"config/{name}"])}
        study.add_trial(
            optuna.trial.create_trial(
                value=float(row[metric]),
                params={name: _transformed(spec.space[name], value) for name, value in present.items()},
                distributions={name: distributions[name] for name in present},
            )
        )
    quantile = min(max(_TARGET_QUANTILE, _MIN_TARGET_TRIALS / len(trials)), _MAX_TARGET_QUANTILE)
    optuna_evaluator = {
        "ped_anova": optuna.importance.PedAnovaImportanceEvaluator(target_quantile=quantile),
        "fanova": optuna.importance.FanovaImportanceEvaluator(seed=seed),
        "mean_decrease_impurity": optuna.importance.MeanDecreaseImpurityImportanceEvaluator(seed=seed),
    }[evaluator]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Optuna warns of parameters of few trials; the table has their numbers
        # The forests order their columns by name, and need the names in the same order.
        return optuna.importance.get_param_importances(study, evaluator=optuna_evaluator, params=sorted(names))


def _distribution(parameter: Parameter) -> BaseDistribution:
    """Return the distribution of a parameter's values after `_transformed`."""
    if parameter.choice is not None:
        return CategoricalDistribution(parameter.choice)
    if parameter.int is not None:
        return IntDistribution(*parameter.int)
    low, high = parameter.bounds
    return FloatDistribution(math.log(low), math.log(high)) if parameter.log_uniform else FloatDistribution(low, high)


def _transformed(parameter: Parameter, value: object) -> object:
    """Return a parameter's value with its type; its logarithm on a logarithmic scale, which Optuna's forests ignore."""
    typed = parameter.typed(value)
    return math.log(typed) if parameter.log_uniform is not None and isinstance(typed, float) else typed
