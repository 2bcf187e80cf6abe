"""The notebooks of examples/, run as a newcomer runs them, and the Python API in a kernel."""

import os
import queue
import time
from pathlib import Path

import nbformat
import pandas as pd
import pytest
from jupyter_client.manager import start_new_kernel
from nbclient import NotebookClient

import marl
import study
from tests.study.commands import ROOT
from tests.study.processes import environment

NOTEBOOKS = sorted((ROOT / "examples").glob("*.ipynb"))


def run(name: str, folder: Path) -> list[nbformat.NotebookNode]:
    """Run a notebook in a folder, and return its code cells."""
    notebook = nbformat.read(ROOT / "examples" / name, as_version=4)
    NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(folder)}}).execute()
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def shown(cell: nbformat.NotebookNode, kind: str) -> list[str]:
    """Return what a cell shows of a MIME type."""
    return [output["data"][kind] for output in cell.outputs if kind in output.get("data", {})]


def printed(cell: nbformat.NotebookNode, stream: str) -> str:
    return "".join(output["text"] for output in cell.outputs if output.get("name") == stream)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_a_notebook_is_valid_and_has_no_outputs(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert code
    assert all(cell.outputs == [] and cell.execution_count is None for cell in code)


@pytest.mark.nightly
def test_a_newcomer_runs_a_study_reads_the_front_listens_and_exports(tmp_path):
    cells = run("quickstart.ipynb", tmp_path)
    _, _, training, front, plot, best, leakage, sounds, export = cells
    assert printed(training, "stdout").startswith("will write at most ")
    assert "trial 5 complete" in printed(training, "stdout")
    assert {output.output_type for output in training.outputs} == {"stream"}
    assert not any(printed(cell, "stderr") for cell in cells)
    assert "front_probability" in shown(front, "text/html")[0]
    assert "vega" in shown(plot, "text/html")[0]
    assert "loss.private.gamma" in shown(best, "text/plain")[0]
    assert "timbre" in shown(leakage, "text/html")[0]
    players = shown(sounds, "text/html")
    assert len(players) == 3
    assert all(player.startswith("<audio") for player in players)
    assert "torch.Size([1, 8])" in shown(export, "text/plain")[0]
    (folder,) = (tmp_path / "exported").iterdir()
    assert marl.load(folder).shared == 8
    assert study.open("first-study", store=tmp_path / "runs").status()["state"] == "complete"


@pytest.mark.nightly
def test_a_folder_of_recordings_becomes_features(tmp_path):
    *_, swap = run("own_recordings.ipynb", tmp_path)
    assert "<audio" in shown(swap, "text/html")[0]
    features = pd.read_parquet(tmp_path / "features.parquet")
    assert len(features) == 180
    assert {"file", "instrument", "private/0", "shared/0"} <= set(features)


@pytest.mark.nightly
def test_interrupting_a_kernel_stops_the_study_and_not_the_kernel(tmp_path):
    spec = {
        "name": "long",
        "data": {"kind": "syntone", "frequencies": 40, "amplitudes": 4},
        "train": {"steps": 10_000_000, "batch_pairs": 16, "reports": 1},
        "space": {"latent.private": {"choice": [2, 4]}},
        "resources": {"lanes": 4, "trainers": 1, "compile": False},
    }
    manager, client = start_new_kernel(env={**os.environ, **environment()}, cwd=str(tmp_path))
    try:
        client.execute(f"import study; study.run({spec!r})")
        wait_for_line(client, "trial-steps/s")
        manager.interrupt_kernel()
        reply = client.get_shell_msg(timeout=120)["content"]
        assert (reply["status"], reply["ename"]) == ("error", "Interrupted")
        assert 'study.resume("long")' in reply["evalue"]
        assert client.execute_interactive("print(1)", timeout=60)["content"]["status"] == "ok"
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
    assert study.open("long", store=tmp_path / "runs").status()["state"] == "interrupted"


def wait_for_line(client, part: str, timeout_s: float = 240) -> None:
    """Return when the kernel has printed the text."""
    text, deadline = "", time.monotonic() + timeout_s
    while part not in text:
        assert time.monotonic() < deadline, text
        try:
            message = client.get_iopub_msg(timeout=5)
        except queue.Empty:
            continue
        text += message["content"].get("text", "")
        assert message["msg_type"] != "error", message["content"]
