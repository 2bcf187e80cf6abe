"""Objects as the files of a folder. A file gets its name when it is whole, and on the disk."""

import errno
import os
import shutil
import stat
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

from study.storage.backend import UNFINISHED, Entry, StorageError, TooLarge

__all__ = ["Folder"]

_HOPELESS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.ENOTDIR, errno.EACCES, errno.EPERM)
_WITHOUT_LINKS = (errno.EPERM, errno.ENOTSUP, errno.ENOSYS)


class Folder:
    """A folder of this machine as a `Storage`. Of what else may be in it, pipes and devices are no objects.

    Args:
        path: where; it need not be there.
    """

    def __init__(self, path: str) -> None:
        self.uri = os.path.abspath(os.path.expanduser(path))  # noqa: PTH100, PTH111  # links stay as they are named

    def read(self, name: str, limit: int) -> bytes:
        """The content of a file of at most so many bytes."""
        with _explained():
            path = self._path(name)
            found = path.stat()
            if not stat.S_ISREG(found.st_mode):  # opening a pipe would wait for its writer
                raise FileNotFoundError(f"{path} is no file")
            if found.st_size > limit:
                raise TooLarge(found.st_size, limit)
            with path.open("rb") as file:
                return file.read(limit)

    def read_all(self, names: Sequence[str], limit: int) -> list[bytes | Exception]:
        """The contents of files, or why they cannot be read."""
        return [_or_error(lambda name=name: self.read(name, limit)) for name in names]  # type: ignore[misc]

    def write(self, name: str, content: bytes) -> None:
        """Write a file that has its name only when it is on the disk."""
        path = self._path(name)
        with _explained(), _unfinished(path, content) as unfinished:
            unfinished.replace(path)

    def create(self, name: str, content: bytes) -> bool:
        """The same, if there is none."""
        path = self._path(name)
        with _explained(), _unfinished(path, content) as unfinished:
            try:
                path.hardlink_to(unfinished)
            except FileExistsError:
                return False
            except OSError as error:
                if error.errno not in _WITHOUT_LINKS:
                    raise
                if path.exists():
                    return False
                unfinished.replace(path)
        return True

    def entries(self, prefix: str) -> dict[str, Entry]:
        """A file, or all in a folder.

        One that is deleted meanwhile is listed: whoever reads it learns that, and lists again. Were it left out, what
        it was compacted into could be missing too, as something that came after the folder was read.
        """
        with _explained():
            path = self._path(prefix)
            paths = [path] if path.is_file() else []
            paths += [Path(folder, name) for folder, _, names in os.walk(path) for name in names]
            found = {str(one.relative_to(self.uri)): _entry(one) for one in paths}
            return {name: entry for name, entry in found.items() if entry}

    def folders(self) -> list[str]:
        """Names of the folders at the top."""
        with _explained():
            try:
                return [one.name for one in os.scandir(self.uri) if one.is_dir()]
            except FileNotFoundError:
                return []

    def delete(self, prefix: str) -> None:
        """Delete a file or a folder."""
        with _explained():
            path = self._path(prefix)
            try:
                if path.is_dir() and not path.is_symlink():
                    shutil.rmtree(path)
                else:
                    path.unlink()
            except FileNotFoundError:
                pass

    def clock_offset(self) -> timedelta:
        """None: it is this machine's."""
        return timedelta()

    def refresh_credentials(self) -> None:
        """Nothing: there are no keys."""

    def _path(self, name: str) -> Path:
        return Path(f"{self.uri}/{name}")


def _entry(path: Path) -> Entry | None:
    try:
        found = path.stat()
    except FileNotFoundError:
        return Entry(0, "gone")
    if not stat.S_ISREG(found.st_mode):
        return None
    return Entry(found.st_size, f"{found.st_size} {found.st_mtime_ns} {found.st_ino}")


@contextmanager
def _unfinished(path: Path, content: bytes) -> Iterator[Path]:
    """A file of another name with a content, on the disk. It is gone afterwards."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except FileNotFoundError:
        raise StorageError("no folder can be made there", retryable=False) from None
    unfinished = path.with_name(f"{UNFINISHED}{uuid.uuid4().hex}")
    try:
        with unfinished.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        yield unfinished
    except FileNotFoundError:
        raise StorageError("its folder was deleted meanwhile", retryable=True) from None
    finally:
        unfinished.unlink(missing_ok=True)


@contextmanager
def _explained() -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise
    except OSError as error:
        raise StorageError(error.strerror or str(error), error.errno not in _HOPELESS) from error


def _or_error(action: Callable[[], bytes]) -> bytes | Exception:
    try:
        return action()
    except (FileNotFoundError, TooLarge, StorageError) as error:
        return error
