"""A local filesystem of fsspec with the guarantees of an object store."""

import errno
import os
import stat
from pathlib import Path
from typing import Any

from fsspec.implementations.local import LocalFileSystem

from study.atomic_path import atomic_path

__all__ = ["ObjectFolder"]


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

    def find(self, path: str, *_: Any, prefix: str = "", **__: Any) -> dict[str, dict[str, Any]]:
        """Return all files below a folder by path.

        A file that is deleted while the folder is listed is included: reading it fails, and the caller lists again.
        Without it the caller could miss the rows of the file, because the file into which they were merged may have
        been written after its folder was listed.
        """
        files = [Path(folder, name) for folder, _, names in os.walk(Path(path, prefix)) for name in names]
        infos = {str(file): self._info_or_deleted(str(file)) for file in files}
        return {file: info for file, info in infos.items() if info["type"] == "file"}

    def _info_or_deleted(self, path: str) -> dict[str, Any]:
        try:
            info: dict[str, Any] = self.info(path)
        except FileNotFoundError:
            return {"type": "file", "size": 0, "mtime": "deleted"}
        return info
