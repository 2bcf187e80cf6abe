import json
import math
import sqlite3
from datetime import UTC, timedelta

import numpy as np
import optuna
import pandas as pd
import pytest
from optuna.trial import TrialState

from study.analysis import StudyResults
from study.errors import UserError
from study.search.optuna_export import write_optuna_storage
from study.spec import active_parameters
from study.store.writer import StudyWriter
from tests.messages import assert_mentions, mentions
from tests.study.report.studies import FIDELITY, PROBES, SEPARATION, STEPS, trial_of, write_study

WITHOUT = {"loss.private.gamma": 1.5, "latent.private": 2, "contrast.strategy": "none"}
WITH = {"loss.private.gamma": 8.0, "latent.private": 4, "contrast.strategy": "infonce", "contrast.temperature": 0.25}
TRIALS = [
    trial_of([4.0, 4.2], [0.2, 0.4], config=WITHOUT),
    trial_of([3.0, 3.4], [0.5, 0.7], config=WITH),
    trial_of([6.0, 6.0], [0.1, 0.1], "pruned", config=WITHOUT),
    trial_of([9.0, math.inf], [0.0, 0.1], "failed", "loss is not finite", config=WITH),
    trial_of([7.0, 8.0], [0.1, 0.2], "running", config=WITHOUT),
]


@pytest.fixture
def results(tmp_path, tiny):
    """A finished study with a trial of each state."""
    return StudyResults(write_study(tmp_path / "runs", tiny, TRIALS))


@pytest.fixture
def exported(results, tmp_path):
    """The same study as Optuna loads it."""
    write_optuna_storage(results, tmp_path / "new folder" / "tiny.db")
    return load(tmp_path / "new folder" / "tiny.db")


def load(path):
    return optuna.load_study(study_name="tiny", storage=f"sqlite:///{path}")


def test_optuna_loads_the_study_with_its_directions_and_the_names_of_its_objectives(exported, results):
    assert [direction.name for direction in exported.directions] == ["MINIMIZE", "MAXIMIZE"]
    assert exported.metric_names == [FIDELITY, SEPARATION]
    assert exported.user_attrs["spec"] == results.metadata.spec.model_dump(mode="json", exclude_none=True)
    assert exported.user_attrs["seeds"] == [0, 1]


def test_each_trial_has_its_state_and_an_interrupted_one_runs_with_an_attribute(exported, results):
    states = [trial.state for trial in exported.trials]
    assert states == [TrialState.COMPLETE] * 2 + [TrialState.PRUNED, TrialState.FAIL, TrialState.RUNNING]
    assert [trial.user_attrs["state"] for trial in exported.trials] == results.results()["state"].tolist()
    assert exported.trials[4].user_attrs["state"] == "interrupted"
    assert exported.trials[3].user_attrs["error"] == "loss is not finite"


def test_parameters_have_the_values_types_and_distributions_of_the_space(exported, results):
    assert [trial.params for trial in exported.trials] == [WITHOUT, WITH, WITHOUT, WITH, WITHOUT]
    assert type(exported.trials[0].params["latent.private"]) is int
    distributions = exported.trials[1].distributions
    assert distributions["loss.private.gamma"] == optuna.distributions.FloatDistribution(0.1, 10, log=True)
    assert distributions["latent.private"] == optuna.distributions.CategoricalDistribution((2, 4))
    space = results.spec.space
    assert all(set(trial.params) == set(active_parameters(space, trial.params)) for trial in exported.trials)


def test_complete_trials_alone_have_values_which_are_means_over_replicates(exported, results):
    table = results.results()
    for trial in exported.trials:
        expected = table.loc[trial.number, [FIDELITY, SEPARATION]].tolist()
        assert trial.values == (expected if trial.state is TrialState.COMPLETE else None)
    assert exported.trials[0].values == pytest.approx([4.1, 0.3])
    assert [trial.number for trial in exported.best_trials] == results.front()["trial"].tolist() == [1]


def test_the_row_of_results_is_an_attribute_without_missing_values(exported, results):
    table = results.results()
    for trial in exported.trials:
        row = table.loc[trial.number]
        for name in (str(name) for name in table if not str(name).startswith("config/")):
            value = row[name]
            if pd.isna(value) or value in (math.inf, -math.inf):
                assert name not in trial.system_attrs["results"]
            else:
                assert trial.system_attrs["results"][name] == value, name
    assert FIDELITY not in exported.trials[3].system_attrs["results"]
    assert exported.trials[1].system_attrs["results"]["front_probability"] == results.front_probability()[1]


def test_the_compared_values_are_a_separate_attribute(tmp_path, tiny):
    part, late = f"{FIDELITY}/timbre/sine", "test/disentanglement/mig"
    trials = [{**trial, "metrics": dict(trial["metrics"])} for trial in TRIALS]
    for trial in trials[:2]:
        trial["metrics"] |= {part: [1.0, 2.0]}
    trials[1]["metrics"] |= {late: [0.5, 0.5]}
    write_optuna_storage(StudyResults(write_study(tmp_path / "runs", tiny, trials)), tmp_path / "tiny.db")
    exported = load(tmp_path / "tiny.db").trials
    assert [trial.user_attrs["front"] for trial in exported] == [False, True, False, False, False]
    best = exported[1].user_attrs
    assert (best["trial"], best["step"], best["replicates"], best["state"]) == (1, STEPS, 2, "complete")
    assert best[f"{FIDELITY}/sd"] == pytest.approx(np.std([3.0, 3.4], ddof=1))
    assert {f"{SEPARATION}/ci", "front_probability", *PROBES} <= set(best)
    assert not {part, late, f"{late}/sd", "probe/timbre/shared/sd", "config/latent.private"} & set(best)
    row = exported[1].system_attrs["results"]
    assert (row[part], row[late], row[f"{late}/sd"]) == (1.5, 0.5, 0.0)


def test_trials_start_and_end_at_their_times_in_the_store(tmp_path, tiny):
    store = write_study(tmp_path / "runs", tiny, [])
    writer = StudyWriter(store, trials=2)
    began = pd.Timestamp("2026-01-02T03:04:05", tz=UTC)
    rows = [(0, "running", 0), (3, "running", 1), (0, "pruned", 7), (3, "running", 9)]
    store.append(
        "trials",
        writer.run,
        1,
        [
            {"trial": trial, "state": state, "error": None, "step": 0, "sampler": json.dumps({"key": trial})}
            | {"time": began + timedelta(seconds=seconds)}
            | {f"config/{name}": value for name, value in WITHOUT.items()}
            for trial, state, seconds in rows
        ],
    )
    writer.finish()
    write_optuna_storage(StudyResults(store), tmp_path / "tiny.db")
    pruned, running = load(tmp_path / "tiny.db").trials
    assert pruned.datetime_start.astimezone(UTC) == began
    assert pruned.duration == timedelta(seconds=7)
    assert running.datetime_start.astimezone(UTC) == began + timedelta(seconds=1)
    assert running.datetime_complete is None
    assert running.system_attrs["key"] == running.user_attrs["trial"] == 3  # Optuna numbers leave no gaps


def test_several_objectives_have_no_intermediate_values_and_one_has_its_means_by_step(exported, tmp_path, tiny):
    assert all(trial.intermediate_values == {} for trial in exported.trials)
    store = write_study(tmp_path / "one", {**tiny, "objectives": {FIDELITY: "min"}}, TRIALS[:1])
    row = {"trial": 0, "seed": 0, "step": 15, "metric_version": 1, FIDELITY: 5.0}
    store.append("reports", 1, 90, [row, {**row, "seed": 1, FIDELITY: 7.0}])
    write_optuna_storage(StudyResults(store), tmp_path / "one.db")
    (trial,) = load(tmp_path / "one.db").trials
    assert trial.intermediate_values == {15: 6.0, STEPS: pytest.approx(4.1)}
    assert trial.value == pytest.approx(4.1)


def test_a_study_without_trials_is_exported_as_an_empty_one(tmp_path, tiny):
    write_optuna_storage(StudyResults(write_study(tmp_path / "runs", tiny, [])), tmp_path / "tiny.db")
    assert load(tmp_path / "tiny.db").trials == []


def test_baselines_are_attributes_of_the_study(results, tmp_path):
    results.store.write_baselines({"replicates": 2, "untrained": {FIDELITY: 20.0, SEPARATION: 0.0, "other": 1.0}})
    write_optuna_storage(results, tmp_path / "tiny.db")
    assert load(tmp_path / "tiny.db").user_attrs["untrained"] == {FIDELITY: 20.0, SEPARATION: 0.0}


def test_a_search_can_continue_in_the_file(results, exported, tmp_path):
    trial = exported.ask()
    assert trial.number == 5
    exported.tell(trial, [1.0, 0.9])
    assert [best.number for best in load(tmp_path / "new folder" / "tiny.db").best_trials] == [5]


def test_a_file_that_cannot_be_written_is_reported_and_leaves_no_file(results, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=mentions("tiny.db", "write")):
        write_optuna_storage(results, tmp_path / "file" / "tiny.db")
    write_optuna_storage(results, tmp_path / "out" / "what? 100%#.db")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["what? 100%#.db"]
    assert sqlite3.connect(tmp_path / "out" / "what? 100%#.db").execute("SELECT count(*) FROM trials").fetchone() == (
        5,
    )


def test_the_command_writes_the_file_and_prints_how_to_open_it(cli, results, tmp_path):
    store, path = results.store.objects.uri, tmp_path / "tiny.db"
    outcome = cli("results", "tiny", "--store", store, "--optuna", path)
    assert (outcome.status, outcome.out) == (0, "")
    assert_mentions(outcome.err, f"optuna: {path}", f"optuna-dashboard sqlite:///{path}")
    assert len(load(path).trials) == 5
    again = cli("results", "tiny", "--store", store, "--optuna", path)
    assert again.status == 2
    assert_mentions(again.err, path, "already", "--overwrite")
    path.write_text("mine")
    assert cli("results", "tiny", "--store", store, "--optuna", path, "--overwrite").status == 0
    assert len(load(path).trials) == 5


@pytest.mark.parametrize("words", [("--front",), ("--progress",), ("--format", "csv")])
def test_the_options_for_a_file_and_a_table_exclude_each_other(cli, results, tmp_path, words):
    outcome = cli("results", "tiny", "--store", results.store.objects.uri, "--optuna", tmp_path / "tiny.db", *words)
    assert outcome.status == 2
    assert_mentions(outcome.err, "--optuna")
    assert not (tmp_path / "tiny.db").exists()
