"""A study whose command is killed, at a kind of write or at a random time, loses nothing and does nothing twice.

One study lives through all deaths of a test: each resume is also the next run to be killed. A death takes a quarter of
a minute. So every run of the tests has one at each kind of write, before or after it, and some at random times, half of
them in the seconds in which a run begins, half while it trains; `make cluster-test` has the others.
"""

import json
import random
import time
from itertools import cycle
from pathlib import Path

import pandas as pd
import pytest
import yaml

from study.analysis import StudyResults
from study.storage import ObjectStore
from study.store import StudyStore
from tests.study.commands import TINY, Running, completed_files, run_command

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

# Trials enough for every death: some are complete after most, and some must be left for the last.
SPEC = {
    **TINY,
    "name": "mortal",
    "train": {"steps": 90, "batch_pairs": 16, "reports": 3},
    "search": {"sampler": "qmc", "trials": 20},
}
CHECKPOINT = r"^mortal/checkpoints/\d+/\d+/\d+/"
# Each kind of write: the method, a pattern of names, and which such call it shall be.
WRITES = {
    "the study's document": ("write", "^mortal/study.json", 1),
    "a run's lease": ("write", "^mortal/leases/", 1),
    "a run's beginning": ("create", "^mortal/runs/", 1),
    "the deletion of a lease": ("delete", "^mortal/leases/", 1),
    "a run's heartbeat": ("write", "^mortal/runs/", 2),
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
SEED = 20261121


@pytest.fixture(scope="module")
def spec_path(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("crash") / "mortal.yaml"
    path.write_text(yaml.safe_dump(SPEC))
    return path


@pytest.fixture(scope="module")
def undisturbed(spec_path) -> StudyResults:
    store = spec_path.parent / "undisturbed"
    outcome = run_command("run", spec_path, "--store", store, env=environment())
    assert outcome.status == 0, outcome.err
    return results_of(store)


@pytest.mark.parametrize("first", ["before", pytest.param("after", marks=pytest.mark.fault)])
def test_killed_before_or_after_each_kind_of_write_in_turn(first, tmp_path, spec_path, undisturbed):
    store = tmp_path / "runs"
    turns = {"before": ("before", "after"), "after": ("after", "before")}[first]
    for (kind, (method, pattern, count)), when in zip(WRITES.items(), cycle(turns), strict=False):
        before = complete_trials(store)
        crash = environment(when=when, method=method, pattern=pattern, count=count)
        with Running(*go_on(store, spec_path), env=crash) as running:
            status = running.wait(timeout_s=120)
        assert status == -9, f"{when} {kind}: {''.join(running.lines)}"
        after = complete_trials(store)
        assert {name: after.get(name) for name in before} == before, f"{when} {kind}"
    assert_is_as_if_nothing_had_happened(store, spec_path, undisturbed)


@pytest.mark.parametrize("deaths", [8, pytest.param(20, marks=pytest.mark.fault)])
def test_killed_at_random_times(deaths, tmp_path, spec_path, undisturbed):
    store = tmp_path / "runs"
    times = random.Random(SEED)
    for death in range(deaths):
        before = complete_trials(store)
        with Running(*go_on(store, spec_path), env=environment()) as running:
            if death % 2:
                running.wait_for_line("training")
            time.sleep(times.uniform(0, 2) if death % 2 else times.uniform(0.5, 10))
            running.kill()
        after = complete_trials(store)
        assert {name: after.get(name) for name in before} == before
    assert_is_as_if_nothing_had_happened(store, spec_path, undisturbed)


def go_on(store: Path, spec_path: Path) -> tuple[object, ...]:
    """`resume`, or `run` while there is nothing to resume."""
    words = ("resume", "mortal") if (store / "mortal" / "study.json").exists() else ("run", spec_path)
    return (*words, "--store", store)


def environment(**crash: object) -> dict[str, str]:
    """Of a command in a hurry (`tests/study/crash`), which dies where `crash` says."""
    return {"PYTHONPATH": str(Path(__file__).with_name("crash")), "MARL_TEST_CRASH": json.dumps(crash or None)}


def complete_trials(store: Path) -> dict[str, bytes]:
    """All files with results of trials that are complete by now."""
    return completed_files(store, "mortal") if (store / "mortal" / "study.json").exists() else {}


def assert_is_as_if_nothing_had_happened(store: Path, spec_path: Path, undisturbed: StudyResults) -> None:
    """Bring the study to its end, and compare it with one that nobody disturbed."""
    outcome = run_command(*go_on(store, spec_path), env=environment())
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
        found.reports().drop(columns=["time", "run"]), undisturbed.reports().drop(columns=["time", "run"])
    )
    ours, theirs = (_store_files(one.store, "checkpoints", "latents") for one in (found, undisturbed))
    assert ours == theirs


def results_of(store: Path) -> StudyResults:
    return StudyResults(StudyStore(ObjectStore(str(store)), "mortal"))


def _store_files(store: StudyStore, *kinds: str) -> dict[str, bytes]:
    return {name: store.objects.read(name) for kind in kinds for name in store.objects.names(f"mortal/{kind}")}
