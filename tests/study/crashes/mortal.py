"""A study whose command is killed again and again, and what it must be in the end: as if nothing had happened."""

import json
from pathlib import Path

import pandas as pd

from study.objects import Objects
from study.results import StudyResults
from study.store import StudyStore
from tests.study.commands import TINY, completed_files, run_command

__all__ = ["SPEC", "assert_is_as_if_nothing_had_happened", "complete_trials", "environment", "go_on", "results_of"]

# Trials enough for every death: some are complete after most, and some must be left for the last.
SPEC = {
    **TINY,
    "name": "mortal",
    "train": {"steps": 90, "batch_pairs": 16, "reports": 3},
    "search": {"sampler": "qmc", "trials": 20},
}


def go_on(store: Path, spec_path: Path) -> tuple[object, ...]:
    """`resume`, or `run` while there is nothing to resume."""
    words = ("resume", "mortal") if (store / "mortal" / "study.json").exists() else ("run", spec_path)
    return (*words, "--store", store)


def environment(**crash: object) -> dict[str, str]:
    """Of a command in a hurry (`tests/study/crash`), which dies where `crash` says."""
    return {"PYTHONPATH": str(Path(__file__).parents[1] / "crash"), "MARL_TEST_CRASH": json.dumps(crash or None)}


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
        found.reports().drop(columns=["time", "launch"]), undisturbed.reports().drop(columns=["time", "launch"])
    )
    ours, theirs = (_store_files(one.store, "checkpoints", "latents") for one in (found, undisturbed))
    assert ours == theirs


def results_of(store: Path) -> StudyResults:
    return StudyResults(StudyStore(Objects(str(store)), "mortal"))


def _store_files(store: StudyStore, *kinds: str) -> dict[str, bytes]:
    return {name: store.objects.read(name) for kind in kinds for name in store.objects.names(f"mortal/{kind}")}
