"""Spans of trials, the rate of training, and the device time of runs, against values computed by hand."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from study.analysis.timeline import runs_table, throughput, trial_spans

START = pd.Timestamp("2026-01-01T10:00:00+00:00")
RUN = {"trials": 3, "started": START.isoformat(), "heartbeat": None, "finished": None, "host": "other/1"}


def at(minutes):
    return START + pd.Timedelta(minutes=minutes)


def run(start=0, end=60, is_finished=True, **fields):
    """Record of a run on another host; an unfinished one is dead, because its heartbeat is old."""
    times = {"started": at(start).isoformat(), "heartbeat": at(end).isoformat()}
    return RUN | times | {"finished": at(end).isoformat() if is_finished else None} | fields


@dataclasses.dataclass
class Study:
    """Tables of a study.

    Events are (trial, state, minute, run, trainer, error), and reports are (trial, seed, step, minute).
    """

    events: list = dataclasses.field(default_factory=list)
    reports: list = dataclasses.field(default_factory=list)
    runs: dict = dataclasses.field(default_factory=lambda: {1: run()})
    live: tuple = ()
    has_trainers: bool = True
    store = SimpleNamespace(objects=SimpleNamespace(now=lambda: at(10**6).to_pydatetime()))

    def trial_events(self):
        rows = [
            {"trial": trial, "state": state, "time": at(minute), "run": number, "trainer": trainer, "error": error}
            for trial, state, minute, number, trainer, error in self.events
        ]
        table = pd.DataFrame(rows, columns=["trial", "state", "time", "run", "error", "trainer"])
        return table if self.has_trainers else table.drop(columns="trainer")

    def trials(self):
        return self.trial_events().drop_duplicates("trial", keep="last")

    def steps(self):
        rows = [[trial, seed, step, at(minute)] for trial, seed, step, minute in self.reports]
        return pd.DataFrame(rows, columns=["trial", "seed", "step", "time"])


def ran(trial, start, end, trainer=0, state="complete", number=1, error=None):
    """Two events: a trial starts and ends."""
    return [(trial, "running", start, number, trainer, None), (trial, state, end, number, trainer, error)]


def spans_of(*events, **fields):
    return trial_spans(Study(sorted((event for pair in events for event in pair), key=lambda row: row[2]), **fields))


def minutes_of(times):
    return ((times - START).dt.total_seconds() / 60).tolist()


def test_trials_one_after_another_share_a_row_and_overlapping_ones_do_not():
    spans = spans_of(ran(0, 0, 10), ran(1, 5, 20), ran(2, 10, 30), ran(3, 12, 13, trainer=1)).set_index("trial")
    assert spans["row"].to_dict() == {0: 0, 1: 1, 2: 0, 3: 0}
    assert spans["trainer"].to_dict() == {0: 0, 1: 0, 2: 0, 3: 1}
    assert spans["minutes"].to_dict() == {0: 10, 1: 15, 2: 20, 3: 1}


def test_the_lowest_free_row_is_taken():
    spans = spans_of(ran(0, 0, 10), ran(1, 1, 5), ran(2, 2, 20), ran(3, 6, 9), ran(4, 11, 12)).set_index("trial")
    assert spans["row"].to_dict() == {0: 0, 1: 1, 2: 2, 3: 1, 4: 0}


def test_rows_start_again_in_each_run():
    runs = {1: run(0, 60, False), 2: run(55, 90)}  # clocks of hosts differ
    spans = spans_of([(0, "running", 0, 1, 0, None)], ran(1, 55, 65, number=2), runs=runs)
    assert spans[["run", "row", "state", "minutes"]].to_numpy().tolist() == [
        [1, 0, "interrupted", 60.0],  # until the last heartbeat of its run
        [2, 0, "complete", 10.0],
    ]


def test_a_failed_trial_has_its_error_and_ends_when_it_failed():
    (span,) = spans_of(ran(0, 2, 6, state="failed", error="diverged")).to_dict("records")
    assert (span["state"], span["error"], span["ended"]) == ("failed", "diverged", at(6))


def test_a_trial_that_starts_again_in_the_same_run_was_interrupted_until_then():
    spans = spans_of([(0, "running", 0, 1, 0, None)], ran(0, 4, 9, trainer=1))
    assert spans["state"].tolist() == ["interrupted", "complete"]
    assert minutes_of(spans["ended"]) == [4, 9]
    assert spans["trainer"].tolist() == [0, 1]


def test_a_trial_of_a_live_run_is_running_until_now():
    runs = {1: run(0, 1, False)}
    study = Study([(0, "running", 0, 1, 0, None)], runs=runs, live=(1,))
    study.store = SimpleNamespace(objects=SimpleNamespace(now=lambda: at(1.5).to_pydatetime()))
    (span,) = trial_spans(study).to_dict("records")
    assert span["state"] == "running"
    assert abs(span["ended"] - pd.Timestamp.now("UTC")) < pd.Timedelta(minutes=1)


def test_no_span_ends_before_it_starts_although_heartbeats_are_rarer_than_events():
    runs = {1: run(0, 10, False)}
    spans = spans_of(ran(0, 9, 10.2), [(1, "running", 10.1, 1, 0, None)], runs=runs).set_index("trial")
    assert spans["state"].to_dict() == {0: "complete", 1: "interrupted"}
    assert spans["minutes"].to_dict() == pytest.approx({0: 1.2, 1: 0.0})


def test_without_recorded_trainers_all_spans_share_one_set_of_rows():
    spans = spans_of(ran(0, 0, 10, None), ran(1, 5, 20, None), has_trainers=False)
    assert spans["trainer"].tolist() == [-1, -1]
    assert spans["row"].tolist() == [0, 1]


def test_a_study_without_events_has_the_columns_of_spans():
    assert trial_spans(Study()).empty
    assert list(trial_spans(Study())) == list(spans_of(ran(0, 0, 1)))


def steps_of(rates):
    """Integral of a rate over time."""
    widths = 2 * np.diff(rates["time"].map(pd.Timestamp.timestamp), prepend=np.nan)
    width = widths[1] / 2 if len(rates) > 1 else np.nan
    return (rates["trial_steps_per_s"] * width).sum()


def test_the_rate_of_training_integrates_to_the_trained_steps():
    reports = [(0, 0, 10, 1), (0, 1, 10, 2), (0, 0, 30, 4), (0, 1, 30, 3), (1, 0, 10, 7), (1, 0, 30, 9)]
    rates = throughput(Study([*ran(0, 0, 5), *ran(1, 5, 9)], reports))
    assert steps_of(rates) == pytest.approx(30 + 30 + 30)


def test_steps_are_spread_evenly_between_reports():
    rates = throughput(Study(ran(0, 0, 4), [(0, 0, 60, 1), (0, 0, 240, 4)]))
    assert rates["trial_steps_per_s"].tolist() == pytest.approx([1.0, 1.0])
    assert minutes_of(rates["time"]) == [1, 3]


def test_repeated_reports_of_a_budget_train_nothing():
    reports = [(0, 0, 60, 1), (0, 0, 240, 4), (0, 0, 240, 50)]
    assert throughput(Study(ran(0, 0, 4), reports))["trial_steps_per_s"].tolist() == pytest.approx([1.0, 1.0])


def test_without_reports_there_is_no_rate():
    assert list(throughput(Study())) == ["time", "trial_steps_per_s"]
    assert throughput(Study()).empty


def test_device_hours_are_the_time_of_a_run_for_each_of_its_trainers():
    seconds = {"training": 3600, "evaluation": 1800, "idle": 900}
    runs = {
        1: run(0, 90, trainers=2, trained_steps=700, seconds=seconds, devices=["NVIDIA H200"] * 2, host="a/17"),
        2: run(100, 130, False, trainers=1),
        3: run(140, 150),
    }
    table = runs_table(Study([*ran(0, 0, 5), *ran(1, 0, 9, state="pruned"), (2, "running", 1, 1, 0, None)], runs=runs))
    assert table["device_hours"].tolist() == pytest.approx([3.0, 0.5, np.nan], nan_ok=True)
    assert table["state"].tolist() == ["finished", "interrupted", "finished"]
    assert table["trials"].tolist() == [2, 0, 0]
    first = table.iloc[0]
    assert (first["host"], first["device"], first["trained_steps"]) == ("a", "NVIDIA H200", 700)
    assert first[["training", "evaluation", "idle"]].tolist() == [1.0, 0.5, 0.25]
    assert table[["trained_steps", "training"]].iloc[1].isna().all()
