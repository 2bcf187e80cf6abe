"""Objects in a folder or a bucket: written whole under their final name, never changed.

One place for what storage does differently: credentials, errors, retries and atomic writes.
"""

import errno
import os
import time
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import fsspec
from fsspec.implementations.local import LocalFileSystem

from study.errors import UserError

__all__ = ["Objects"]

_Result = TypeVar("_Result")

_ATTEMPTS = 6
_FIRST_WAIT_S = 0.2
_UNFINISHED = ".unfinished-"
# Servers other than AWS refuse, or answer wrongly, the checksums that botocore began to send by default.
_S3_CONFIG = {
    "request_checksum_calculation": "when_required",
    "response_checksum_validation": "when_required",
    "connect_timeout": 10,
    "read_timeout": 60,
}


class Objects:
    """A tree of objects under a URI: a path of this machine, or `s3://bucket/prefix`.

    Keys and endpoint of S3 come from the usual variables, AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and
    AWS_ENDPOINT_URL.

    Raises:
        UserError: when the URI is of no kind that is known.
    """

    def __init__(self, uri: str) -> None:
        options: dict[str, Any] = {}
        if uri.startswith("s3://"):
            options = {
                "config_kwargs": _S3_CONFIG,
                "endpoint_url": os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL"),
                "use_listings_cache": False,
                "max_concurrency": 1,  # or the size of each object is asked for before it is read
            }
        try:
            self._files, self._root = fsspec.core.url_to_fs(uri, **options)
        except (ValueError, ImportError) as error:
            raise UserError(f"store {uri}: must be a folder or s3://bucket/prefix; {error}") from None
        self.uri = uri.rstrip("/") if "://" in uri else self._root
        self._is_local = isinstance(self._files, LocalFileSystem)

    def read(self, name: str) -> bytes:
        """The content of an object.

        Raises:
            FileNotFoundError: when there is none of that name.
            UserError: when the store cannot be reached or refuses.
        """
        content: bytes = self._retried(lambda: self._files.cat_file(self._path(name)))
        return content

    def read_all(self, names: Sequence[str]) -> dict[str, bytes]:
        """Contents of objects by name, read side by side with one request each; those that are not there are left out.

        Raises:
            UserError: when the store cannot be reached or refuses.
        """
        found: dict[str, bytes] = {}
        absent: set[str] = set()

        def read() -> None:
            waiting = [name for name in names if name not in found and name not in absent]
            # Unlike `cat` it takes names as they are, and no star in one for a pattern.
            contents = self._files.cat_ranges([self._path(name) for name in waiting], None, None, on_error="return")
            errors: list[Exception] = []
            for name, content in zip(waiting, contents, strict=True):
                if isinstance(content, FileNotFoundError):
                    absent.add(name)
                elif isinstance(content, Exception):
                    errors.append(content)
                else:
                    found[name] = content
            if errors:  # what is hopeless first; else only what failed is read again
                raise min(errors, key=_is_passing)

        if names:
            self._retried(read)
        return found

    def write(self, name: str, content: bytes) -> None:
        """Write an object whole: readers see all of it or nothing.

        Raises:
            UserError: when the store cannot be reached, refuses or is full.
        """
        try:
            if self._is_local:
                self._retried(lambda: self._write_file(Path(self._path(name)), content))
            else:
                self._retried(lambda: self._files.pipe_file(self._path(name), content))
        except FileNotFoundError:
            raise UserError(f"store {self.uri}: no folder can be made there") from None

    def names(self, prefix: str) -> list[str]:
        """Names of all objects under a prefix, sorted."""
        return list(self.sizes(prefix))

    def sizes(self, prefix: str) -> dict[str, int]:
        """Bytes of all objects under a prefix, by name, sorted."""
        return {name: int(entry["size"] or 0) for name, entry in self._entries(prefix).items()}

    def stamps(self, prefix: str) -> dict[str, str]:
        """Of all objects under a prefix, by name, sorted: what is another when an object was written again.

        One request for each thousand objects. It is the size with the entity tag, or the time and number of the file.
        """
        fields = ("size", "ETag", "mtime", "ino")
        entries = self._entries(prefix)
        return {name: " ".join(str(entry.get(field)) for field in fields) for name, entry in entries.items()}

    def folders(self) -> list[str]:
        """Names of the folders at the top, sorted."""

        def folders() -> list[str]:
            try:
                entries = self._files.ls(self._root, detail=True)
            except FileNotFoundError:
                return []
            return sorted(Path(entry["name"]).name for entry in entries if entry["type"] == "directory")

        return self._retried(folders)

    def delete(self, prefix: str) -> None:
        """Delete an object, or everything under a prefix."""

        def delete() -> None:
            if self._files.exists(self._path(prefix)):
                self._files.rm(self._path(prefix), recursive=True)

        self._retried(delete)

    def check_writable(self) -> None:
        """Write, list, read and delete a small object.

        Raises:
            UserError: when one of them does not work.
        """
        name = f"check-{uuid.uuid4().hex}"
        self.write(name, b"marl-study")
        try:
            if self.read(name) != b"marl-study":
                raise UserError(f"store {self.uri}: an object was written and another one read")
        finally:
            self.delete(name)

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}"

    def _entries(self, prefix: str) -> dict[str, dict[str, Any]]:
        """What the store says of all objects under a prefix, by name, sorted."""
        found: dict[str, dict[str, Any]] = self._retried(lambda: self._find(prefix))
        return found

    def _find(self, prefix: str) -> dict[str, dict[str, Any]]:
        self._files.invalidate_cache()
        try:
            path = self._path(prefix)
            entries = _files_below(path) if self._is_local else self._files.find(path, detail=True)
        except FileNotFoundError:
            return {}
        by_name = {path[len(self._root) :].lstrip("/"): entry for path, entry in entries.items()}
        return {name: by_name[name] for name in sorted(by_name) if not Path(name).name.startswith(_UNFINISHED)}

    def _write_file(self, path: Path, content: bytes) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_name(f"{_UNFINISHED}{uuid.uuid4().hex}")
        try:
            with unfinished.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            unfinished.replace(path)
        except BaseException:
            unfinished.unlink(missing_ok=True)
            raise

    def _retried(self, action: Callable[[], _Result]) -> _Result:
        """Try again, with growing pauses, what may go better next time; explain what will not."""
        for attempt in range(_ATTEMPTS):
            try:
                return action()
            except FileNotFoundError as error:
                if type(error.__cause__).__name__ != "NoSuchBucket":
                    raise
                raise UserError(f"store {self.uri}: there is no such bucket") from None
            except Exception as error:
                if not _is_passing(error) or attempt == _ATTEMPTS - 1:
                    raise UserError(f"store {self.uri}: {_reason(error)}") from error
                time.sleep(_FIRST_WAIT_S * 2**attempt)
        raise AssertionError("the last attempt returns or raises")


def _files_below(path: str) -> dict[str, dict[str, Any]]:
    """A file, or all in a folder, by path.

    One that is deleted meanwhile is listed: whoever reads it learns that, and lists again. Were it left out, what it
    was compacted into could be missing too, as something that came after the folder was read.
    """
    paths = [Path(path)] if Path(path).is_file() else []
    paths += [Path(folder, name) for folder, _, names in os.walk(path) for name in names]
    entries = {}
    for one in paths:
        try:
            found = one.stat()
        except FileNotFoundError:
            entries[str(one)] = {"size": 0}
        else:
            entries[str(one)] = {"size": found.st_size, "mtime": found.st_mtime_ns, "ino": found.st_ino}
    return entries


def _is_passing(error: Exception) -> bool:
    """Whether the same call may work a little later."""
    if isinstance(error, PermissionError):
        return False
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EROFS, errno.ENOTDIR, errno.EACCES):
        return False
    return isinstance(error, TimeoutError | ConnectionError | OSError) and not _is_refused_endpoint(error)


def _is_refused_endpoint(error: Exception) -> bool:
    return type(error).__name__ in ("NoCredentialsError", "PartialCredentialsError")


def _reason(error: Exception) -> str:
    name = type(error).__name__
    if _is_refused_endpoint(error):
        return "no keys found; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
    if isinstance(error, PermissionError) and error.errno != errno.EACCES:
        return f"access denied; check the keys and their rights ({error})"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return f"{name}: {error}"
