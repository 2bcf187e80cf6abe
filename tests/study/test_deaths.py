"""Processes of a study die while it runs, and the study goes on."""

import json
import os
import re
import shutil

import pandas as pd
import pytest
import yaml

from study.analysis.post_training import missing_post_training
from study.environment import versions
from tests.messages import assert_mentions
from tests.study.commands import ROOT, TINY, Running
from tests.study.processes import environment, meanwhile, trainer_processes, trial_processes, wait_until
from tests.study.stores import assert_same_models, assert_same_values, results_of

pytestmark = pytest.mark.slow


@pytest.fixture
def spec_path(tmp_path):
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump(TINY))
    return path


def kill_one(processes) -> None:
    """Kill one of the processes that a function finds; return when it has ended."""
    wait_until(processes, 60, lambda: "there is no such process")
    process = processes()[0]
    process.kill()
    process.wait(30)


def test_a_study_whose_trial_and_trainer_are_killed_ends_with_the_values_of_an_undisturbed_one(
    cli_on_ray, switches, spec_path, finished, tmp_path
):
    def kill_both():
        switches.wait_until_held()
        kill_one(trial_processes)
        kill_one(trainer_processes)
        switches.wait_until_held()  # another trainer has taken its place
        switches.release()

    switches.hold_training(after_steps=20)
    with meanwhile(kill_both):
        outcome = cli_on_ray("run", spec_path, "--store", tmp_path / "disturbed", with_plain_vae=True)
    assert outcome.status == 0, outcome.err
    assert "was interrupted and will be resumed" in outcome.err
    assert_same_values(results_of(tmp_path / "disturbed"), finished)
    assert_same_models(results_of(tmp_path / "disturbed"), finished)


def test_a_study_whose_trainer_is_killed_while_models_are_evaluated_evaluates_them_with_another(
    cli_on_ray, switches, finished_store
):
    """The front is evaluated once more when `post_training` asks for it, also where its trials were complete before."""
    document = finished_store / "tiny" / "study.json"
    content = json.loads(document.read_text())
    content["spec"]["post_training"] = ["test", "samples"]
    document.write_text(json.dumps(content))
    assert set(missing_post_training(results_of(finished_store))) == {"test", "samples"}

    def kill_trainer():
        switches.wait_until_held()
        kill_one(trainer_processes)
        switches.release()

    switches.hold_evaluation()
    with meanwhile(kill_trainer):
        outcome = cli_on_ray("resume", "tiny", "--store", finished_store)
    assert outcome.status == 0, outcome.err
    assert_mentions(outcome.err, "trainer", "lost", "another")
    results = results_of(finished_store)
    assert not missing_post_training(results)
    assert results.front()["test/disentanglement/separation"].notna().all()


def test_a_trial_that_kills_trainers_fails_with_that_reason_and_the_others_complete(
    cli_on_ray, switches, spec_path, finished, tmp_path
):
    switches.poison(trial=2)
    outcome = cli_on_ray("run", spec_path, "--store", tmp_path / "disturbed")
    assert outcome.status == 0, outcome.err
    results = results_of(tmp_path / "disturbed")
    trials = results.trials().set_index("trial")
    assert list(trials["state"]) == ["complete", "complete", "failed", "complete"]
    assert_mentions(trials["error"][2], "trainer", "3 times")
    ours, theirs = (one.results().query("state == 'complete' and trial != 2") for one in (results, finished))
    columns = [name for name in theirs if name not in ("error", "front_probability")]
    pd.testing.assert_frame_equal(
        ours[columns].reset_index(drop=True), theirs[columns].reset_index(drop=True), check_dtype=False
    )


def test_a_trainer_that_starts_with_other_code_than_the_driver_s_ends_the_study_and_no_trial(
    spec_path, tmp_path, monkeypatch
):
    code = tmp_path / "code"
    for package in ("marl", "study"):
        shutil.copytree(ROOT / package, code / package, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.chdir(code)  # where Ray looks for code first
    with monkeypatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join([str(code), os.environ.get("PYTHONPATH", "")]))
        environment_of_command = environment()
    changed = code / "marl" / "stack" / "adam.py"
    content = changed.read_bytes()
    others = {process.pid for process in trainer_processes()}
    with Running("run", spec_path, "--store", tmp_path / "disturbed", env=environment_of_command) as running:
        running.wait_for_line("trial 0 started")
        changed.write_bytes(content + b"# changed while a study runs\n")
        kill_one(lambda: [process for process in trainer_processes() if process.pid not in others])
        assert running.wait(timeout_s=120) == 1
    assert_mentions(running.lines[-1], "error: ", "code", "driver", versions()["code"])
    assert len(set(re.findall(r"\b[0-9a-f]{12}\b", running.lines[-1]))) == 2
    assert "Traceback" not in "".join(running.lines)
    assert set(results_of(tmp_path / "disturbed").trials()["state"]) == {"interrupted"}
