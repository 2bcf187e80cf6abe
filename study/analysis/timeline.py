"""What ran when: spans of trials on trainers, trained steps over time, and the device time of runs."""

from datetime import UTC, datetime
from typing import Any

import numpy as np
import pandas as pd

from study.analysis.results import StudyResults
from study.store.lease import is_live

_END_STATES = ("complete", "pruned", "failed")
_MAX_BINS = 120


def trial_spans(results: StudyResults) -> pd.DataFrame:
    """Return a row for each time that a trial was started.

    Returns:
        `trial`, `run`, `trainer` (-1 if the study has not recorded it), `started`, `ended`, `state` at the end
        ("interrupted" if the trial was started again, or its run ended), `error`, `minutes`, and `row`: the lowest
        number that no other span of this run and trainer has at the same time.
    """
    events = results.trial_events()
    if events.empty:
        columns = ["trial", "run", "trainer", "started", "ended", "state", "error", "minutes", "row"]
        return pd.DataFrame(columns=columns)
    events = events.sort_values(["trial", "time"], kind="stable", ignore_index=True)
    following = events.groupby("trial").shift(-1)
    spans = events.assign(ended=following["time"], end_state=following["state"], end_error=following["error"])
    spans = spans[spans["state"] == "running"].rename(columns={"time": "started"})
    ends = spans["run"].map(_ends_of_runs(results))
    is_open = ~spans["end_state"].isin(_END_STATES)
    open_state = np.where(spans["run"].isin(results.live) & spans["ended"].isna(), "running", "interrupted")
    is_after_run = is_open & ~(spans["ended"] <= ends)
    spans["ended"] = spans["ended"].where(~is_after_run, ends)
    # A trial may start after the last heartbeat of its run.
    spans["ended"] = spans["ended"].where(~(spans["ended"] < spans["started"]), spans["started"])
    spans["state"] = spans["end_state"].where(~is_open, pd.Series(open_state, index=spans.index))
    spans["error"] = spans["end_error"]
    spans["trainer"] = spans["trainer"].fillna(-1).astype(int) if "trainer" in spans else -1
    spans["minutes"] = (spans["ended"] - spans["started"]).dt.total_seconds() / 60
    spans = spans.sort_values(["run", "trainer", "started", "trial"], ignore_index=True)
    spans["row"] = [row for _, group in spans.groupby(["run", "trainer"]) for row in _rows(group)]
    return spans[["trial", "run", "trainer", "started", "ended", "state", "error", "minutes", "row"]]


def throughput(results: StudyResults) -> pd.DataFrame:
    """Return the rate of training from the reports: `time` (the middle of an interval), `trial_steps_per_s`.

    The steps between two reports of a replicate are spread evenly over the time between them.
    """
    reports = results.steps()
    if reports.empty:
        return pd.DataFrame(columns=["time", "trial_steps_per_s"])
    reports = reports.sort_values(["trial", "seed", "step"], kind="stable")
    groups = reports.groupby(["trial", "seed"])
    starts = trial_spans(results).groupby("trial")["started"].min()
    begin = groups["time"].shift().fillna(reports["trial"].map(starts)).fillna(reports["time"])
    steps = (reports["step"] - groups["step"].shift().fillna(0)).to_numpy(dtype=float)
    is_trained = steps > 0  # later reports of a budget are evaluations after training
    reports, begin, steps = reports[is_trained], begin[is_trained], steps[is_trained]
    first, last = begin.min(), reports["time"].max()
    seconds = max((last - first).total_seconds(), 1.0)
    bins = int(np.clip(len(reports), 1, _MAX_BINS))
    edges = np.linspace(0.0, seconds, bins + 1)
    low, high = ((time - first).dt.total_seconds().to_numpy() for time in (begin, reports["time"]))
    # Trained steps until each edge: linear between the two reports of each replicate.
    done = np.array([(steps * np.clip((edge - low) / np.maximum(high - low, 1e-9), 0, 1)).sum() for edge in edges])
    middle = (edges[1:] + edges[:-1]) / 2
    rates = np.diff(done) / np.diff(edges)
    return pd.DataFrame({"time": first + pd.to_timedelta(middle, unit="s"), "trial_steps_per_s": rates})


def runs_table(results: StudyResults) -> pd.DataFrame:
    """Return a row for each run.

    Returns:
        `run`, `started`, `ended`, `state` (running, finished or interrupted), `host`, `trainers`, `device`,
        `device_hours` (of all trainers together), `trials` that ended in it, `trained_steps`, and the hours that
        trainers spent on `training`, `evaluation` and without work (`idle`); NaN where a run has not recorded them.
    """
    trials = results.trials()
    ended = trials[trials["state"].isin(_END_STATES)]
    counts = ended["run"].value_counts() if "run" in ended else pd.Series(dtype=int)
    ends = _ends_of_runs(results)
    rows: list[dict[str, Any]] = []
    for number, run in results.runs.items():
        started, ended = pd.Timestamp(run["started"]), ends[number]
        trainers, seconds = run.get("trainers"), run.get("seconds", {})
        is_running = is_live(run, results.store.objects.now)
        rows.append(
            {
                "run": number,
                "started": started,
                "ended": ended,
                "state": "running" if is_running else "finished" if run.get("finished") else "interrupted",
                "host": str(run.get("host", "")).partition("/")[0],
                "trainers": trainers,
                "device": ", ".join(dict.fromkeys(map(str, run.get("devices", [])))),
                "device_hours": np.nan if trainers is None else trainers * (ended - started).total_seconds() / 3600,
                "trials": int(counts.get(number, 0)),
                "trained_steps": run.get("trained_steps", np.nan),
                **{name: seconds.get(name, np.nan) / 3600 for name in ("training", "evaluation", "idle")},
            }
        )
    return pd.DataFrame(rows)


def _ends_of_runs(results: StudyResults) -> dict[int, pd.Timestamp]:
    """Return when each run ended: the time that it recorded, or that of its last heartbeat; now if it is running."""
    ends = {}
    for number, run in results.runs.items():
        if is_live(run, results.store.objects.now):
            ends[number] = pd.Timestamp(datetime.now(UTC))
        else:
            ends[number] = pd.Timestamp(run.get("finished") or run.get("heartbeat") or run["started"])
    return ends


def _rows(spans: pd.DataFrame) -> list[int]:
    """Return the lowest free row of each span; spans are in the order of their start."""
    free: list[pd.Timestamp] = []  # when each row becomes free
    rows = []
    for span in spans.itertuples():
        row = next((index for index, time in enumerate(free) if time <= span.started), len(free))
        free[row : row + 1] = [span.ended]
        rows.append(row)
    return rows
