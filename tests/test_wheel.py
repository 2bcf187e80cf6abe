"""The wheel: what it contains, and that a study runs with it in an environment that has nothing else."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import pytest
import yaml
from uv import find_uv_bin

from tests.study.commands import ROOT, TINY

PACKAGES = ("marl", "study", "dashboard")
# The tests of this folder must not be what the installed code is tested with.
ENVIRONMENT = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}


def run(*command, cwd, status=0):
    done = subprocess.run(
        list(map(str, command)), cwd=cwd, env=ENVIRONMENT, capture_output=True, text=True, timeout=540, check=False
    )
    assert done.returncode == status, done.stdout + done.stderr
    return done


@pytest.fixture(scope="module")
def files():
    """Files of the project, without those that git ignores."""
    command = ("git", "ls-files", "--cached", "--others", "--exclude-standard")
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip("not a checkout of git")
    return [name for name in done.stdout.splitlines() if (ROOT / name).is_file()]


@pytest.fixture(scope="module")
def wheel(files, tmp_path_factory):
    """The wheel of a copy of the project, because setuptools writes beside what it builds."""
    folder = tmp_path_factory.mktemp("project")
    for name in files:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, folder / name)
    build = ("build", "--wheel", "--no-build-isolation", "--python", sys.executable, "--out-dir", folder / "out")
    run(find_uv_bin(), *build, folder, cwd=folder)
    (path,) = (folder / "out").glob("*.whl")
    return path


def test_the_wheel_contains_the_files_of_the_three_packages_and_nothing_else(wheel, files):
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    metadata = {name for name in names if ".dist-info/" in name}
    assert names - metadata == {name for name in files if name.split("/")[0] in PACKAGES}
    assert {Path(name).name for name in metadata} == {
        *("METADATA", "WHEEL", "RECORD", "entry_points.txt", "top_level.txt", "LICENSE")
    }


@pytest.fixture(scope="module")
def installed(wheel):
    """Folder of the commands of an environment with the base installation, which takes gigabytes."""
    with tempfile.TemporaryDirectory(prefix="marl-wheel-") as folder:
        uv = (find_uv_bin(), "--system-certs")
        run(*uv, "venv", "--python", sys.executable, "environment", cwd=folder)
        python = Path(folder, "environment", "bin", "python")
        lock = ROOT / "requirements.lock"
        run(*uv, "pip", "install", "--python", python, "--constraints", lock, wheel, cwd=folder)
        yield python.parent


@pytest.mark.nightly
def test_a_study_runs_from_an_empty_folder_with_the_wheel_alone(installed, tmp_path):
    def study(*arguments, status=0):
        return run(installed / "marl-study", *arguments, cwd=tmp_path, status=status)

    study("validate", "quickstart")  # a ready study, by its name
    study("init", "quickstart", "-o", "mine.yaml")
    study("validate", "mine.yaml")
    spec = TINY | {"post_training": ["test", "samples", "dci", "sound"]}
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(spec))
    study("run", "tiny.yaml")
    front = json.loads(study("results", "tiny", "--front", "--format", "json").stdout)
    assert front
    assert all(trial["state"] == "complete" and trial["disentanglement/dci"] is not None for trial in front)
    study("plot", "tiny", "-o", "tradeoff.html")
    study("report", "tiny", "-o", "report")
    study("export", "tiny", "--best", "disentanglement/separation", "--to", "exported")
    (bundle,) = (tmp_path / "exported").iterdir()
    study("verify", bundle)
    study("embed", bundle, bundle / "clips", "-o", "features.parquet")
    code = "import sys, marl; print([len(part) for part in marl.load(sys.argv[1]).encode_file(sys.argv[2])])"
    assert (
        run(installed / "python", "-c", code, bundle, bundle / "clips" / "000.flac", cwd=tmp_path).stdout == "[1, 1]\n"
    )
    missing = {"dashboard": ["dashboard"], "aws": ["ls", "--store", "s3://bucket/studies"]}
    missing["cluster"] = ["run", "tiny.yaml", "--address", "http://127.0.0.1:1", "--store", tmp_path / "runs"]
    for extra, command in missing.items():
        assert f"pip install 'marl-study[{extra}]'" in study(*command, status=2).stderr
