"""Studies under halving through the command line: interrupted, resumed, and given more trials."""

import json

import pandas as pd
import pytest
import yaml

from study.search.halving import rungs_so_far
from study.search.sampler import Search, past_trials
from tests.study.commands import TINY, run_on_ray
from tests.study.processes import interrupt_when
from tests.study.stores import results_of

pytestmark = pytest.mark.slow

SEPARATION = "disentanglement/separation"

# Rungs at 10 and 30 of 90 steps.
CLIMB = {
    **TINY,
    "name": "climb",
    "train": {"steps": 90, "batch_pairs": 16, "reports": 2},
    "halving": {"reduction_factor": 3, "min_steps": 10},
    "search": {"sampler": "tpe", "trials": 6},
    "resources": {"lanes": 3, "trainers": 1},
}


@pytest.fixture(scope="module")
def climb(tmp_path_factory, ray_of_process, _switches):
    """A store with a study under halving that was interrupted, resumed, and given more trials."""
    folder = tmp_path_factory.mktemp("climb")
    path, store = folder / "climb.yaml", folder / "runs"
    path.write_text(yaml.safe_dump(CLIMB))

    def is_one_pruned():
        return (store / "climb" / "trials").exists() and "pruned" in set(climb_of(store).trials()["state"])

    _switches.hold_training_once_discarded(trials=1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("study.store.writer._FLUSH_EVERY_S", 0.5)
        with interrupt_when(is_one_pruned):
            interrupted = run_on_ray("run", path, "--store", store)
    _switches.release()
    assert interrupted.status == 130
    assert "Traceback" not in interrupted.err
    reports = climb_of(store).store.read("reports")
    resumed = run_on_ray("resume", "climb", "--store", store)
    assert resumed.status == 0, resumed.err
    more = run_on_ray("resume", "climb", "--trials", 9, "--store", store, with_plain_vae=True)
    assert more.status == 0, more.err
    return climb_of(store), reports, more.err


def climb_of(store):
    return results_of(store, "climb")


def test_trials_are_stopped_at_rungs_and_the_others_have_all_replicates(climb):
    results, _, said = climb
    table = results.results().set_index("trial")
    assert len(table) == 9
    assert set(table["state"]) == {"complete", "pruned"}
    pruned, complete = table[table["state"] == "pruned"], table[table["state"] == "complete"]
    assert len(pruned)
    assert len(complete)
    assert set(pruned["step"]) <= {10, 30}
    assert set(pruned["replicates"]) == {1}
    assert set(complete["step"]) == {90}
    assert set(complete["replicates"]) == {2}
    assert table[SEPARATION].notna().all()
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
            (seed, step) for seed in (0, 1) for step in (10, 30, 45, 90)
        ]


def test_every_verdict_follows_from_the_reports_in_the_order_in_which_they_came(climb):
    results, interrupted, _ = climb
    rows = results.store.read("reports")
    assert rows["run"].nunique() == 3
    assert results.has_plain_vae  # which is in no rung
    pd.testing.assert_frame_equal(rows[: len(interrupted)][["trial", "step"]], interrupted[["trial", "step"]])
    rungs = rungs_so_far(results.spec, rows)
    trials = results.trials().set_index("trial")
    at_rungs = (rows["seed"] == 0) & rows["step"].isin([10, 30])
    climbers = rows[at_rungs].drop_duplicates(["trial", "step"])
    for trial, step in zip(climbers["trial"], climbers["step"], strict=True):
        is_stopped = trials.loc[trial, "state"] == "pruned" and trials.loc[trial, "step"] == step
        assert rungs.continues(trial, step, {}) != is_stopped


def test_the_sampler_receives_pruned_trials_without_values(climb):
    results, _, _ = climb
    told = {trial.number: trial for trial in Search(results.spec, past_trials(results)).trials()}
    states = results.trials().set_index("trial")["state"]
    assert {number: trial.state.name for number, trial in told.items()} == {
        number: {"complete": "COMPLETE", "pruned": "PRUNED"}[state] for number, state in states.items()
    }
    assert all(told[number].values is None for number in states.index[states == "pruned"])
    assert all(isinstance(json.loads(text), dict) for text in results.trials()["sampler"])
