"""A study whose command is killed again and again loses nothing and does nothing twice.

One study lives through all deaths: each resume is also the next run to be killed.
"""

import json
import random
import time
from pathlib import Path

import pandas as pd
import pytest
import yaml

from study.objects import Objects
from study.results import StudyResults
from study.store import StudyStore
from tests.study.commands import TINY, Running, completed_files, run_command

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

SPEC = {
    **TINY,
    "name": "mortal",
    "train": {"steps": 120, "batch_pairs": 16, "reports": 3},
    "search": {"sampler": "qmc", "trials": 48},
}
CHECKPOINT = r"^mortal/checkpoints/\d+/\d+/\d+/"
# Each kind of write: the method, a pattern of names, and which such call it shall be.
WRITES = {
    "the study's document": ("write", "^mortal/study.json", 1),
    "a launch's claim": ("write", "^mortal/launches/", 1),
    "a launch's heartbeat": ("write", "^mortal/launches/", 3),
    "trials that begin": ("write", "^mortal/trials/", 1),
    "trials that end": ("write", "^mortal/trials/", 5),
    "reports": ("write", "^mortal/reports/", 2),
    "weights": ("write", CHECKPOINT + "model.safetensors", 3),
    "a checkpoint's description": ("write", CHECKPOINT + "config.json", 2),
    "an optimiser's state": ("write", CHECKPOINT + "state.safetensors", 3),
    "a checkpoint's record": ("write", CHECKPOINT + "replicate.json", 4),
    "the deletion of an earlier checkpoint": ("delete", CHECKPOINT, 2),
    "latents": ("write", "^mortal/latents/", 2),
}
RANDOM_DEATHS = 20
SEED = 20261121


@pytest.fixture(scope="module")
def spec_path(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("crash") / "mortal.yaml"
    path.write_text(yaml.safe_dump(SPEC))
    return path


@pytest.fixture(scope="module")
def undisturbed(spec_path) -> StudyResults:
    store = spec_path.parent / "undisturbed"
    outcome = run_command("run", spec_path, "--store", store)
    assert outcome.status == 0, outcome.err
    return results_of(store)


def results_of(store: Path) -> StudyResults:
    return StudyResults(StudyStore(Objects(str(store)), "mortal"))


def go_on(store: Path, spec_path: Path) -> tuple[object, ...]:
    """`resume`, or `run` while there is nothing to resume."""
    words = ("resume", "mortal") if (store / "mortal" / "study.json").exists() else ("run", spec_path)
    return (*words, "--store", store)


def environment(**crash: object) -> dict[str, str]:
    return {"PYTHONPATH": str(Path(__file__).with_name("crash")), "MARL_TEST_CRASH": json.dumps(crash or None)}


def complete_trials_before(store: Path) -> dict[str, bytes]:
    return completed_files(store, "mortal") if (store / "mortal" / "study.json").exists() else {}


def assert_is_as_if_nothing_had_happened(store: Path, spec_path: Path, undisturbed: StudyResults) -> None:
    outcome = run_command(*go_on(store, spec_path))
    assert outcome.status == 0, outcome.err
    found = results_of(store)
    results = found.results()
    assert list(results["trial"]) == list(range(SPEC["search"]["trials"]))
    assert set(results["state"]) == {"complete"}
    assert set(results["step"]) == {SPEC["train"]["steps"]}
    configurations = results[[column for column in results if column.startswith("config/")]]
    assert not configurations.duplicated().any()
    pd.testing.assert_frame_equal(results, undisturbed.results())
    pd.testing.assert_frame_equal(
        found.reports().drop(columns=["time", "launch"]), undisturbed.reports().drop(columns=["time", "launch"])
    )
    ours, theirs = (store_files(one.store, "checkpoints", "latents") for one in (found, undisturbed))
    assert ours == theirs


def store_files(store: StudyStore, *kinds: str) -> dict[str, bytes]:
    return {name: store.objects.read(name) for kind in kinds for name in store.objects.names(f"mortal/{kind}")}


def test_killed_before_and_after_each_kind_of_write(tmp_path, spec_path, undisturbed):
    store = tmp_path / "runs"
    for kind, (method, pattern, count) in WRITES.items():
        for when in ("before", "after"):
            before = complete_trials_before(store)
            crash = environment(when=when, method=method, pattern=pattern, count=count)
            with Running(*go_on(store, spec_path), env=crash) as running:
                status = running.wait(timeout_s=120)
            assert status == -9, f"{when} {kind}: {''.join(running.lines)}"
            after = complete_trials_before(store)
            assert {name: after.get(name) for name in before} == before, f"{when} {kind}"
    assert_is_as_if_nothing_had_happened(store, spec_path, undisturbed)


def test_killed_at_random_times(tmp_path, spec_path, undisturbed):
    store = tmp_path / "runs"
    times = random.Random(SEED)
    for _ in range(RANDOM_DEATHS):
        before = complete_trials_before(store)
        with Running(*go_on(store, spec_path), env=environment()) as running:
            time.sleep(times.uniform(0.5, 10))
            running.kill()
        after = complete_trials_before(store)
        assert {name: after.get(name) for name in before} == before
    assert_is_as_if_nothing_had_happened(store, spec_path, undisturbed)
