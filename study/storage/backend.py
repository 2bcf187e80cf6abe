"""Storage backends: their interface and errors, and the backend for local folders."""

import errno
import os
import shutil
import stat
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import NamedTuple, Protocol

__all__ = ["UNFINISHED", "Backend", "Entry", "Folder", "StorageError", "TooLargeError", "atomic_path"]

UNFINISHED = ".unfinished-"
"""Prefix of the names of files that are being written."""

_PERMANENT_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.ENOTDIR, errno.EACCES, errno.EPERM)
_LINKS_UNSUPPORTED = (errno.EPERM, errno.ENOTSUP, errno.ENOSYS)


class Entry(NamedTuple):
    """An object in a listing.

    Attributes:
        size: Size in bytes.
        etag: Changes whenever the object is written.
    """

    size: int
    etag: str


class StorageError(Exception):
    """Storage cannot be reached, or refuses a call.

    Attributes:
        retryable: Whether the same call may succeed later.
        is_refusal: Whether credentials were refused.
    """

    def __init__(self, reason: str, retryable: bool, is_refusal: bool = False) -> None:
        super().__init__(reason)
        self.retryable = retryable
        self.is_refusal = is_refusal


class TooLargeError(ValueError):
    """An object is larger than its kind can be. It is not read."""

    def __init__(self, size: int, limit: int) -> None:
        super().__init__(f"must have at most {limit:,} bytes; got {size:,}")


class Backend(Protocol):
    """A tree of objects. Each method makes one attempt, and raises StorageError when storage fails.

    Attributes:
        uri: Address of the tree.
    """

    uri: str

    def read(self, name: str, limit: int) -> bytes:
        """Return the content of an object of at most `limit` bytes; raises FileNotFoundError or TooLargeError."""

    def read_all(self, names: Sequence[str], limit: int) -> list[bytes | Exception]:
        """Read objects concurrently. The result of a failed read is the exception that `read` raises."""

    def write(self, name: str, content: bytes) -> None:
        """Write an object whole, and verify that it exists."""

    def create(self, name: str, content: bytes) -> bool:
        """Write an object unless one of this name exists. Some servers ignore the condition.

        Returns:
            True if the object was written.
        """

    def entries(self, prefix: str) -> dict[str, Entry]:
        """Return all objects under a prefix, by name, in any order."""

    def folders(self) -> list[str]:
        """Return the names of the top-level folders, in any order."""

    def delete(self, prefix: str) -> None:
        """Delete an object, or all objects under a prefix."""

    def clock_offset(self) -> timedelta:
        """Return how far the clock of the storage is ahead of the clock of this machine."""

    def refresh_credentials(self) -> None:
        """Look up the credentials again before the next call."""


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Provide the path of a draft that replaces a file or folder when the block ends without an error.

    Readers see the earlier file or the whole new one. After an error, or if the block writes no draft, the path stays
    as it was.

    Args:
        path: File or folder to write; its parent folders are created.

    Yields:
        Path in the same folder, with the same suffix.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with _draft(path) as draft:
        yield draft
        if draft.is_file():
            with draft.open("rb") as file:
                os.fsync(file.fileno())
        elif draft.is_dir() and path.exists():
            shutil.rmtree(path)
        if draft.exists():
            draft.replace(path)


@contextmanager
def _draft(path: Path) -> Iterator[Path]:
    """Provide the path of a draft in the same folder, and delete what is left of the draft afterwards."""
    draft = path.with_name(f"{UNFINISHED}{uuid.uuid4().hex}{path.suffix}")
    try:
        yield draft
    finally:
        if draft.is_dir():
            shutil.rmtree(draft)
        else:
            draft.unlink(missing_ok=True)


class Folder:
    """Backend for a local folder. Only regular files are objects.

    A file gets its name after its content is on the disk.

    Args:
        path: The folder; it need not exist.
    """

    def __init__(self, path: str) -> None:
        self.uri = os.path.abspath(os.path.expanduser(path))  # noqa: PTH100, PTH111  # links stay as they are named

    def read(self, name: str, limit: int) -> bytes:
        """Return the content of a file."""
        with _storage_errors():
            path = self._path(name)
            status = path.stat()
            if not stat.S_ISREG(status.st_mode):  # opening a pipe would wait for its writer
                raise FileNotFoundError(f"{path} is not a file")
            if status.st_size > limit:
                raise TooLargeError(status.st_size, limit)
            with path.open("rb") as file:
                return file.read(limit)

    def read_all(self, names: Sequence[str], limit: int) -> list[bytes | Exception]:
        """Read files one after another."""
        contents: list[bytes | Exception] = []
        for name in names:
            try:
                contents.append(self.read(name, limit))
            except (FileNotFoundError, TooLargeError, StorageError) as error:
                contents.append(error)
        return contents

    def write(self, name: str, content: bytes) -> None:
        """Write a file."""
        with self._written_draft(name, content) as (draft, path):
            draft.replace(path)

    def create(self, name: str, content: bytes) -> bool:
        """Write a file unless it exists."""
        with self._written_draft(name, content) as (draft, path):
            try:
                path.hardlink_to(draft)
            except FileExistsError:
                return False
            except OSError as error:
                if error.errno not in _LINKS_UNSUPPORTED:
                    raise
                if path.exists():
                    return False
                draft.replace(path)
        return True

    def entries(self, prefix: str) -> dict[str, Entry]:
        """Return a file, or all files in a folder.

        A file that is deleted while the folder is listed is included: reading it fails, and the caller lists again.
        Without it the caller could miss the rows of the file, because the file into which they were merged may have
        been written after its folder was listed.
        """
        with _storage_errors():
            root = self._path(prefix)
            paths = [root] if root.is_file() else []
            paths += [Path(folder, name) for folder, _, names in os.walk(root) for name in names]
            entries = {str(path.relative_to(self.uri)): _entry(path) for path in paths}
            return {name: entry for name, entry in entries.items() if entry}

    def folders(self) -> list[str]:
        """Return the names of the top-level folders."""
        with _storage_errors():
            try:
                return [entry.name for entry in os.scandir(self.uri) if entry.is_dir()]
            except FileNotFoundError:
                return []

    def delete(self, prefix: str) -> None:
        """Delete a file or a folder."""
        with _storage_errors():
            path = self._path(prefix)
            try:
                if path.is_dir() and not path.is_symlink():
                    shutil.rmtree(path)
                else:
                    path.unlink()
            except FileNotFoundError:
                pass

    def clock_offset(self) -> timedelta:
        """Return zero: a folder has the clock of this machine."""
        return timedelta()

    def refresh_credentials(self) -> None:
        """Do nothing: a folder has no credentials."""

    def _path(self, name: str) -> Path:
        return Path(f"{self.uri}/{name}")

    @contextmanager
    def _written_draft(self, name: str, content: bytes) -> Iterator[tuple[Path, Path]]:
        """Provide a draft with a content that is on the disk, and the path of the file."""
        path = self._path(name)
        with _storage_errors():
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
            except FileNotFoundError:
                raise StorageError("the folder cannot be created", retryable=False) from None
            try:
                with _draft(path) as draft:
                    with draft.open("wb") as file:
                        file.write(content)
                        file.flush()
                        os.fsync(file.fileno())
                    yield draft, path
            except FileNotFoundError:
                raise StorageError("the folder was deleted during the write", retryable=True) from None


def _entry(path: Path) -> Entry | None:
    """Return the entry of a regular file."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return Entry(0, "deleted")
    if not stat.S_ISREG(status.st_mode):
        return None
    return Entry(status.st_size, f"{status.st_size} {status.st_mtime_ns} {status.st_ino}")


@contextmanager
def _storage_errors() -> Iterator[None]:
    """Convert errors of the operating system into StorageError."""
    try:
        yield
    except FileNotFoundError:
        raise
    except OSError as error:
        raise StorageError(error.strerror or str(error), error.errno not in _PERMANENT_ERRORS) from error
