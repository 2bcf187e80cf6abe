"""A local filesystem of fsspec with the guarantees of an object store, and filesystems of buckets."""

import errno
import json
import os
import stat
from pathlib import Path
from typing import Any, NamedTuple, Self

import fsspec
from fsspec.implementations.local import LocalFileSystem

from study.atomic_path import atomic_path
from study.errors import UserError

__all__ = ["Entry", "ObjectFolder", "open_filesystem"]

_EXTRAS = {"gs": "gcs", "az": "azure"}
_OPTIONS: dict[str, dict[str, Any]] = {
    "gs": {"requests_timeout": 15},
    "s3": {
        "config_kwargs": {
            "max_pool_connections": 32,
            "retries": {"total_max_attempts": 1, "mode": "standard"},
            # Servers other than AWS reject, or answer wrongly, the checksums that botocore sends by default.
            "request_checksum_calculation": "when_required",
            "response_checksum_validation": "when_required",
        }
    },
}


class Entry(NamedTuple):
    """An object in a listing: its size in bytes, and a tag that changes whenever the object is written."""

    size: int
    etag: str

    @classmethod
    def of(cls, info: dict[str, Any]) -> Self:
        """Return the entry for the information of any filesystem about an object."""
        tags = (info.get(key) for key in ("size", "ETag", "etag", "md5Hash", "mtime", "created", "ino"))
        return cls(info["size"], " ".join(str(tag) for tag in tags if tag))


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


def open_filesystem(uri: str) -> Any:
    """Return the filesystem of an address, with the options in MARL_STORAGE_OPTIONS for buckets."""
    scheme, separator, _ = uri.partition("://")
    if not separator:
        return ObjectFolder()
    options = {"use_listings_cache": False, **_OPTIONS.get(scheme, {})}
    try:
        for name, value in dict(json.loads(os.environ.get("MARL_STORAGE_OPTIONS") or "{}")).items():
            options[name] = {**options.get(name, {}), **value} if isinstance(value, dict) else value
        filesystem = fsspec.filesystem(scheme, skip_instance_cache=True, **options)
    except (TypeError, ValueError) as error:
        raise UserError(f"{uri}: MARL_STORAGE_OPTIONS must be a JSON object of arguments of fsspec; {error}") from error
    except ImportError as error:
        extra = _EXTRAS.get(scheme, "")
        raise UserError(f"{uri}: run `pip install 'marl-study[{extra}]'` first; {error}") from error
    filesystem.retries = 1  # `ObjectStore` retries
    return filesystem
