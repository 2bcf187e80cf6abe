"""Results of a study as data frames, read from the store alone.

A result is a mean over a trial's replicates, with its standard deviation in `<column>/sd` and half the width of its
90 % interval in `<column>/ci`. `study.analysis.aggregation` describes at which budget it is taken.
"""

from collections.abc import Collection, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from study.analysis import aggregation
from study.analysis.aggregation import REPORT_KEY, merge_duplicates, metric_columns
from study.analysis.pareto import front_progress, hypervolume, pareto_front, reference_point, to_costs
from study.analysis.statistics import ci_half_width, front_probabilities
from study.errors import UserError, command_for, option
from study.formatting import suggestion
from study.spec import Baseline, Spec, TrialId
from study.store import StudyMetadata, StudyStore
from study.store.lease import is_live
from study.store.tables import SegmentId, TableRows

STATES = ("complete", "running", "interrupted", "pruned", "failed")


def trial_name(trial: TrialId) -> str:
    """Return the name of a trial or a baseline in a sentence."""
    return f"the {trial.label}" if isinstance(trial, Baseline) else f"trial {trial}"


class StudyResults:
    """State of a study at one moment. Each table is read once, when it is first needed.

    Every method returns a data frame that the caller may change. To see later changes, create a new `StudyResults`; if
    its store has a cache, only new objects are read and only changed means are computed.
    """

    def __init__(self, store: StudyStore) -> None:
        self.store = store
        self.metadata: StudyMetadata = store.metadata()
        self.spec: Spec = self.metadata.spec
        self.runs = store.runs()

    @property
    def is_live(self) -> bool:
        """Return whether a run is running."""
        return bool(self.live)

    @cached_property
    def live(self) -> list[int]:
        """Numbers of the runs that are running; normally at most one."""
        return [number for number, run in self.runs.items() if is_live(run, self.store.objects.now)]

    @property
    def target(self) -> int:
        """Number of trials that the last run was asked for."""
        return max((int(run["trials"]) for run in self.runs.values()), default=self.spec.search.trials or 0)

    @property
    def segments(self) -> frozenset[SegmentId]:
        """Names and etags of all objects with rows. They change when results are added, deleted or replaced."""
        return frozenset({*self._all_trial_rows.segments, *self._all_report_rows.segments})

    @property
    def size(self) -> tuple[int, int]:
        """Number of rows of trials and of reports. It changes when the study has new results."""
        return len(self._all_trial_rows), len(self._all_report_rows)

    def trials(self) -> pd.DataFrame:
        """Return a row for each trial, the last that was written."""
        return self._trials.copy(deep=False)

    def trial_events(self) -> pd.DataFrame:
        """Return `trial`, `state`, `time`, `run`, `error` and `trainer` of all changes of states, as written."""
        return self._all_trial_rows.of_trials().frame(["trial", "state", "time", "run", "error", "trainer"])

    def log(self) -> pd.DataFrame:
        """Return `time`, `run` and `line` of all lines that runs have logged, oldest first."""
        return self.store.read("log").reindex(columns=["time", "run", "line"])

    def reports(self, trials: Collection[int] | None = None, columns: Sequence[str] | None = None) -> pd.DataFrame:
        """Return a row for each replicate and budget; by default of all trials, which takes long in a large study.

        `columns` that the study lacks are left out; all columns by default.
        """
        rows = self._report_rows
        if not rows.segments:
            return pd.DataFrame(columns=REPORT_KEY)
        is_selected = None if trials is None else np.isin(rows.frame(["trial"])["trial"], list(trials))
        return _ordered(merge_duplicates(rows.frame(columns, is_selected), REPORT_KEY), REPORT_KEY)

    def plain_vae_reports(self) -> pd.DataFrame:
        """Return a row for each replicate and budget of the plain VAE."""
        rows = self._all_report_rows.of_baseline(Baseline.PLAIN_VAE).frame()
        key = [name for name in REPORT_KEY if name != "trial"]
        return _ordered(merge_duplicates(rows, key), key) if len(rows) else pd.DataFrame(columns=key)

    def steps(self) -> pd.DataFrame:
        """Return `trial`, `seed`, `step` and `time` of all reports of trials, in the order of writing."""
        return self._report_rows.frame(["trial", "seed", "step", "time"])

    def results(self) -> pd.DataFrame:
        """Return a row for each trial: configuration, state, and means with their spread."""
        return self._results.copy(deep=False)

    @property
    def has_plain_vae(self) -> bool:
        """Return whether the plain VAE is complete or failed."""
        states = self._all_trial_rows.of_baseline(Baseline.PLAIN_VAE).frame(["state"])
        return len(states) > 0 and states["state"].iloc[-1] in ("complete", "failed")

    def baselines(self) -> pd.DataFrame:
        """Return the baselines that have results: their name as `baseline`, and the columns of `results()`.

        The plain VAE is the spec's network with the width of the widest trial, all KL weights at 1 and no contrastive
        term, trained like a trial. The untrained network has its initial weights.
        """
        baselines: dict[Baseline, dict[str, Any]] = {}
        if (untrained := self._baselines) is not None:
            seeds, scores = untrained["replicates"], untrained["untrained"]
            sds = {name: value for name, value in scores.items() if name.endswith("/sd")}
            intervals = {f"{name.removesuffix('/sd')}/ci": ci_half_width(sd, seeds) for name, sd in sds.items()}
            baselines[Baseline.UNTRAINED] = {"step": 0, "replicates": seeds} | scores | intervals
        reports = self.plain_vae_reports()
        if len(reports) and (reports["step"].max() == self.spec.train.steps):
            baselines[Baseline.PLAIN_VAE] = aggregation.aggregate_trial(reports, self.spec.replicates)
        return pd.DataFrame(
            {"kind": "baseline", "baseline": baseline.value, "state": "complete", **row}
            for baseline, row in baselines.items()
        )

    def front(self, results: pd.DataFrame | None = None) -> pd.DataFrame:
        """Return the complete trials that no other dominates, best first in the first objective."""
        results = self.results() if results is None else results
        names = list(self.spec.objectives)
        if not set(names) <= set(results):
            return results.iloc[0:0]
        final = np.flatnonzero((results["state"] == "complete") & results[names].notna().all(axis=1))
        is_front = np.array(pareto_front(results[names].iloc[final], self.spec.objectives), dtype=bool)
        front = results.iloc[final[is_front]]
        return front.sort_values(names[0], ascending=self.spec.objectives[names[0]] == "min", ignore_index=True)

    def front_probability(self, seeds: int | None = None) -> pd.Series:
        """Return the probability that each complete trial is truly on the front, by trial.

        With `seeds`, it is what that many seeds would tell if the means and the spreads stayed as they are.
        """
        names = list(self.spec.objectives)
        complete = self._trials[self._trials["state"] == "complete"]["trial"]
        reports = self.reports(columns=[*REPORT_KEY, *names])
        final = reports[reports["trial"].isin(complete) & (reports["step"] == self.spec.train.steps)]
        if final.empty or any(name not in final for name in names):
            return pd.Series(dtype=float, name="front_probability", index=pd.Index([], name="trial"))
        return front_probabilities(merge_duplicates(final, ["trial", "seed"]), self.spec.objectives, seeds)

    def best_trial(self, metric: str) -> int:
        """Return the number of the complete trial that is best in a metric."""
        table = self.results()
        complete = table[table["state"] == "complete"].set_index("trial")
        if complete.empty:
            raise UserError(f"study {self.spec.name!r} has no complete trial yet")
        if metric not in metric_columns(table) or not pd.api.types.is_float_dtype(table[metric]):
            objectives, known = " or ".join(self.spec.objectives), suggestion(metric, metric_columns(table))
            rule = f"{option('metric', flag='--best')}: must be a metric of the study, such as {objectives}"
            raise UserError(f"{rule}; got {metric!r}; {known}")
        values = complete[metric].dropna()
        if values.empty:
            raise UserError(f"no complete trial of study {self.spec.name!r} has a value of {metric!r}")
        return int(values.idxmin() if self.spec.direction(metric) == "min" else values.idxmax())

    def reference(self) -> np.ndarray | None:
        """Return the costs of the untrained network, [M], the reference of hypervolumes; None if it was not scored."""
        return reference_point(self._baselines, self.spec.objectives)

    def hypervolume(self, front: pd.DataFrame | None = None) -> float:
        """Return the hypervolume between the current front and the untrained network."""
        front, reference = self.front() if front is None else front, self.reference()
        return np.nan if reference is None else hypervolume(to_costs(front, self.spec.objectives), reference)

    def trial_steps(self) -> int:
        """Return the number of steps that all replicates together have reported."""
        reports = self._report_rows.frame(["trial", "seed", "step"])
        return 0 if reports.empty else int(reports.groupby(["trial", "seed"])["step"].max().sum())

    def progress(self, reference: np.ndarray | None = None) -> pd.DataFrame:
        """Return a row for each complete trial, by time, with the columns of `front_progress`.

        The reference of hypervolumes is that of this study by default.
        """
        reference = self.reference() if reference is None else reference
        complete = self._trials[self._trials["state"] == "complete"]
        if not complete.empty:
            means = self._means[["trial", *(name for name in self.spec.objectives if name in self._means)]]
            complete = complete[["trial", "time", "run"]].merge(means, on="trial", how="left")
        return front_progress(complete, self.steps(), self.runs, self.live, self.spec.objectives, reference)

    def status(self) -> dict[str, Any]:
        """Return a summary as plain JSON, with state, trials by state, front, trained steps and last heartbeat."""
        trials = self._trials["state"].value_counts().reindex(list(STATES), fill_value=0).to_dict()
        finished = trials["complete"] + trials["pruned"] + trials["failed"]
        front = self.front()
        volume = self.hypervolume(front)
        return {
            "study": self.store.name,
            "state": "running" if self.is_live else "complete" if finished >= self.target else "interrupted",
            "target": self.target,
            "trials": trials,
            "finished": finished,
            "front": front["trial"].astype(int).tolist(),
            "hypervolume": None if np.isnan(volume) else volume,
            "trial_steps": self.trial_steps(),
            "created": self.metadata.created.isoformat(),
            "runs": len(self.runs),
            "last_heartbeat": self.runs[max(self.runs)].get("heartbeat") if self.runs else None,
            "lanes": self.metadata.stack["lanes"],
            "uri": self.store.uri,
            "resume": command_for(self.store.uri, "resume"),
        }

    @cached_property
    def _all_trial_rows(self) -> TableRows:
        return self.store.rows("trials")

    @cached_property
    def _all_report_rows(self) -> TableRows:
        len(self._all_trial_rows)  # read first, so that all reports of its complete trials are included here
        return self.store.rows("reports")

    @cached_property
    def _report_rows(self) -> TableRows:
        return self._all_report_rows.of_trials()

    @cached_property
    def _baselines(self) -> dict[str, Any] | None:
        return self.store.baselines()

    @cached_property
    def _trials(self) -> pd.DataFrame:
        rows = self._all_trial_rows.of_trials().frame()
        if rows.empty:
            return pd.DataFrame(columns=["trial", "state", "error", "step"])
        rows = rows.drop_duplicates("trial", keep="last").sort_values("trial", ignore_index=True)
        rows = _ordered(rows, ["trial", "state", "error", "step", *(f"config/{name}" for name in self.spec.space)])
        if not self.is_live:
            rows["state"] = rows["state"].replace("running", "interrupted")
        return rows

    @cached_property
    def _means(self) -> pd.DataFrame:
        cache = self.store.cache
        means = aggregation.update_aggregates(self._report_rows, self.spec.replicates, cache.derived if cache else None)
        if cache:
            cache.derived = means
        return means.table

    @cached_property
    def _results(self) -> pd.DataFrame:
        configuration = [name for name in self._trials if str(name).startswith("config/")]
        return self._trials[["trial", "state", "error", *configuration]].merge(self._means, on="trial", how="left")


def _ordered(rows: pd.DataFrame, first: list[str]) -> pd.DataFrame:
    """Return some columns first and the others by name, because the order of columns in the store has no meaning."""
    return rows[[*(name for name in first if name in rows), *sorted(set(rows) - set(first))]]
