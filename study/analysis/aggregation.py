"""Aggregation of reports over a trial's replicates: means, standard deviations and intervals.

A trial's means are taken at the last budget that all of its replicates reached; if no budget was reached by all, at the
last one that most of them reached. They depend on the reports of this trial alone.

T is trials, R rows of reports, C metrics.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd

from study.analysis.statistics import ci_half_width
from study.store.tables import SegmentId, TableRows

REPORT_KEY = ["trial", "seed", "step", "metric_version"]
"""Columns that identify a report."""

# Standard error of another metric over clips, or its best possible value: averaged over replicates, without a spread.
_AUXILIARY_SUFFIXES = ("/clips_se", "/floor")
# Columns that describe another metric.
_UNCERTAINTY_SUFFIXES = ("/sd", "/ci", *_AUXILIARY_SUFFIXES)


Spread = Literal["ci", "sd"]
"""What error bars show: the 90 % interval of a mean over replicates, or the standard deviation of the replicates."""


class Aggregates(NamedTuple):
    """Result of `aggregate_trials` for all trials, and the trials that have rows in each segment of the reports."""

    table: pd.DataFrame
    trials: Mapping[SegmentId, np.ndarray]


def metric_columns(table: pd.DataFrame) -> list[str]:
    """Return the columns of results that are metrics, without those that describe another metric's uncertainty."""
    names = [str(name) for name in table if "/" in str(name) and not str(name).startswith("config/")]
    return [name for name in names if not name.endswith(_UNCERTAINTY_SUFFIXES)]


def mean_and_spread(rows: pd.DataFrame, metric: str, spread: Spread = "ci") -> dict[str, pd.Series]:
    """Return `mean`, and `low` and `high`, its error bar over replicates; these are NaN for a single replicate.

    The error bar is the 90 % interval of the mean, or with the spread "sd" one standard deviation below and above it.
    """
    mean = rows[metric].astype(float)
    half = rows[f"{metric}/{spread}"].astype(float) if f"{metric}/{spread}" in rows else np.nan
    return {"mean": mean, "low": mean - half, "high": mean + half}


def update_aggregates(reports: TableRows, replicates: int, previous: Aggregates | None) -> Aggregates:
    """Aggregate all trials; only those with rows in new or deleted segments are computed again."""
    before = previous.trials if previous else {}
    trials = {
        segment: before[segment] if segment in before else np.unique(rows["trial"].to_numpy())
        for segment, rows in reports.segments.items()
    }
    changed = [trials[segment] for segment in trials.keys() - before.keys()]
    changed += [before[segment] for segment in before.keys() - trials.keys()]
    if previous and not changed:
        return previous
    if not reports.segments:
        return Aggregates(aggregate_trials(pd.DataFrame(columns=REPORT_KEY), replicates), trials)
    keys = reports.frame(["trial", "seed", "step"])
    is_changed = keys["trial"].isin(np.unique(np.concatenate(changed)))
    step = _aggregation_steps(keys[is_changed], replicates)
    rows = reports.frame(is_wanted=(is_changed & (keys["step"] == keys["trial"].map(step))).to_numpy())
    table = aggregate_trials(rows[sorted(rows)], replicates)
    if previous:
        unchanged = previous.table[~previous.table["trial"].isin(np.concatenate(changed))]
        table = _concatenated(unchanged, table)
    return Aggregates(table, trials)


def aggregate_trial(reports: pd.DataFrame, replicates: int) -> dict[str, Any]:
    """Return the row of `aggregate_trials` for the reports of one trial; an empty dictionary without reports."""
    if reports.empty:
        return {}
    means = aggregate_trials(reports.assign(trial=0), replicates)
    summary: dict[str, Any] = means.drop(columns="trial").to_dict("records")[0]
    return summary


def aggregate_trials(reports: pd.DataFrame, replicates: int) -> pd.DataFrame:
    """Aggregate the reports of many trials, one row each. `replicates` is the number of replicates of a complete trial.

    Returns:
        `trial`; `step`; `replicates`, the number that the means are over; each metric, its standard deviation over
        these replicates in `<metric>/sd`, and half the width of its 90 % interval in `<metric>/ci`.
    """
    reports = merge_duplicates(reports, ["trial", "seed", "step"])
    step = _aggregation_steps(reports, replicates)
    rows = reports[reports["step"] == reports["trial"].map(step)]
    metrics = [name for name in rows if name not in {*REPORT_KEY, "time", "run"} and rows[name].notna().any()]
    with_spread = [metric for metric in metrics if not metric.endswith(_AUXILIARY_SUFFIXES)]
    mean_TC, count_TC = _means(rows, metrics)
    sd_TC = rows.groupby("trial")[with_spread].std(ddof=1).to_numpy(dtype=float)
    ci_TC = ci_half_width(sd_TC, count_TC[:, [metric in set(with_spread) for metric in metrics]])
    suffixes = {"": metrics, "/sd": with_spread, "/ci": with_spread}
    columns = [f"{metric}{suffix}" for suffix, names in suffixes.items() for metric in names]
    table = pd.DataFrame(np.concatenate([mean_TC, sd_TC, ci_TC], axis=1), columns=columns)[_columns(metrics)]
    counts = rows.groupby("trial").size()
    for position, (name, values) in enumerate({"trial": step.index, "step": step, "replicates": counts}.items()):
        table.insert(position, name, values.to_numpy())
    return table


def merge_duplicates(rows: pd.DataFrame, key: list[str]) -> pd.DataFrame:
    """Merge the rows of each key into one, and sort by key.

    Each column keeps the value of the highest metric version, and of these the last that was written, because metrics
    may be added later. `run` keeps the first value, the run that trained.
    """
    if rows[key].isna().any(axis=None):
        rows = rows.dropna(subset=key)
    rows = rows[[*key, *(column for column in rows if column not in key)]]
    is_duplicate = rows.duplicated(key, keep=False)
    if is_duplicate.any():
        groups = rows[is_duplicate].sort_values("metric_version", kind="stable").groupby(key)
        merged = groups.last()
        if "run" in merged:
            merged["run"] = groups["run"].first()
        rows = pd.concat([rows[~is_duplicate], merged.reset_index()])
    return rows.sort_values(key, kind="stable", ignore_index=True)


def _means(rows: pd.DataFrame, metrics: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Return the means of each trial, and the numbers of values that they are over, [T, C].

    Sums are compensated (Kahan) and follow the order of the rows, which are sorted by trial. pandas does so only if a
    value is missing, so that the last bit of a mean would depend on the other trials of the same call.
    """
    value_RC = rows[metrics].to_numpy(dtype=float)
    trial_R, trials = pd.factorize(rows["trial"])
    position_R = rows.groupby("trial").cumcount().to_numpy()
    sum_TC, compensation_TC = np.zeros((2, len(trials), len(metrics)))
    count_TC = np.zeros((len(trials), len(metrics)), dtype=int)
    for position in range(position_R.max(initial=-1) + 1):
        is_current_R = position_R == position
        trial_P, value_PC = trial_R[is_current_R], value_RC[is_current_R]  # P is the trials that have such a row
        has_value_PC = ~np.isnan(value_PC)
        before_PC = sum_TC[trial_P]
        added_PC = value_PC - compensation_TC[trial_P]
        after_PC = before_PC + added_PC
        sum_TC[trial_P] = np.where(has_value_PC, after_PC, before_PC)
        # An infinite sum has no rounding error; the difference of infinities is undefined.
        after_PC, before_PC, added_PC = np.where(np.isfinite(after_PC), [after_PC, before_PC, added_PC], 0.0)
        rest_PC = after_PC - before_PC - added_PC
        compensation_TC[trial_P] = np.where(has_value_PC, rest_PC, compensation_TC[trial_P])
        count_TC[trial_P] += has_value_PC
    with np.errstate(invalid="ignore"):
        return sum_TC / count_TC, count_TC


def _aggregation_steps(reports: pd.DataFrame, replicates: int) -> pd.Series:
    """Return the last step with the largest number of replicates, by trial."""
    seeds = reports.groupby(["trial", "step"])["seed"].nunique().reset_index()
    needed = seeds.groupby("trial")["seed"].transform("max").clip(upper=replicates)
    return seeds[seeds["seed"] >= needed].groupby("trial")["step"].max()


def _concatenated(first: pd.DataFrame, second: pd.DataFrame) -> pd.DataFrame:
    """Return the table that `aggregate_trials` gives for the trials of both tables."""
    if first.empty:
        return second
    table = first if second.empty else pd.concat([first, second])
    names = set(table)
    metrics = [name for name in sorted(names) if f"{name}/sd" in names or name.endswith(_AUXILIARY_SUFFIXES)]
    columns = _columns([name for name in metrics if table[name].notna().any()])
    return table[["trial", "step", "replicates", *columns]].sort_values("trial", ignore_index=True)


def _columns(metrics: Iterable[str]) -> list[str]:
    """Return the columns of an aggregated table, in order."""
    return [
        name
        for metric in metrics
        for name in ([metric] if metric.endswith(_AUXILIARY_SUFFIXES) else [metric, f"{metric}/sd", f"{metric}/ci"])
    ]
