"""A tiny study, finished once for all tests that read one, and the command line in this process and in another."""

import copy
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

import study.cli
from study.objects import Objects
from study.results import StudyResults
from study.store import StudyStore

ROOT = Path(__file__).parents[2]

TINY: dict[str, Any] = {
    "name": "tiny",
    "data": {"kind": "syntone", "frequencies": 40, "amplitudes": 4},
    "model": {"width": 16, "embedding": 16, "hidden": 32},
    "train": {"steps": 30, "batch_pairs": 16, "reports": 2},
    "replicates": 2,
    "space": {
        "loss.private.gamma": {"log_uniform": [0.1, 10]},
        "latent.private": {"choice": [2, 4]},
        "contrast.strategy": {"choice": ["none", "infonce"]},
        "contrast.temperature": {"log_uniform": [0.05, 1], "when": {"contrast.strategy": "infonce"}},
    },
    "search": {"sampler": "qmc", "trials": 4},
    "resources": {"lanes": 4},
}


@dataclass
class Outcome:
    """What a command did."""

    status: int
    out: str
    err: str


@pytest.fixture
def tiny() -> dict[str, Any]:
    """The fields of a tiny spec, to be changed by a test."""
    return copy.deepcopy(TINY)


@pytest.fixture
def spec_file(tmp_path: Path) -> Callable[[dict[str, Any]], Path]:
    """Writes a spec to a file."""

    def write(content: dict[str, Any]) -> Path:
        path = tmp_path / "spec.yaml"
        path.write_text(yaml.safe_dump(content))
        return path

    return write


@pytest.fixture
def cli(monkeypatch, capfd) -> Callable[..., Outcome]:
    """The command line in this process: for everything that starts no Ray."""
    monkeypatch.delenv("MARL_STORE", raising=False)

    def invoke(*arguments: object) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["marl-study", *map(str, arguments)])
        capfd.readouterr()
        with pytest.raises(SystemExit) as leave:
            study.cli.main()
        captured = capfd.readouterr()
        return Outcome(int(leave.value.code or 0), captured.out, captured.err)

    return invoke


def command(*arguments: object, **options: Any) -> list[str]:
    """The command line as a user's shell would call it."""
    return [str(Path(sys.executable).with_name("marl-study")), *map(str, arguments)]


def run_command(*arguments: object, env: dict[str, str] | None = None) -> Outcome:
    """The command line in a process of its own."""
    done = subprocess.run(
        command(*arguments), capture_output=True, text=True, timeout=240, env={**os.environ, **(env or {})}, check=False
    )
    return Outcome(done.returncode, done.stdout, done.stderr)


@pytest.fixture(scope="session")
def _finished(tmp_path_factory) -> Path:
    store = tmp_path_factory.mktemp("finished")
    path = store / "tiny.yaml"
    path.write_text(yaml.safe_dump(TINY))
    outcome = run_command("run", path, "--store", store / "runs")
    assert outcome.status == 0, outcome.err
    return store / "runs"


@pytest.fixture
def finished_store(_finished: Path, tmp_path: Path) -> Path:
    """A copy of a store with one finished study, which a test may spoil."""
    return Path(shutil.copytree(_finished, tmp_path / "runs"))


@pytest.fixture
def finished(finished_store: Path) -> StudyResults:
    """The finished study."""
    return StudyResults(StudyStore(Objects(str(finished_store)), "tiny"))
