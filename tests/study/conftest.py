"""Spec files, and the command line in this process."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

import study.cli
from tests.study.commands import Outcome, run_on_ray


@pytest.fixture
def spec_file(tmp_path: Path) -> Callable[[dict[str, Any]], Path]:
    """Function that writes a spec to a file."""

    def write(content: dict[str, Any]) -> Path:
        path = tmp_path / "spec.yaml"
        path.write_text(yaml.safe_dump(content))
        return path

    return write


@pytest.fixture
def cli(monkeypatch, capfd) -> Callable[..., Outcome]:
    """Function that runs a command in this process, for commands that do not start Ray."""
    monkeypatch.delenv("MARL_STORE", raising=False)

    def invoke(*arguments: object) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["marl-study", *map(str, arguments)])
        capfd.readouterr()
        with pytest.raises(SystemExit) as leave:
            study.cli.main()
        captured = capfd.readouterr()
        return Outcome(int(leave.value.code or 0), captured.out, captured.err)

    return invoke


@pytest.fixture
def cli_on_ray(ray_of_process, monkeypatch) -> Callable[..., Outcome]:
    """Function that runs a command of a study in this process, on its Ray, without the plain VAE by default."""
    monkeypatch.delenv("MARL_STORE", raising=False)
    return run_on_ray


@pytest.fixture(autouse=True)
def no_baselines(monkeypatch):
    """Skip the evaluation of baselines, whose probes take longer than everything else in these tests."""
    monkeypatch.setattr("study.training.lanes.update_baselines", lambda *_: None)


@pytest.fixture
def flat_maps(monkeypatch):
    """Replace UMAP, whose compilation takes half a minute, with the first latent twice."""
    monkeypatch.setattr("study.charts.trial._embed", lambda latents_ND: latents_ND[:, [0, 0]])
