"""Files that processes share: written once, kept while one of them uses them, and removed after that."""

import os
import signal
import subprocess
import sys

import pytest
import torch

from study.datasets import dataset_of, shared_dataset_of, shared_memory
from study.datasets.shared_memory import release_shared_files, remove_unused_files, shared_file
from study.spec import parse_spec
from study.spec.resolve import resolve
from study.storage import ObjectStore
from tests.study.datasets.test_load import spec_of
from tests.study.datasets.tones import prepared

# Writes a file unless there is one, tells so, and keeps it until the end of its input.
USER = """
import sys
from pathlib import Path
from study.datasets import shared_memory
shared_memory._SHARED_MEMORY = Path(sys.argv[1])
with shared_memory.shared_file("content", 4) as path:
    is_new = not path.exists()
    if is_new:
        path.write_text("once")
print("wrote" if is_new else path.read_text(), flush=True)
sys.stdin.read()
shared_memory.release_shared_files()
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The folder of the files of this user."""
    monkeypatch.setattr(shared_memory, "_SHARED_MEMORY", tmp_path)
    monkeypatch.setattr(shared_memory.tempfile, "gettempdir", lambda: str(tmp_path / "disk"))
    yield tmp_path / f"marl-study-{os.getuid()}"
    release_shared_files()


@pytest.fixture
def start(tmp_path):
    """Start a process that uses the file, and return it with what it has found."""
    processes = []

    def start():
        command = [sys.executable, "-c", USER, str(tmp_path)]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        processes.append(process)
        return process, process.stdout.readline().strip()

    yield start
    for process in processes:
        process.kill()
        process.communicate()


def test_the_first_process_writes_a_file_and_the_last_one_removes_it(folder, start):
    first, found = start()
    assert found == "wrote"
    second, found = start()
    assert found == "once"
    first.communicate()
    assert [path.name for path in folder.iterdir() if path.suffix != ".lock"] == ["content"]
    second.communicate()
    assert list(folder.iterdir()) == []


def test_the_file_of_a_process_that_was_killed_is_removed(folder, start):
    process, _ = start()
    remove_unused_files()
    assert (folder / "content").exists()
    process.send_signal(signal.SIGKILL)
    process.wait()
    remove_unused_files()
    assert list(folder.iterdir()) == []


def test_a_file_whose_writer_failed_is_written_by_the_next_process(folder):
    with pytest.raises(OSError, match="full"), shared_file("content", 4):
        raise OSError("full")
    with shared_file("content", 4) as path:
        assert not path.exists()


def test_a_file_that_is_too_large_for_shared_memory_is_on_disk(folder, tmp_path):
    with shared_file("content", 1 << 60) as path:
        path.touch()
    assert path.is_relative_to(tmp_path / "disk")


def test_a_folder_that_others_can_write_to_is_refused(folder):
    folder.mkdir(mode=0o777)
    folder.chmod(0o777)
    with pytest.raises(PermissionError, match="only this user"), shared_file("content", 4):
        pytest.fail("was used")


@pytest.mark.parametrize("kind", ["computed", "prepared"])
def test_a_shared_dataset_equals_the_dataset_to_the_bit(folder, tiny, kind, tmp_path):
    prepared(tmp_path / "store")
    objects = ObjectStore(str(tmp_path / "store"))
    spec = spec_of(tiny) if kind == "prepared" else resolve(parse_spec(tiny, "spec"))
    own = dataset_of(spec, objects, torch.device("cpu"))
    for _ in range(2):  # computed, then found
        shared = shared_dataset_of(spec, objects)
        assert torch.equal(shared.log_mels.values_NFT, own.log_mels.values_NFT)
        assert shared.log_mels.is_prepared == own.log_mels.is_prepared
        assert (shared.audio.mean_db, shared.audio.std_db) == (own.audio.mean_db, own.audio.std_db)
        assert all(torch.equal(clips, own.splits[name]) for name, clips in shared.splits.items())
    assert len([path for path in folder.iterdir() if path.suffix != ".lock"]) == 1


def test_log_mels_beyond_the_memory_limit_are_read_from_their_own_file(folder, tiny, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    prepared(tmp_path / "store")
    dataset = shared_dataset_of(spec_of(tiny, resources={"data_gib": 0.0001}), ObjectStore(str(tmp_path / "store")))
    assert not dataset.log_mels.is_resident
    assert [path for path in folder.iterdir() if path.suffix != ".lock"] == []
