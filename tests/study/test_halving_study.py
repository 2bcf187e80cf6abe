"""Studies under halving through the command line: interrupted, resumed, and given more trials."""

import json

import pandas as pd
import pytest
import yaml

from study.analysis import StudyResults
from study.search.halving import rungs_so_far
from study.search.history import past_trials
from study.search.sampler import Search
from study.storage import ObjectStore
from study.store import StudyStore
from tests.study.commands import TINY, Running, run_command

pytestmark = pytest.mark.slow

SEPARATION, LINEAR = "disentanglement/separation", "disentanglement/linear_separation"

# Rungs at 20 and 60 of 180 steps.
CLIMB = {
    **TINY,
    "name": "climb",
    "train": {"steps": 180, "batch_pairs": 16, "reports": 2},
    "halving": {"reduction_factor": 3, "min_steps": 20},
    "search": {"sampler": "tpe", "trials": 6},
    "resources": {"lanes": 3},
}


@pytest.fixture(scope="module")
def climb(tmp_path_factory):
    """A store with a study under halving that was interrupted, resumed, and given more trials."""
    folder = tmp_path_factory.mktemp("climb")
    path, store = folder / "climb.yaml", folder / "runs"
    path.write_text(yaml.safe_dump(CLIMB))
    with Running("run", path, "--store", store) as running:
        running.wait_for_line("pruned")
        running.press_ctrl_c()
        assert running.wait(timeout_s=20) == 130
        assert "Traceback" not in "".join(running.lines)
    interrupted = results_of(store).store.read("reports")
    resumed = run_command("resume", "climb", "--store", store)
    assert resumed.status == 0, resumed.err
    more = run_command("resume", "climb", "--trials", 9, "--store", store)
    assert more.status == 0, more.err
    return results_of(store), interrupted, more.err


def results_of(store):
    return StudyResults(StudyStore(ObjectStore(str(store)), "climb"))


def test_trials_are_stopped_at_rungs_and_the_others_have_all_replicates(climb):
    results, _, said = climb
    table = results.results().set_index("trial")
    assert len(table) == 9
    assert set(table["state"]) == {"complete", "pruned"}
    pruned, complete = table[table["state"] == "pruned"], table[table["state"] == "complete"]
    assert len(pruned)
    assert len(complete)
    assert set(pruned["step"]) <= {20, 60}
    assert set(pruned["replicates"]) == {1}
    assert set(complete["step"]) == {180}
    assert set(complete["replicates"]) == {2}
    assert complete[SEPARATION].notna().all()
    assert SEPARATION not in pruned or pruned[SEPARATION].isna().all()
    assert pruned[LINEAR].notna().all()
    assert set(results.front()["trial"]) <= set(complete.index)
    assert f"{len(complete)} complete" in said
    assert f"{len(pruned)} pruned" in said


def test_other_seeds_train_only_in_trials_that_pass_the_last_rung_and_report_at_every_budget(climb):
    results, _, _ = climb
    complete = set(results.trials().loc[results.trials()["state"] == "complete", "trial"])
    reports = results.reports()
    assert set(reports.loc[reports["seed"] == 1, "trial"]) == complete
    for trial in complete:
        found = reports[reports["trial"] == trial]
        assert sorted(zip(found["seed"], found["step"], strict=True)) == [
            (seed, step) for seed in (0, 1) for step in (20, 60, 90, 180)
        ]


def test_every_verdict_follows_from_the_reports_in_the_order_in_which_they_came(climb):
    results, interrupted, _ = climb
    rows = results.store.read("reports")
    assert rows["run"].nunique() == 3
    pd.testing.assert_frame_equal(rows[: len(interrupted)][["trial", "step"]], interrupted[["trial", "step"]])
    rungs = rungs_so_far(results.spec, rows)
    trials = results.trials().set_index("trial")
    at_rungs = (rows["seed"] == 0) & rows["step"].isin([20, 60])
    climbers = rows[at_rungs].drop_duplicates(["trial", "step"])
    for trial, step in zip(climbers["trial"], climbers["step"], strict=True):
        is_stopped = trials.loc[trial, "state"] == "pruned" and trials.loc[trial, "step"] == step
        assert rungs.goes_on(trial, step, {}) != is_stopped


def test_the_sampler_hears_of_pruned_trials_without_values(climb):
    results, _, _ = climb
    told = {trial.number: trial for trial in Search(results.spec, past_trials(results)).trials()}
    states = results.trials().set_index("trial")["state"]
    assert {number: trial.state.name for number, trial in told.items()} == {
        number: {"complete": "COMPLETE", "pruned": "PRUNED"}[state] for number, state in states.items()
    }
    assert all(told[number].values is None for number in states.index[states == "pruned"])
    assert all(isinstance(json.loads(text), dict) for text in results.trials()["sampler"])
