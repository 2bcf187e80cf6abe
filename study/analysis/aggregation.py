"""Means of trials over their replicates, with spread and intervals; and how they follow from those of a moment before.

A mean is over a trial's replicates at the last budget that all of them reached, or most of them where none was reached
by all. It depends on the rows of its trial alone.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from study.analysis.statistics import half_width
from study.store.tables import SegmentId, TableRows

__all__ = [
    "DETAILS",
    "KEY",
    "Means",
    "coalesced",
    "mean_over_replicates",
    "means_of",
    "means_over_replicates",
    "with_spread",
]

KEY = ["trial", "seed", "step", "metric_version"]
"""What tells reports from one another."""

DETAILS = ("/clips_se", "/floor")
"""Ends of columns that say how sure another one is, or how good it could be: they have no spread of their own."""

_NOT_METRICS = {*KEY, "time", "run"}


@dataclass(frozen=True)
class Means:
    """Means of all trials of a study at one moment.

    Attributes:
        table: as of `means_over_replicates`, metrics by name.
        trials: which trials have rows in each part of the reports.
    """

    table: pd.DataFrame
    trials: Mapping[SegmentId, np.ndarray]


def with_spread(rows: pd.DataFrame, metric: str) -> dict[str, pd.Series]:
    """`mean` of a metric with `low` and `high`, minus and plus one standard deviation over replicates.

    Args:
        rows: of results. Ends are not a number where there is no spread.
        metric: a column of these.
    """
    mean = rows[metric].astype(float)
    spread = rows[f"{metric}/sd"].astype(float) if f"{metric}/sd" in rows else np.nan
    return {"mean": mean, "low": mean - spread, "high": mean + spread}


def means_of(reports: TableRows, replicates: int, first_trial: int, earlier: Means | None) -> Means:
    """Means of all trials; computed are those that have rows in parts that came or went since an earlier moment.

    Args:
        reports: all rows there are.
        replicates: how many a trial has.
        first_trial: rows of trials with a lower number do not count.
        earlier: means of the same study, if there are any.
    """
    before = earlier.trials if earlier else {}
    trials = {
        part: before[part] if part in before else np.unique(rows["trial"].to_numpy())
        for part, rows in reports.segments.items()
    }
    changed = [trials[part] for part in trials.keys() - before.keys()]
    changed += [before[part] for part in before.keys() - trials.keys()]
    if earlier and not changed:
        return earlier
    if not reports.segments:
        return Means(means_over_replicates(pd.DataFrame(columns=KEY), replicates), trials)
    keys = reports.frame(["trial", "seed", "step"])
    is_changed = keys["trial"].isin(np.unique(np.concatenate(changed))) & (keys["trial"] >= first_trial)
    last = _last_steps(keys[is_changed], replicates)
    rows = reports.frame(is_wanted=(is_changed & (keys["step"] == keys["trial"].map(last))).to_numpy())
    table = means_over_replicates(rows[sorted(rows)], replicates)
    if earlier:
        stays = earlier.table[~earlier.table["trial"].isin(np.concatenate(changed))]
        table = _merged(stays, table)
    return Means(table, trials)


def mean_over_replicates(reports: pd.DataFrame, replicates: int) -> dict[str, Any]:
    """Mean and spread at the last step that all replicates reported; empty where there is no report yet.

    Where no step has all of them, as in a trial that halving stopped, it is the last that most of them reported.

    Args:
        reports: of one trial.
        replicates: how many it has.

    Returns:
        `step`, `replicates` that the means are over, each metric, its standard deviation over these in `<metric>/sd`,
        and half the width of its 90 % interval in `<metric>/ci`.
    """
    if reports.empty:
        return {}
    means = means_over_replicates(reports.assign(trial=0), replicates)
    summary: dict[str, Any] = means.drop(columns="trial").to_dict("records")[0]
    return summary


def means_over_replicates(reports: pd.DataFrame, replicates: int) -> pd.DataFrame:
    """The same of many trials, one row each; a metric that a trial has no value of is not a number."""
    reports = coalesced(reports, ["trial", "seed", "step"])
    last = _last_steps(reports, replicates)
    rows = reports[reports["step"] == reports["trial"].map(last)]
    metrics = [column for column in rows if column not in _NOT_METRICS and rows[column].notna().any()]
    spread_out = [metric for metric in metrics if not metric.endswith(DETAILS)]
    means, counts = _means(rows, metrics)
    spreads = rows.groupby("trial")[spread_out].std(ddof=1).to_numpy(dtype=float)
    halves = half_width(spreads, counts[:, [metric in set(spread_out) for metric in metrics]])
    ends = {"": metrics, "/sd": spread_out, "/ci": spread_out}
    names = [f"{metric}{end}" for end, those in ends.items() for metric in those]
    table = pd.DataFrame(np.concatenate([means, spreads, halves], axis=1), columns=names)[_with_spread(metrics)]
    sizes = rows.groupby("trial").size()
    for place, (name, values) in enumerate({"trial": last.index, "step": last, "replicates": sizes}.items()):
        table.insert(place, name, values.to_numpy())
    return table


def _means(rows: pd.DataFrame, metrics: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Means of each trial, and how many values they are of, [trials, metrics].

    Sums are compensated (Kahan), in the order of the rows, as pandas does where a value is missing. Where none is, it
    sums otherwise, so that the last bit of a mean would depend on what other trials are computed at the same time.

    Args:
        rows: trials in order.
        metrics: columns that are averaged.
    """
    values_RC = rows[metrics].to_numpy(dtype=float)
    trial_R, trials = pd.factorize(rows["trial"])
    place_R = rows.groupby("trial").cumcount().to_numpy()
    total_TC, lost_TC = np.zeros((2, len(trials), len(metrics)))
    count_TC = np.zeros((len(trials), len(metrics)), dtype=int)
    for place in range(place_R.max(initial=-1) + 1):
        here = place_R == place
        there, value_TC = trial_R[here], values_RC[here]
        is_known_TC = ~np.isnan(value_TC)
        before_TC = total_TC[there]
        added_TC = value_TC - lost_TC[there]
        after_TC = before_TC + added_TC
        total_TC[there] = np.where(is_known_TC, after_TC, before_TC)
        lost_TC[there] = np.where(is_known_TC, np.nan_to_num(after_TC - before_TC - added_TC), lost_TC[there])
        count_TC[there] += is_known_TC
    with np.errstate(invalid="ignore"):
        return total_TC / count_TC, count_TC


def coalesced(rows: pd.DataFrame, key: list[str]) -> pd.DataFrame:
    """One row a key, by key: of each column what was written last, since a metric may be computed later than others.

    A metric of a later version replaces that of earlier ones. The run is the first, which trained.
    """
    if rows[key].isna().any(axis=None):
        rows = rows.dropna(subset=key)
    rows = rows[[*key, *(column for column in rows if column not in key)]]
    is_repeated = rows.duplicated(key, keep=False)
    if is_repeated.any():
        groups = rows[is_repeated].sort_values("metric_version", kind="stable").groupby(key)
        together = groups.last()
        if "run" in together:
            together["run"] = groups["run"].first()
        rows = pd.concat([rows[~is_repeated], together.reset_index()])
    return rows.sort_values(key, kind="stable", ignore_index=True)


def _last_steps(reports: pd.DataFrame, replicates: int) -> pd.Series:
    """The step that means are taken at, by trial."""
    seeds = reports.groupby(["trial", "step"])["seed"].nunique().reset_index()
    needed = seeds.groupby("trial")["seed"].transform("max").clip(upper=replicates)
    return seeds[seeds["seed"] >= needed].groupby("trial")["step"].max()


def _merged(some: pd.DataFrame, others: pd.DataFrame) -> pd.DataFrame:
    """Means of some trials and of others as those of all, computed at once, would be."""
    if some.empty:
        return others
    table = some if others.empty else pd.concat([some, others])
    names = set(table)
    # A metric is what has a spread, or says how sure another is; the columns of its spread go with it.
    metrics = [name for name in sorted(names) if f"{name}/sd" in names or name.endswith(DETAILS)]
    columns = _with_spread([name for name in metrics if table[name].notna().any()])
    return table[["trial", "step", "replicates", *columns]].sort_values("trial", ignore_index=True)


def _with_spread(metrics: Iterable[str]) -> list[str]:
    """Names of the columns of means, in order."""
    return [
        name
        for metric in metrics
        for name in ([metric] if metric.endswith(DETAILS) else [metric, f"{metric}/sd", f"{metric}/ci"])
    ]
