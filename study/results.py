"""A study as data frames, read from the store alone: trials, reports, results and the front.

A result is a mean over a trial's replicates at the last budget that all of them reached, with its spread in
`<column>/sd`.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from study.recorder import is_live
from study.spec import Spec
from study.store import Document, StudyStore

__all__ = ["StudyResults", "mean_over_replicates", "pareto_front"]

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
        if not self.is_live:
            rows["state"] = rows["state"].replace("running", "interrupted")
        return rows

    def reports(self) -> pd.DataFrame:
        """One row a replicate and report; one that was written twice counts once."""
        rows = self.store.read("reports")
        if rows.empty:
            return pd.DataFrame(columns=_KEY)
        return rows.drop_duplicates(_KEY, keep="last").sort_values(_KEY, ignore_index=True)

    def results(self) -> pd.DataFrame:
        """One row a trial: configuration, state, and means with spread."""
        trials, reports = self.trials(), self.reports()
        summaries = [
            {"trial": trial, **mean_over_replicates(group, self.spec.replicates)}
            for trial, group in reports.groupby("trial")
        ]
        keep = ["trial", "state", "error", *(column for column in trials if str(column).startswith("config/"))]
        summary = pd.DataFrame(summaries) if summaries else pd.DataFrame(columns=["trial", "step", "replicates"])
        return trials[keep].merge(summary, on="trial", how="left")

    def front(self, results: pd.DataFrame | None = None) -> pd.DataFrame:
        """The complete trials that no other beats in all objectives, best first in the first objective."""
        results = self.results() if results is None else results
        names = list(self.spec.objectives)
        if any(name not in results for name in names):
            return results.iloc[0:0]
        mature = results[results["state"] == "complete"].dropna(subset=names)
        front = mature[pareto_front(mature, self.spec.objectives)]
        return front.sort_values(names[0], ascending=self.spec.objectives[names[0]] == "min", ignore_index=True)


def mean_over_replicates(reports: pd.DataFrame, replicates: int) -> dict[str, Any]:
    """Mean and spread at the last step that all replicates reported; empty where there is none yet.

    Args:
        reports: of one trial.
        replicates: how many it has.

    Returns:
        `step`, `replicates`, each metric, and its standard deviation over replicates in `<metric>/sd`.
    """
    # A later metric version replaces earlier ones of the same replicate and step.
    reports = reports.sort_values("metric_version").drop_duplicates(["seed", "step"], keep="last")
    seeds_at = reports.groupby("step")["seed"].nunique()
    full = seeds_at[seeds_at >= replicates]
    if full.empty:
        return {}
    step = int(full.index.max())
    rows = reports[reports["step"] == step]
    metrics = [column for column in rows if column not in _NOT_METRICS]
    means, spreads = rows[metrics].mean(), rows[metrics].std(ddof=1)
    summary: dict[str, Any] = {"step": step, "replicates": len(rows)}
    for metric in metrics:
        if not np.isnan(means[metric]):
            summary[metric], summary[f"{metric}/sd"] = float(means[metric]), float(spreads[metric])
    return summary


def pareto_front(values: pd.DataFrame, objectives: Mapping[str, str]) -> Sequence[bool]:
    """For each row whether no other is at least as good in every objective and better in one."""
    signs = np.array([1.0 if mode == "min" else -1.0 for mode in objectives.values()])
    costs = values[list(objectives)].to_numpy(dtype=float) * signs
    return [not bool((np.all(costs <= cost, axis=1) & np.any(costs < cost, axis=1)).any()) for cost in costs]
