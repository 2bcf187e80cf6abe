"""Local files and folders that are written whole, alone or as the objects of a store."""

import errno
import os
import shutil
import stat
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fsspec.implementations.local import LocalFileSystem

UNFINISHED = ".unfinished-"
"""Prefix of the names of files and folders that are being written."""

_LINKS_UNSUPPORTED = (errno.EPERM, errno.ENOTSUP, errno.ENOSYS)


@contextmanager
def atomic_path(path: Path, exclusive: bool = False) -> Iterator[Path]:
    """Provide the path of a draft that gets its name when the block ends without an error.

    Readers see the earlier file or the whole new one; an earlier folder is deleted just before the new one gets its
    name. After an error, or if the block writes no draft, the path stays as it was.

    Args:
        path: File or folder to write; its parent folders are created.
        exclusive: Raise FileExistsError instead of replacing a file. Of several processes, one succeeds,
            unless the file system has no hard links.

    Yields:
        Path in the same folder, with the same suffix.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f"{UNFINISHED}{uuid.uuid4().hex}{path.suffix}")
    try:
        yield draft
        if draft.is_file():
            with draft.open("rb") as file:
                os.fsync(file.fileno())
        elif draft.is_dir() and path.exists():
            shutil.rmtree(path)
        if exclusive:
            _link(path, draft)
        elif draft.exists():
            draft.replace(path)
    finally:
        if draft.is_dir():
            shutil.rmtree(draft)
        else:
            draft.unlink(missing_ok=True)


class ObjectFolder(LocalFileSystem):  # type: ignore[misc]  # fsspec has no types
    """Local filesystem whose files are written whole. Only regular files are objects."""

    cachable = False

    def pipe_file(self, path: str, value: bytes, mode: str = "overwrite", **_: Any) -> None:
        """Write a file; with the mode "create", raise FileExistsError if it exists."""
        try:
            Path(path).parent.mkdir(parents=True, exist_ok=True)
        except FileNotFoundError:
            raise NotADirectoryError(errno.ENOTDIR, "the folder cannot be created", path) from None
        with atomic_path(Path(path), exclusive=mode == "create") as draft:
            draft.write_bytes(value)

    def cat_file(self, path: str, start: int | None = None, end: int | None = None, **_: Any) -> bytes:
        """Return a part of a file."""
        status = Path(path).stat()
        if not stat.S_ISREG(status.st_mode):  # opening a pipe would wait for its writer
            raise FileNotFoundError(f"{path} is not a file")
        with Path(path).open("rb") as file:
            file.seek(start or 0)
            return file.read(-1 if end is None else max(0, min(end, status.st_size) - (start or 0)))

    def find(self, path: str, *_: Any, **__: Any) -> dict[str, dict[str, Any]]:
        """Return a file, or all files below a folder, by path.

        A file that is deleted while the folder is listed is included: reading it fails, and the caller lists again.
        Without it the caller could miss the rows of the file, because the file into which they were merged may have
        been written after its folder was listed.
        """
        files = [os.path.join(folder, name) for folder, _, names in os.walk(path) for name in names]  # noqa: PTH118
        infos = {file: self._info_or_deleted(file) for file in files or ([path] if Path(path).is_file() else [])}
        return {file: info for file, info in infos.items() if info["type"] == "file"}

    def _info_or_deleted(self, path: str) -> dict[str, Any]:
        try:
            info: dict[str, Any] = self.info(path)
        except FileNotFoundError:
            return {"type": "file", "size": 0, "mtime": "deleted"}
        return info


def _link(path: Path, draft: Path) -> None:
    try:
        path.hardlink_to(draft)
    except OSError as error:
        if error.errno not in _LINKS_UNSUPPORTED:
            raise
        if path.exists():
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path)) from None
        draft.replace(path)
