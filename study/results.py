"""A study as data frames, read from the store alone: trials, reports, results, the front and how it grew.

A result is a mean over a trial's replicates at the last budget that all of them reached, or most of them where none was
reached by all, with its spread in `<column>/sd` and its interval in `<column>/ci`.
"""

import math
from typing import Any

import numpy as np
import pandas as pd

from study.certainty import front_probabilities, half_width
from study.contenders import contenders
from study.pareto import hypervolume, pareto_front
from study.progress import costs_of, progress_of, reference_of
from study.recorder import is_live
from study.spec import Spec
from study.store import Document, StudyStore

__all__ = [
    "PLAIN_VAE",
    "STATES",
    "StudyResults",
    "mean_over_replicates",
    "metric_columns",
    "means_over_replicates",
]

PLAIN_VAE, UNTRAINED = -1, -2
"""Numbers of what trials are compared with. The first is trained as they are, but no sampler knows of it."""

STATES = ("complete", "running", "interrupted", "pruned", "failed")
_KEY = ["trial", "seed", "step", "metric_version"]
_NOT_METRICS = {*_KEY, "time", "launch"}
# What says how sure another column is, or how good it could be.
_DETAILS = ("/clips_se", "/floor")
_SAY_HOW_SURE = ("/sd", "/ci", *_DETAILS)


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
        rows = self._last_rows()
        rows = rows[rows["trial"] > PLAIN_VAE] if len(rows) else rows
        if rows.empty:
            return pd.DataFrame(columns=["trial", "state", "error", "step"])
        rows = rows.sort_values("trial", ignore_index=True)
        rows = _ordered(rows, ["trial", "state", "error", "step", *(f"config/{name}" for name in self.spec.space)])
        if not self.is_live:
            rows["state"] = rows["state"].replace("running", "interrupted")
        return rows

    def reports(self) -> pd.DataFrame:
        """One row a replicate and report; one that was written twice counts once."""
        rows = self._reports()
        return rows[rows["trial"] > PLAIN_VAE].reset_index(drop=True)

    def results(self) -> pd.DataFrame:
        """One row a trial: configuration, state, and means with spread."""
        trials = self.trials()
        keep = ["trial", "state", "error", *(column for column in trials if str(column).startswith("config/"))]
        return trials[keep].merge(means_over_replicates(self.reports(), self.spec.replicates), on="trial", how="left")

    @property
    def has_plain_vae(self) -> bool:
        """Whether the plain variational autoencoder is trained, or failed."""
        rows = self._last_rows()
        return bool(len(rows)) and bool(rows[rows["trial"] == PLAIN_VAE]["state"].isin(["complete", "failed"]).any())

    def baselines(self) -> pd.DataFrame:
        """What trials are compared with, in the columns of `results`, where known; the state says what it is.

        The plain variational autoencoder is the spec's own network, as wide as the widest trial, with all KL weights at
        one and no contrast, trained as every trial is. The untrained network is its beginning.
        """
        found = []
        if (untrained := self.store.baselines()) is not None:
            seeds, scores = untrained["replicates"], untrained["untrained"]
            spreads = {name: value for name, value in scores.items() if name.endswith("/sd")}
            intervals = {f"{name.removesuffix('/sd')}/ci": half_width(sd, seeds) for name, sd in spreads.items()}
            found.append(
                {"trial": UNTRAINED, "state": "untrained", "step": 0, "replicates": seeds} | scores | intervals
            )
        rows = self._reports()
        rows = rows[rows["trial"] == PLAIN_VAE]
        if len(rows) and (rows["step"].max() == self.spec.train.steps):
            found.append({"trial": PLAIN_VAE, "state": "plain VAE"} | mean_over_replicates(rows, self.spec.replicates))
        return pd.DataFrame(found)

    def front(self, results: pd.DataFrame | None = None) -> pd.DataFrame:
        """The complete trials that no other beats in all objectives, best first in the first objective."""
        results = self.results() if results is None else results
        names = list(self.spec.objectives)
        if any(name not in results for name in names):
            return results.iloc[0:0]
        mature = results[results["state"] == "complete"].dropna(subset=names)
        front = mature[np.array(pareto_front(mature, self.spec.objectives), dtype=bool)]  # an empty list picks columns
        return front.sort_values(names[0], ascending=self.spec.objectives[names[0]] == "min", ignore_index=True)

    def front_probability(self) -> pd.Series:
        """How probable it is that each complete trial is truly on the front, by trial."""
        reports, names = self.reports(), list(self.spec.objectives)
        trials = self.trials()
        complete = trials[trials["state"] == "complete"]["trial"]
        mature = reports[reports["trial"].isin(complete) & (reports["step"] == self.spec.train.steps)]
        if mature.empty or any(name not in mature for name in names):
            return pd.Series(dtype=float, name="front_probability", index=pd.Index([], name="trial"))
        return front_probabilities(_coalesced(mature, ["trial", "seed"]), self.spec.objectives)

    def unexamined(self) -> dict[str, list[tuple[int, int]]]:
        """Trial and seed of contenders and plain VAE that lack what `final` of the spec asks for, by its name."""
        found = contenders(self.results(), self.spec)
        reports = self._reports()
        reports = reports[reports["step"] == self.spec.train.steps]
        trials = sorted(found.front + found.near)
        if trials and (reports["trial"] == PLAIN_VAE).any():
            trials.append(PLAIN_VAE)
        wanted = [(trial, seed) for trial in trials for seed in self.spec.seeds]
        # What a replicate has when it has the rest of it.
        signs = {
            "test": "test/fidelity/log_mel_rmse_db",
            "samples": f"sampled_probe/{self.spec.shared_factors[0]}/both",
            "dci": "disentanglement/dci",
            "sound": "fidelity/stft_error",
        }
        missing = {}
        for name in self.spec.final:
            sign = signs[name]
            rows = reports.dropna(subset=[sign]) if sign in reports else reports.iloc[:0]
            there = set(zip(rows["trial"], rows["seed"], strict=True))
            missing[name] = [one for one in wanted if one not in there]
        return {name: replicates for name, replicates in missing.items() if replicates}

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

    def _last_rows(self) -> pd.DataFrame:
        rows = self.store.read("trials")
        return rows.drop_duplicates("trial", keep="last") if len(rows) else rows

    def _reports(self) -> pd.DataFrame:
        rows = self.store.read("reports")
        if rows.empty:
            return pd.DataFrame(columns=_KEY)
        return _ordered(_coalesced(rows, _KEY), _KEY)

    def progress(self) -> pd.DataFrame:
        """One row for each trial that completed, by time; its columns are those of `study.progress.progress_of`."""
        trials, reports = self.trials(), self.store.read("reports")
        reports = reports[reports["trial"] > PLAIN_VAE] if len(reports) else reports
        complete = trials[trials["state"] == "complete"]
        names = [name for name in self.spec.objectives if name in reports]
        if not complete.empty:
            mature = reports[reports["trial"].isin(complete["trial"])][[*_KEY, *names]]
            means = means_over_replicates(mature, self.spec.replicates)
            complete = complete[["trial", "time", "launch"]].merge(means, on="trial", how="left")
        return progress_of(complete, reports, self.launches, self.spec.objectives, self.reference())


def metric_columns(table: pd.DataFrame) -> list[str]:
    """Columns of results that are metrics, without those that say how sure these are."""
    names = (str(name) for name in table)
    return [
        name for name in names if "/" in name and not name.startswith("config/") and not name.endswith(_SAY_HOW_SURE)
    ]


def _coalesced(rows: pd.DataFrame, key: list[str]) -> pd.DataFrame:
    """One row a key, by key: of each column what was written last, since a metric may be computed later than others.

    Its launch is the first, which trained.
    """
    groups = rows.groupby(key, sort=True)
    found = groups.last()
    if "launch" in found:
        found["launch"] = groups["launch"].first()
    return found.reset_index()


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
    # A metric of a later version replaces that of earlier ones of the same replicate and step.
    key = ["trial", "seed", "step"]
    reports = _coalesced(reports.sort_values("metric_version", kind="stable"), key)
    seeds = reports.groupby(["trial", "step"])["seed"].nunique().reset_index()
    needed = seeds.groupby("trial")["seed"].transform("max").clip(upper=replicates)
    last = seeds[seeds["seed"] >= needed].groupby("trial")["step"].max()
    rows = reports[reports["step"] == reports["trial"].map(last)]
    metrics = [column for column in rows if column not in _NOT_METRICS and rows[column].notna().any()]
    groups = rows.groupby("trial")
    means, spreads = groups[metrics].mean(), groups[metrics].std(ddof=1)
    summaries: dict[str, pd.Series] = {"step": last, "replicates": groups.size()}
    for metric in metrics:
        summaries[metric] = means[metric]
        if not metric.endswith(_DETAILS):
            summaries[f"{metric}/sd"] = spreads[metric]
            summaries[f"{metric}/ci"] = half_width(spreads[metric], groups[metric].count())
    return pd.DataFrame(summaries).rename_axis("trial").reset_index()
