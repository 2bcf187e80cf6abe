"""docs/own-recordings.md, run command by command."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile

from tests.messages import assert_mentions
from tests.study.commands import ROOT
from tests.study.datasets.recordings import write_recordings

PAGE = (ROOT / "docs" / "own-recordings.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", PAGE, flags=re.DOTALL | re.MULTILINE)


def run(line: str, folder: Path) -> subprocess.CompletedProcess:
    """Run a line in a shell in the folder, with the commands of this environment first in the path."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    command = ["bash", "-euo", "pipefail", "-c", line]
    return subprocess.run(
        command, cwd=folder, env={**os.environ, "PATH": path}, capture_output=True, text=True, timeout=480, check=False
    )


@pytest.mark.nightly
def test_the_own_recordings_tutorial_runs(tmp_path):
    write_recordings(tmp_path / "recordings")
    table = (tmp_path / "recordings" / "factors.csv").read_text(encoding="utf-8")
    (sample,) = (content for kind, content in BLOCKS if kind == "")
    assert table.splitlines()[: len(sample.splitlines())] == sample.splitlines()
    said = {}
    for kind, content in BLOCKS:
        if kind == "yaml":
            name = content.splitlines()[0].removeprefix("# ")
            (tmp_path / name).write_text(content, encoding="utf-8")
        elif kind == "sh":
            for line in content.splitlines():
                done = run(line, tmp_path)
                assert done.returncode == 0, f"{line}\n{done.stderr}"
                said[" ".join(line.split()[1:3])] = done.stdout + done.stderr
        elif kind == "python":
            (tmp_path / "notebook.py").write_text(content, encoding="utf-8")
            done = run("python notebook.py", tmp_path)
            assert done.returncode == 0, done.stderr
            said["notebook"] = done.stdout
    assert_mentions(said["data build"], "240 clips", "folder", "prepared")
    assert f"{tmp_path}/runs/_data/" in said["data describe"]
    assert re.search(r"\b0\b.*complete", said["results voices"])
    assert "vowel" in said["leakage voices"]
    assert "verified: " in said["verify exported/voices-*"]
    assert said["notebook"] == "torch.Size([1, 8]) torch.Size([1, 8])\n"
    features = pd.read_parquet(tmp_path / "features.parquet")
    assert len(features) == 240
    assert list(features.columns[:3]) == ["file", "start_s", "private/0"]
    # The store alone is enough from here on.
    shutil.rmtree(tmp_path / "recordings")
    again = run("marl-study export voices --trial 0 --to again && marl-study verify again/*", tmp_path)
    assert again.returncode == 0, again.stderr
    heard, sample_rate = soundfile.read(tmp_path / "swapped.wav")
    assert (len(heard), sample_rate) == (16_000, 16_000)
    assert np.abs(heard).max() > 0.01
