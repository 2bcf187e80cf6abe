"""Fixtures of several folders: reference values, small data, and a tiny study that ran once."""

import copy
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from filelock import FileLock
from hypothesis import settings

from marl.audio import AudioConfig
from marl.data import Dataset
from marl.data.syntone import SynTone
from study.analysis import StudyResults
from study.storage import ObjectStore
from study.store import StudyStore
from tests.study.commands import TINY, run_on_ray
from tests.study.processes import Switches, environment, shared_ray
from tests.study.s3_server import S3Server, s3_server

# The time of an example depends more on other load than on the code.
settings.register_profile("any machine", deadline=None, max_examples=100 if os.environ.get("CI") else 40)
settings.load_profile("any machine")

REFERENCES = Path(__file__).parent / "references"


@pytest.fixture(scope="session")
def reference() -> Callable[[str, str], dict[str, np.ndarray]]:
    """Function that returns the arrays of one case of a reference file by name."""

    def load(file: str, case: str) -> dict[str, np.ndarray]:
        arrays = np.load(REFERENCES / file)
        prefix = f"{case}/"
        return {key.removeprefix(prefix): arrays[key] for key in arrays.files if key.startswith(prefix)}

    return load


@pytest.fixture
def tiny() -> dict[str, Any]:
    """Fields of a tiny spec, which a test may change."""
    return copy.deepcopy(TINY)


@pytest.fixture(scope="session")
def small_dataset() -> Dataset:
    """640 clips of SynTone: 4 timbres, 40 frequencies, 4 amplitudes."""
    return SynTone(frequencies=40, amplitudes=4).build(AudioConfig(), torch.device("cpu"))


@pytest.fixture(scope="session")
def s3_of_ray(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """S3 server whose keys the workers of `ray_of_process` have."""
    with s3_server(tmp_path_factory.mktemp("s3") / "buckets") as server:
        yield server


@pytest.fixture(scope="session")
def _switches(tmp_path_factory: pytest.TempPathFactory) -> Switches:
    return Switches(tmp_path_factory.mktemp("switches"))


@pytest.fixture
def switches(_switches: Switches) -> Iterator[Switches]:
    """Switches of the trainers that `ray_of_process` starts."""
    yield _switches
    _switches.release()


@pytest.fixture(scope="session")
def ray_of_process(_switches: Switches, s3_of_ray: S3Server) -> Iterator[None]:
    """Ray of this pytest process, which its studies share: its start takes longer than a tiny study."""
    with shared_ray({**environment(switches=_switches.folder), **s3_of_ray.environment}):
        yield


@pytest.fixture(scope="session")
def _finished(tmp_path_factory, worker_id, request) -> Path:
    """Store of a finished study. The first pytest process that needs it runs the study; the others wait."""
    own = tmp_path_factory.getbasetemp()
    folder = (own if worker_id == "master" else own.parent) / "finished"
    with FileLock(f"{folder}.lock"):
        if not folder.exists():
            request.getfixturevalue("ray_of_process")
            begun = tmp_path_factory.mktemp("finished")
            path = begun / "tiny.yaml"
            path.write_text(yaml.safe_dump(TINY))
            outcome = run_on_ray("run", path, "--store", begun / "runs", with_plain_vae=True)
            assert outcome.status == 0, outcome.err
            begun.rename(folder)
    return folder / "runs"


@pytest.fixture
def finished_store(_finished: Path, tmp_path: Path) -> Path:
    """Copy of a store with one finished study, which a test may change."""
    return Path(shutil.copytree(_finished, tmp_path / "runs"))


@pytest.fixture
def finished(finished_store: Path) -> StudyResults:
    """Results of the finished study."""
    return StudyResults(StudyStore(ObjectStore(str(finished_store)), "tiny"))
