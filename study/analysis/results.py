"""A study as data frames, read from the store alone: trials, reports, results, the front and how it grew.

A result is a mean over a trial's replicates at the last budget that all of them reached, or most of them where none was
reached by all, with its spread in `<column>/sd` and its interval in `<column>/ci`.
"""

import math
from collections.abc import Collection, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from study.analysis.aggregation import DETAILS, KEY, coalesced, mean_over_replicates, means_of
from study.analysis.front_candidates import contenders
from study.analysis.pareto import costs_of, hypervolume, pareto_front
from study.analysis.progress import progress_of, reference_of
from study.analysis.statistics import front_probabilities, half_width
from study.spec import Spec
from study.store import StudyMetadata, StudyStore
from study.store.lease import is_live
from study.store.tables import TableRows

__all__ = ["PLAIN_VAE", "STATES", "StudyResults", "metric_columns", "trial_name"]

PLAIN_VAE, UNTRAINED = -1, -2
"""Numbers of what trials are compared with. The first is trained as they are, but no sampler knows of it."""

STATES = ("complete", "running", "interrupted", "pruned", "failed")
_SAY_HOW_SURE = ("/sd", "/ci", *DETAILS)


def trial_name(trial: int) -> str:
    """What a trial is called in a sentence."""
    return "the plain VAE" if trial == PLAIN_VAE else f"trial {trial}"


class StudyResults:
    """What is known of a study at one moment: each table is read once, when it is first asked for.

    Every call answers with a data frame of the caller's own. Whoever wants to know what came since makes another
    `StudyResults`; with a store that has a cache, that reads and computes only what is new.

    Args:
        store: the study.

    Raises:
        UserError: when there is no such study.
    """

    def __init__(self, store: StudyStore) -> None:
        self.store = store
        self.metadata: StudyMetadata = store.metadata()
        self.spec: Spec = self.metadata.spec
        self.runs = store.runs()

    @property
    def is_live(self) -> bool:
        """Whether a run is at work."""
        return bool(self.live)

    @cached_property
    def live(self) -> list[int]:
        """Which runs are at work; there may be one."""
        return [number for number, run in self.runs.items() if is_live(run, self.store.objects.now)]

    @property
    def target(self) -> int:
        """How many trials the study was last asked for."""
        return max((int(run["trials"]) for run in self.runs.values()), default=self.spec.search.trials or 0)

    @property
    def size(self) -> tuple[int, int]:
        """How many rows trials and reports have: another one when there is something new to see."""
        return len(self._trial_rows), len(self._report_rows)

    def trials(self) -> pd.DataFrame:
        """One row a trial: the last that was written of it."""
        return self._trials.copy(deep=False)

    def reports(self, trials: Collection[int] | None = None) -> pd.DataFrame:
        """One row a replicate and report; one that was written twice counts once.

        Args:
            trials: whose; of all by default, which in a large study is much.
        """
        rows = self._reports(of=trials)
        return rows[rows["trial"] > PLAIN_VAE].reset_index(drop=True)

    def steps(self) -> pd.DataFrame:
        """`trial`, `seed`, `step` and `time` of all reports of trials, in the order in which they came."""
        rows = self._report_rows.frame(["trial", "seed", "step", "time"])
        return rows[rows["trial"] > PLAIN_VAE].reset_index(drop=True) if len(rows) else rows

    def results(self) -> pd.DataFrame:
        """One row a trial: configuration, state, and means with spread."""
        return self._results.copy(deep=False)

    @property
    def has_plain_vae(self) -> bool:
        """Whether the plain variational autoencoder is trained, or failed."""
        rows = self._last_rows
        return bool(len(rows)) and bool(rows[rows["trial"] == PLAIN_VAE]["state"].isin(["complete", "failed"]).any())

    def baselines(self) -> pd.DataFrame:
        """What trials are compared with, in the columns of `results`, where known; the state says what it is.

        The plain variational autoencoder is the spec's own network, as wide as the widest trial, with all KL weights at
        one and no contrast, trained as every trial is. The untrained network is its beginning.
        """
        found = []
        if (untrained := self._baselines) is not None:
            seeds, scores = untrained["replicates"], untrained["untrained"]
            spreads = {name: value for name, value in scores.items() if name.endswith("/sd")}
            intervals = {f"{name.removesuffix('/sd')}/ci": half_width(sd, seeds) for name, sd in spreads.items()}
            found.append(
                {"trial": UNTRAINED, "state": "untrained", "step": 0, "replicates": seeds} | scores | intervals
            )
        rows = self._reports(of=[PLAIN_VAE])
        if len(rows) and (rows["step"].max() == self.spec.train.steps):
            found.append({"trial": PLAIN_VAE, "state": "plain VAE"} | mean_over_replicates(rows, self.spec.replicates))
        return pd.DataFrame(found)

    def front(self, results: pd.DataFrame | None = None) -> pd.DataFrame:
        """The complete trials that no other beats in all objectives, best first in the first objective."""
        results = self.results() if results is None else results
        names = list(self.spec.objectives)
        if any(name not in results for name in names):
            return results.iloc[0:0]
        mature = np.flatnonzero((results["state"] == "complete") & results[names].notna().all(axis=1))
        is_front = np.array(pareto_front(results[names].iloc[mature], self.spec.objectives), dtype=bool)
        front = results.iloc[mature[is_front]]
        return front.sort_values(names[0], ascending=self.spec.objectives[names[0]] == "min", ignore_index=True)

    def front_probability(self) -> pd.Series:
        """How probable it is that each complete trial is truly on the front, by trial."""
        names = list(self.spec.objectives)
        trials = self._trials
        complete = trials[trials["state"] == "complete"]["trial"]
        reports = self._reports([*KEY, *names])
        mature = reports[reports["trial"].isin(complete) & (reports["step"] == self.spec.train.steps)]
        if mature.empty or any(name not in mature for name in names):
            return pd.Series(dtype=float, name="front_probability", index=pd.Index([], name="trial"))
        return front_probabilities(coalesced(mature, ["trial", "seed"]), self.spec.objectives)

    def unexamined(self) -> dict[str, list[tuple[int, int]]]:
        """Trial and seed of front candidates and plain VAE that lack `post_training` metrics, by metric group."""
        found = contenders(self._results, self.spec)
        trials = sorted(found.front + found.near)
        # What a replicate has when it has the rest of it.
        signs = {
            "test": "test/fidelity/log_mel_rmse_db",
            "samples": f"sampled_probe/{self.spec.shared_factors[0]}/both",
            "dci": "disentanglement/dci",
            "sound": "fidelity/stft_error",
        }
        reports = self._reports([*KEY, *signs.values()])
        reports = reports[reports["step"] == self.spec.train.steps]
        if trials and (reports["trial"] == PLAIN_VAE).any():
            trials.append(PLAIN_VAE)
        wanted = [(trial, seed) for trial in trials for seed in self.spec.seeds]
        missing = {}
        for name in self.spec.post_training:
            sign = signs[name]
            rows = reports.dropna(subset=[sign]) if sign in reports else reports.iloc[:0]
            there = set(zip(rows["trial"], rows["seed"], strict=True))
            missing[name] = [one for one in wanted if one not in there]
        return {name: replicates for name, replicates in missing.items() if replicates}

    def reference(self) -> np.ndarray | None:
        """Costs of the untrained network, from which hypervolumes are measured; none where it was not scored."""
        return reference_of(self._baselines, self.spec.objectives)

    def hypervolume(self, front: pd.DataFrame | None = None) -> float:
        """Of the front now, as in `progress`."""
        reference = self.reference()
        if reference is None:
            return math.nan
        return hypervolume(costs_of(self.front() if front is None else front, self.spec.objectives), reference)

    def trial_steps(self) -> int:
        """Steps that all replicates have trained, as far as they have reported."""
        reports = self._report_rows.frame(["trial", "seed", "step"])
        if reports.empty:
            return 0
        return int(reports[reports["trial"] > PLAIN_VAE].groupby(["trial", "seed"])["step"].max().sum())

    def progress(self) -> pd.DataFrame:
        """One row for each trial that completed, by time; columns as of `study.analysis.progress.progress_of`."""
        reports = self._report_rows.frame(["trial", "seed", "step", "time"])
        reports = reports[reports["trial"] > PLAIN_VAE] if len(reports) else reports
        trials = self._trials
        complete = trials[trials["state"] == "complete"]
        if not complete.empty:
            means = self._means[["trial", *(name for name in self.spec.objectives if name in self._means)]]
            complete = complete[["trial", "time", "run"]].merge(means, on="trial", how="left")
        return progress_of(complete, reports, self.runs, self.live, self.spec.objectives, self.reference())

    @cached_property
    def _trial_rows(self) -> TableRows:
        return self.store.rows("trials")

    @cached_property
    def _report_rows(self) -> TableRows:
        len(self._trial_rows)  # read before, so that the reports of a trial that is complete there are here
        return self.store.rows("reports")

    @cached_property
    def _baselines(self) -> dict[str, Any] | None:
        return self.store.baselines()

    @cached_property
    def _last_rows(self) -> pd.DataFrame:
        rows = self._trial_rows.frame()
        return rows.drop_duplicates("trial", keep="last") if len(rows) else rows

    @cached_property
    def _trials(self) -> pd.DataFrame:
        rows = self._last_rows
        rows = rows[rows["trial"] > PLAIN_VAE] if len(rows) else rows
        if rows.empty:
            return pd.DataFrame(columns=["trial", "state", "error", "step"])
        rows = rows.sort_values("trial", ignore_index=True)
        rows = _ordered(rows, ["trial", "state", "error", "step", *(f"config/{name}" for name in self.spec.space)])
        if not self.is_live:
            rows["state"] = rows["state"].replace("running", "interrupted")
        return rows

    @cached_property
    def _means(self) -> pd.DataFrame:
        """As of `means_over_replicates`, of all trials."""
        cache = self.store.cache
        means = means_of(self._report_rows, self.spec.replicates, PLAIN_VAE + 1, cache.means if cache else None)
        if cache:
            cache.means = means
        return means.table

    @cached_property
    def _results(self) -> pd.DataFrame:
        keep = ["trial", "state", "error", *(column for column in self._trials if str(column).startswith("config/"))]
        return self._trials[keep].merge(self._means, on="trial", how="left")

    def _reports(self, columns: Sequence[str] | None = None, of: Collection[int] | None = None) -> pd.DataFrame:
        """One row a replicate and report, also of the plain VAE; of some columns, or some trials."""
        rows = self._report_rows
        if not rows.segments:
            return pd.DataFrame(columns=KEY)
        is_wanted = None if of is None else np.isin(rows.frame(["trial"])["trial"], list(of))
        return _ordered(coalesced(rows.frame(columns, is_wanted), KEY), KEY)


def metric_columns(table: pd.DataFrame) -> list[str]:
    """Columns of results that are metrics, without those that say how sure these are."""
    names = (str(name) for name in table)
    return [
        name for name in names if "/" in name and not name.startswith("config/") and not name.endswith(_SAY_HOW_SURE)
    ]


def _ordered(rows: pd.DataFrame, first: list[str]) -> pd.DataFrame:
    """Some columns first, the others by name: in which order rows came to have them says nothing."""
    known = [column for column in first if column in rows]
    return rows[[*known, *sorted(set(rows.columns) - set(known))]]
