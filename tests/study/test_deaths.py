"""Processes of a study die while it runs, and it goes on."""

import re
import shutil
import time
from pathlib import Path

import pandas as pd
import psutil
import pytest
import yaml

from study.analysis import StudyResults
from study.environment import versions
from study.storage import ObjectStore
from study.store import StudyStore
from tests.messages import assert_mentions
from tests.study.commands import ROOT, TINY, Running, run_command

pytestmark = pytest.mark.slow

LONGER = {**TINY, "train": {"steps": 300, "batch_pairs": 16, "reports": 3}, "post_training": ["test", "samples"]}


@pytest.fixture(scope="module")
def spec_path(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("deaths") / "tiny.yaml"
    path.write_text(yaml.safe_dump(LONGER))
    return path


@pytest.fixture(scope="module")
def undisturbed(spec_path) -> StudyResults:
    store = spec_path.parent / "undisturbed"
    outcome = run_command("run", spec_path, "--store", store)
    assert outcome.status == 0, outcome.err
    return results_of(store)


def results_of(store: Path) -> StudyResults:
    return StudyResults(StudyStore(ObjectStore(str(store)), "tiny"))


def kill_one(of: Running, title: str) -> None:
    """Kill a process of a study by the beginning of its title, as Ray names it."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        for process in psutil.Process(of.process).children(recursive=True):
            if " ".join(process.cmdline()).startswith(title):
                process.kill()
                return
        time.sleep(0.05)
    raise AssertionError(f"no process {title!r} within a minute")


def test_whose_processes_are_killed_goes_on_and_ends_as_if_they_had_not_been(spec_path, undisturbed, tmp_path):
    with Running("run", spec_path, "--store", tmp_path) as running:
        running.wait_for_line("training")
        kill_one(running, "ray::StudyTrial")
        running.wait_for_line("lost its place and goes on elsewhere")
        kill_one(running, "ray::Trainer")
        running.wait_for_line("measuring the front")
        kill_one(running, "ray::Trainer")
        assert running.wait(timeout_s=300) == 0, "".join(running.lines)
    assert_mentions("".join(running.lines), "trainer", "lost", "another")
    assert not results_of(tmp_path).missing_post_training()
    pd.testing.assert_frame_equal(results_of(tmp_path).results(), undisturbed.results())


def test_a_trial_that_kills_trainers_fails_with_that_reason_and_the_others_complete(spec_path, undisturbed, tmp_path):
    environment = {"PYTHONPATH": str(Path(__file__).with_name("poison")), "MARL_TEST_POISON": "2"}
    outcome = run_command("run", spec_path, "--store", tmp_path, env=environment)
    assert outcome.status == 0, outcome.err
    results = results_of(tmp_path)
    trials = results.trials().set_index("trial")
    assert list(trials["state"]) == ["complete", "complete", "failed", "complete"]
    assert_mentions(trials["error"][2], "trainer", "3 times")
    ours, theirs = (one.results().query("state == 'complete' and trial != 2") for one in (results, undisturbed))
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
    with Running("run", spec_path, "--store", tmp_path / "runs", env={"PYTHONPATH": str(code)}) as running:
        running.wait_for_line("training")
        with (code / "marl" / "adam.py").open("a") as file:
            file.write("# changed while a study runs\n")
        kill_one(running, "ray::Trainer")
        assert running.wait(timeout_s=120) == 1
    assert_mentions(running.lines[-1], "error: ", "code", "driver", versions()["code"])
    assert len(set(re.findall(r"\b[0-9a-f]{12}\b", running.lines[-1]))) == 2
    assert "Traceback" not in "".join(running.lines)
    assert set(results_of(tmp_path / "runs").trials()["state"]) == {"interrupted"}
