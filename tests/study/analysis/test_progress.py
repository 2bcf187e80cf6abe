import math
import time
from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from study.analysis import StudyResults
from study.analysis.pareto import front_progress, hypervolume, reference_point, trial_steps
from study.storage import ObjectStore
from study.store import StudyStore
from tests.study.stores import new_store

START = pd.Timestamp("2026-01-01T00:00:00+00:00")
OBJECTIVES = {"error": "min", "score": "max"}
NO_RUNS = {}
UNTRAINED = {"untrained": {"error": 10.0, "score": 0.0}, "replicates": 2}


def after(hours):
    return START + pd.Timedelta(hours=hours)


def completed(*rows, run=1):
    """Trials by the hour at which they completed, error and score."""
    columns = ["trial", "time", "run", "error", "score"]
    return pd.DataFrame([[n, after(h), run, *values] for n, (h, *values) in enumerate(rows)], columns=columns)


def reports(*rows):
    """Trial, seed, step and the hour."""
    columns = ["trial", "seed", "step", "time"]
    return pd.DataFrame([[trial, seed, step, after(h)] for trial, seed, step, h in rows], columns=columns)


def of(trials, rows=(), runs=NO_RUNS, baselines=UNTRAINED):
    return front_progress(trials, reports(*rows), runs, (), OBJECTIVES, reference_point(baselines, OBJECTIVES))


def test_a_known_course():
    trials = completed((3, 4.0, 0.5), (1, 8.0, 0.5), (2, 9.0, 0.2))
    rows = [(1, 0, 10, 0.5), (1, 0, 20, 1), (2, 0, 20, 1.5), (0, 0, 20, 2.5), (7, 0, 10, 2.7), (7, 0, 20, 9)]
    runs = {1: {"started": after(0.5).isoformat(), "finished": after(5).isoformat(), "heartbeat": None}}
    found = of(trials, rows, runs)
    assert found["trial"].tolist() == [1, 2, 0]
    assert found["time"].tolist() == [after(1), after(2), after(3)]
    assert found["complete"].tolist() == [1, 2, 3]
    assert found["trial_steps"].tolist() == [20, 40, 70]
    assert found["device_hours"].tolist() == [0.5, 1.5, 2.5]
    # Trial 2 is beaten by trial 1 and adds nothing; trial 0 beats both.
    assert found["hypervolume"].tolist() == pytest.approx([2.0 * 0.5, 2.0 * 0.5, 6.0 * 0.5])


def test_without_complete_trials_progress_is_empty_with_its_columns():
    found = of(completed())
    assert list(found) == ["time", "trial", "complete", "trial_steps", "device_hours", "hypervolume"]
    assert found.empty


@pytest.mark.parametrize("baselines", [None, {}, {"untrained": {"error": 1.0}}])
def test_without_scores_of_the_untrained_network_there_is_no_hypervolume(baselines):
    assert of(completed((1, 1.0, 1.0)), baselines=baselines)["hypervolume"].isna().all()


def test_metrics_without_values_add_nothing():
    trials = completed((1, 8.0, 0.5), (2, 1.0, math.nan))
    assert of(trials)["hypervolume"].tolist() == [1.0, 1.0]
    assert of(trials.drop(columns="score"))["hypervolume"].tolist() == [0.0, 0.0]


HOURS = st.integers(0, 6)


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 1), st.integers(1, 9), HOURS), max_size=20), HOURS)
def test_trial_steps_are_the_highest_that_each_replicate_had_reported(rows, hour):
    highest = {}
    for trial, seed, step, reported in rows:
        if reported <= hour:
            highest[trial, seed] = max(step, highest.get((trial, seed), 0))
    assert trial_steps(reports(*rows), [after(hour)]).tolist() == [sum(highest.values())]


@given(st.lists(st.tuples(HOURS, st.integers(0, 12), st.integers(-1, 4)), min_size=1, max_size=15))
def test_each_hypervolume_is_that_of_all_trials_until_then_and_none_is_lower_than_the_one_before(rows):
    trials = completed(*rows)
    found = of(trials)
    costs = trials.set_index("trial").loc[found["trial"], ["error", "score"]].to_numpy(float) * [1, -1]
    volumes = found["hypervolume"].tolist()
    assert volumes == [hypervolume(costs[: n + 1], [10.0, 0.0]) for n in range(len(costs))]
    assert volumes == sorted(volumes)


def test_hours_of_runs_add_up_for_as_long_as_each_ran_times_its_trainers():
    trials = pd.concat([completed((2, 1, 1)), completed((9, 1, 1), run=2).assign(trial=1)])
    runs = {
        1: {"started": after(0).isoformat(), "heartbeat": after(3).isoformat()},  # killed
        2: {"started": after(8).isoformat(), "finished": after(10).isoformat(), "trainers": 4},
    }
    assert of(trials, runs=runs)["device_hours"].tolist() == [2.0, 3.0 + 4.0]


def test_a_run_ran_at_least_until_its_last_trial_completed():
    runs = {1: {"started": after(0).isoformat(), "heartbeat": after(1).isoformat(), "host": "another"}}
    assert of(completed((2, 1, 1)), runs=runs)["device_hours"].tolist() == [2.0]


@pytest.mark.parametrize("run", [{}, {"started": "today", "finished": "now"}, {"started": after(0).isoformat()}])
def test_a_run_without_times_adds_no_duration(run):
    assert of(completed((2, 1, 1)), runs={1: run})["device_hours"].tolist() == [0.0]


def test_ten_thousand_trials_take_seconds(tmp_path, tiny):
    trials, steps, seeds = 10_000, 6, 3
    store = new_store(tmp_path, {**tiny, "replicates": seeds})
    random = np.random.default_rng(0)
    begun = datetime.now(UTC)
    rows = [
        {
            "trial": trial,
            "seed": seed,
            "step": 5 * (step + 1),
            "metric_version": 1,
            "fidelity/log_mel_rmse_db": 5 + float(random.normal()),
            "disentanglement/separation": 0.5 + 0.1 * float(random.normal()),
            "time": begun + timedelta(seconds=trial + step / steps),
        }
        for trial in range(trials)
        for step in range(steps)
        for seed in range(seeds)
    ]
    store.append("reports", 1, 1, rows)
    done = [{"trial": n, "state": "complete", "time": begun + timedelta(seconds=n + 1)} for n in range(trials)]
    store.append("trials", 1, 2, done)
    scores = {"fidelity/log_mel_rmse_db": 15.0, "disentanglement/separation": 0.0}
    store.write_baselines({"untrained": scores, "replicates": 2})
    results = StudyResults(store)
    started = time.process_time()
    found = results.progress()
    assert time.process_time() - started < 10
    assert len(found) == trials
    assert found["trial_steps"].iloc[-1] == trials * seeds * 30 == results.trial_steps()
    assert (found["hypervolume"].diff().dropna() >= 0).all()


@pytest.mark.slow
def test_the_progress_of_a_finished_study_ends_at_its_current_state(finished):
    found = finished.progress()
    assert sorted(found["trial"]) == [0, 1, 2, 3]
    assert found["time"].is_monotonic_increasing
    assert found["trial_steps"].iloc[-1] == finished.trial_steps() == 4 * 2 * 30
    assert (found["device_hours"].diff().dropna() >= 0).all()
    assert 0 < found["device_hours"].iloc[-1] < 1
    assert finished.reference() is not None
    assert found["hypervolume"].iloc[-1] == pytest.approx(finished.hypervolume())


def test_a_study_without_rows_has_no_progress(tmp_path, tiny):
    store = new_store(tmp_path, tiny)
    results = StudyResults(StudyStore(ObjectStore(str(tmp_path)), store.name))
    assert results.progress().empty
    assert results.trial_steps() == 0
    assert math.isnan(results.hypervolume())
    scores = {"fidelity/log_mel_rmse_db": 15.0, "disentanglement/separation": 0.0}
    store.write_baselines({"untrained": scores, "replicates": 2})
    results = StudyResults(store)  # what was read does not change
    assert results.hypervolume() == 0.0
