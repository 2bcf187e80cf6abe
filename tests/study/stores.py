"""Create, read and compare stores of studies in tests."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd

from study.analysis import StudyResults
from study.spec import parse_spec
from study.spec.resolve import resolve
from study.storage import ObjectStore
from study.store import StudyMetadata, StudyStore

__all__ = [
    "RUN",
    "assert_same_models",
    "assert_same_values",
    "completed_files",
    "new_store",
    "results_of",
    "run_elsewhere",
]

RUN = {
    "trials": 3,
    "started": "2026-01-01T10:00:00+00:00",
    "heartbeat": "2026-01-01T10:01:00+00:00",
    "finished": None,
    "host": "a/1",
    "process": 7,
    "process_started": 1.5,
}


def new_store(location: Any, content: Mapping[str, Any], name: str = "tiny") -> StudyStore:
    """Create a study without runs."""
    from study.training.planning import plan_stacks  # with torch

    resolved = resolve(parse_spec({**content, "name": name}, "spec"))
    store = StudyStore(ObjectStore(str(location)), name)
    store.create(
        StudyMetadata(
            spec=resolved.spec,
            stack=plan_stacks(resolved, "cpu", ObjectStore("runs")).model_dump(mode="json"),
            factors=resolved.factors,
            created=datetime.now(UTC),
            writer="1.0",
        )
    )
    return store


def results_of(location: object, name: str = "tiny") -> StudyResults:
    """Return the results of a study in a store."""
    return StudyResults(StudyStore(ObjectStore(str(location)), name))


def run_elsewhere(age_s: float) -> dict[str, Any]:
    """Return the record of a run on another host whose last heartbeat is `age_s` seconds old."""
    heartbeat = (datetime.now(UTC) - timedelta(seconds=age_s)).isoformat()
    return {
        "trials": 3,
        "started": heartbeat,
        "heartbeat": heartbeat,
        "finished": None,
        "host": "other/1",
        "process": 1,
        "process_started": 1.0,
        "token": "0" * 16,
    }


def assert_same_values(ours: StudyResults, theirs: StudyResults, check_dtype: bool = True) -> None:
    """Assert that both studies have the same trials and reports to the last bit."""
    pd.testing.assert_frame_equal(ours.results(), theirs.results())
    reports = [results.reports().drop(columns=["time", "run"]) for results in (ours, theirs)]
    pd.testing.assert_frame_equal(*reports, check_dtype=check_dtype)


def assert_same_models(ours: StudyResults, theirs: StudyResults) -> None:
    """Assert that both studies have the same checkpoints and latents byte by byte, and no others."""
    assert _model_files(ours) == _model_files(theirs)


def completed_files(store: Path, name: str = "tiny") -> dict[str, bytes]:
    """Return the files with results of a study's complete trials: checkpoints, latents and segments of tables."""
    if not (store / name / "study.json").exists():
        return {}
    trials = results_of(store, name).trials()
    complete = {str(trial) for trial in trials[trials["state"] == "complete"]["trial"]} if len(trials) else set()
    files = {}
    for path in (store / name).rglob("*"):
        kind, *rest = path.relative_to(store / name).parts
        if (
            kind in ("trials", "reports")
            or (kind == "checkpoints" and rest and rest[0] in complete)
            or (kind == "latents" and rest and rest[0].partition("-")[0] in complete)
        ) and path.is_file():
            files[str(path.relative_to(store))] = path.read_bytes()
    return files


def _model_files(results: StudyResults) -> dict[str, bytes]:
    store = results.store
    names = [name for kind in ("checkpoints", "latents") for name in store.objects.names(f"{store.name}/{kind}")]
    of_trials = [name for name in names if name.split("/")[2][0].isdigit()]
    return {name: store.objects.read(name) for name in of_trials}
