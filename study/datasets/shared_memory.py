"""Files in shared memory, which several processes of this machine map: the log-mels of all its trainers.

A process holds a lock for as long as it uses a file. A file without a lock was left behind by processes that were
killed, and is removed.
"""

import fcntl
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_SHARED_MEMORY = Path("/dev/shm")  # noqa: S108  # a folder of this user is made there
_LOCK = ".lock"
_POLL_S = 0.05
# Descriptors of the locks that this process holds.
_held: list[int] = []


@contextmanager
def shared_file(name: str, size: int) -> Iterator[Path]:
    """Provide the path of a file that other processes use, too. If there is no file yet, the block has to write it.

    Other processes wait until it is written. The file stays until all processes that use it have called
    `release_shared_files` or have ended. What is mapped stays mapped.

    Args:
        name: Name of the file, which tells its content.
        size: Size in bytes. A file that is too large for shared memory lies in the folder for temporary files.
    """
    folder = _folder(size)
    _remove_unused(folder)
    descriptor = _lock(folder / name)
    try:
        yield folder / name
        fcntl.flock(descriptor, fcntl.LOCK_SH)
        _held.append(descriptor)
    except BaseException:
        os.close(descriptor)
        raise


def release_shared_files() -> None:
    """Release all files of this process. Those that no other process uses are removed."""
    while _held:
        os.close(_held.pop())
    remove_unused_files()


def remove_unused_files(timeout_s: float = 0.0) -> None:
    """Remove the files that no process uses; wait for processes that are ending."""
    deadline = time.monotonic() + timeout_s
    for folder in _folders():
        while not _remove_unused(folder) and time.monotonic() < deadline:
            time.sleep(_POLL_S)


def _folders() -> list[Path]:
    return [parent / f"marl-study-{os.getuid()}" for parent in (_SHARED_MEMORY, Path(tempfile.gettempdir()))]


def _folder(size: int) -> Path:
    """Return a folder that only this user can write to."""
    in_memory, on_disk = _folders()
    is_large_enough = _SHARED_MEMORY.is_dir() and shutil.disk_usage(_SHARED_MEMORY).total > 2 * size
    folder = in_memory if is_large_enough else on_disk
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    status = folder.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid() or status.st_mode & 0o022:
        raise PermissionError(f"{folder} must be a folder that only this user can write to")
    return folder


def _lock(file: Path) -> int:
    """Return the descriptor of a lock on a file: a shared one if the file exists, otherwise an exclusive one."""
    path = file.with_name(f"{file.name}{_LOCK}")
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            fcntl.flock(descriptor, fcntl.LOCK_SH)  # waits for a process that writes the file
            is_usable = file.exists()
        else:
            is_usable = True
        # The lock may have been removed since it was opened.
        if is_usable and path.exists() and path.stat().st_ino == os.fstat(descriptor).st_ino:
            return descriptor
        os.close(descriptor)


def _remove_unused(folder: Path) -> bool:
    """Remove files without a lock, and return whether there was no other one."""
    locks = list(folder.glob(f"*{_LOCK}"))
    for lock in locks:
        with suppress(FileNotFoundError, BlockingIOError):
            descriptor = os.open(lock, os.O_RDWR)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                lock.with_suffix("").unlink(missing_ok=True)
                lock.unlink(missing_ok=True)
            finally:
                os.close(descriptor)
    return not any(lock.exists() for lock in locks)
