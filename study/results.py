"""A study as data frames, read from the store alone: trials, reports, results, the front and how it grew.

A result is a mean over a trial's replicates at the last budget that all of them reached, or most of them where none was
reached by all, with its spread in `<column>/sd`.
"""

import math
from typing import Any

import numpy as np
import pandas as pd

from study.pareto import hypervolume, pareto_front
from study.progress import costs_of, progress_of, reference_of
from study.recorder import is_live
from study.spec import Spec
from study.store import Document, StudyStore

__all__ = ["StudyResults", "mean_over_replicates", "means_over_replicates"]

STATES = ("complete", "running", "interrupted", "pruned", "failed")
_KEY = ["trial", "seed", "step", "metric_version"]
_NOT_METRICS = {*_KEY, "time", "launch"}


class StudyResults:
    """What is known of a study now.

    Args:
        store: the study.

    Raises:
        UserError: when there is no such study.
    """

    def __init__(self, store: StudyStore) -> None:
        self.store = store
        self.document: Document = store.document()
        self.spec: Spec = self.document.spec
        self.launches = store.launches()

    @property
    def is_live(self) -> bool:
        """Whether a launch is at work."""
        return any(is_live(launch) for launch in self.launches.values())

    @property
    def target(self) -> int:
        """How many trials the study was last asked for."""
        return max((int(launch["trials"]) for launch in self.launches.values()), default=self.spec.search.trials or 0)

    def trials(self) -> pd.DataFrame:
        """One row a trial: the last that was written of it."""
        rows = self.store.read("trials")
        if rows.empty:
            return pd.DataFrame(columns=["trial", "state", "error", "step"])
        rows = rows.drop_duplicates("trial", keep="last").sort_values("trial", ignore_index=True)
        rows = _ordered(rows, ["trial", "state", "error", "step", *(f"config/{name}" for name in self.spec.space)])
        if not self.is_live:
            rows["state"] = rows["state"].replace("running", "interrupted")
        return rows

    def reports(self) -> pd.DataFrame:
        """One row a replicate and report; one that was written twice counts once."""
        rows = self.store.read("reports")
        if rows.empty:
            return pd.DataFrame(columns=_KEY)
        rows = rows.drop_duplicates(_KEY, keep="last").sort_values(_KEY, ignore_index=True)
        return _ordered(rows, _KEY)

    def results(self) -> pd.DataFrame:
        """One row a trial: configuration, state, and means with spread."""
        trials = self.trials()
        keep = ["trial", "state", "error", *(column for column in trials if str(column).startswith("config/"))]
        return trials[keep].merge(means_over_replicates(self.reports(), self.spec.replicates), on="trial", how="left")

    def front(self, results: pd.DataFrame | None = None) -> pd.DataFrame:
        """The complete trials that no other beats in all objectives, best first in the first objective."""
        results = self.results() if results is None else results
        names = list(self.spec.objectives)
        if any(name not in results for name in names):
            return results.iloc[0:0]
        mature = results[results["state"] == "complete"].dropna(subset=names)
        front = mature[np.array(pareto_front(mature, self.spec.objectives), dtype=bool)]  # an empty list picks columns
        return front.sort_values(names[0], ascending=self.spec.objectives[names[0]] == "min", ignore_index=True)

    def reference(self) -> np.ndarray | None:
        """Costs of the untrained network, from which hypervolumes are measured; none where it was not scored."""
        return reference_of(self.store.baselines(), self.spec.objectives)

    def hypervolume(self, front: pd.DataFrame | None = None) -> float:
        """Of the front now, as in `progress`."""
        reference = self.reference()
        if reference is None:
            return math.nan
        return hypervolume(costs_of(self.front() if front is None else front, self.spec.objectives), reference)

    def trial_steps(self) -> int:
        """Steps that all replicates have trained, as far as they have reported."""
        reports = self.reports()
        return 0 if reports.empty else int(reports.groupby(["trial", "seed"])["step"].max().sum())

    def progress(self) -> pd.DataFrame:
        """One row for each trial that completed, by time; its columns are those of `study.progress.progress_of`."""
        trials, reports = self.trials(), self.store.read("reports")
        complete = trials[trials["state"] == "complete"]
        names = [name for name in self.spec.objectives if name in reports]
        if not complete.empty:
            mature = reports[reports["trial"].isin(complete["trial"])][[*_KEY, *names]]
            means = means_over_replicates(mature, self.spec.replicates)
            complete = complete[["trial", "time", "launch"]].merge(means, on="trial", how="left")
        return progress_of(complete, reports, self.launches, self.spec.objectives, self.reference())


def _ordered(rows: pd.DataFrame, first: list[str]) -> pd.DataFrame:
    """Some columns first, the others by name: in which order rows came to have them says nothing."""
    known = [column for column in first if column in rows]
    return rows[[*known, *sorted(set(rows.columns) - set(known))]]


def mean_over_replicates(reports: pd.DataFrame, replicates: int) -> dict[str, Any]:
    """Mean and spread at the last step that all replicates reported; empty where there is no report yet.

    Where no step has all of them, as in a trial that halving stopped, it is the last that most of them reported.

    Args:
        reports: of one trial.
        replicates: how many it has.

    Returns:
        `step`, `replicates` that the means are over, each metric, and its standard deviation over these in
        `<metric>/sd`.
    """
    if reports.empty:
        return {}
    means = means_over_replicates(reports.assign(trial=0), replicates)
    summary: dict[str, Any] = means.drop(columns="trial").to_dict("records")[0]
    return summary


def means_over_replicates(reports: pd.DataFrame, replicates: int) -> pd.DataFrame:
    """The same of many trials, one row each; a metric that a trial has no value of is not a number."""
    # A later metric version replaces earlier ones of the same replicate and step.
    key = ["trial", "seed", "step"]
    reports = reports.sort_values("metric_version", kind="stable").drop_duplicates(key, keep="last")
    seeds = reports.groupby(["trial", "step"])["seed"].nunique().reset_index()
    needed = seeds.groupby("trial")["seed"].transform("max").clip(upper=replicates)
    last = seeds[seeds["seed"] >= needed].groupby("trial")["step"].max()
    rows = reports[reports["step"] == reports["trial"].map(last)]
    metrics = [column for column in rows if column not in _NOT_METRICS and rows[column].notna().any()]
    groups = rows.groupby("trial")
    means, spreads = groups[metrics].mean(), groups[metrics].std(ddof=1)
    summaries: dict[str, pd.Series] = {"step": last, "replicates": groups.size()}
    for metric in metrics:
        summaries |= {metric: means[metric], f"{metric}/sd": spreads[metric]}
    return pd.DataFrame(summaries).rename_axis("trial").reset_index()
