"""The object store of studies: whole writes, bounded reads, and retries while storage fails."""

import contextlib
import os
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, TypeVar

import tenacity

from study.atomic_path import UNFINISHED
from study.errors import UserError
from study.storage.failures import TooLargeError, failure_of, response_code
from study.storage.filesystem import Entry, open_filesystem

__all__ = ["RUN_RETRY_TIMEOUT_S", "ObjectStore"]

RUN_RETRY_TIMEOUT_S = 600.0
"""How long processes of a running study retry, in seconds."""

_Result = TypeVar("_Result")

_COMMAND_RETRY_TIMEOUT_S = 10.0
_MAX_PAUSE_S = 15.0
_OUTAGE_AFTER_S = 5.0  # failures that end sooner are not reported
_MAX_BYTES = 1 << 30
_CLOCK_MAX_AGE_S = 300.0
# The date of a response has whole seconds, and the response travelled: smaller differences are ignored.
_CLOCK_TOLERANCE = timedelta(seconds=2)
_LOST = "the store lost an object that it accepted"
_PRECONDITION_FAILED, _RANGE_NOT_SATISFIABLE, _NOT_IMPLEMENTED = 412, 416, 501
_SCHEMES = ("", "file", "s3", "gs", "az", "memory")


class ObjectStore:
    """A tree of objects in a folder or a bucket. Threads may share it.

    Credentials and endpoint come from the provider's usual variables and files (AWS_PROFILE, AWS_ENDPOINT_URL, ~/.aws,
    GOOGLE_APPLICATION_CREDENTIALS, …); MARL_STORAGE_OPTIONS may hold further arguments of the filesystem as JSON.

    Args:
        uri: A path of this machine, or `s3://bucket/prefix`, `gs://bucket/prefix`, `az://container/prefix`.
        retry_timeout_s: How long to retry a failed call, in seconds. Up to the default only retryable failures are
            retried. A longer timeout means that the store worked before, so every failure is retried: credentials may
            be refreshed and a full disk cleared.

    Raises:
        UserError: If the store cannot be reached, refuses, or is full. All methods raise it.
    """

    def __init__(self, uri: str, retry_timeout_s: float = _COMMAND_RETRY_TIMEOUT_S) -> None:
        scheme, _, path = uri.rpartition("://")
        if scheme not in _SCHEMES or (scheme not in ("", "file") and not path.strip("/")):
            raise UserError(f"--store: must be a folder, or s3://, gs:// or az://bucket/prefix; got {uri!r}")
        if scheme in ("", "file"):
            # Symbolic links stay as they are named.
            self.uri = self._root = os.path.abspath(os.path.expanduser(path))  # noqa: PTH100, PTH111
        else:
            self.uri = uri.rstrip("/")
            self._root = f"{'/' if scheme == 'memory' else ''}{path.strip('/')}"
        self._retry_timeout_s = retry_timeout_s
        self._lock = threading.Lock()
        self._filesystem: Any = None
        # Calls that are being retried: when each began to fail, by both clocks, and why.
        self._failing: dict[object, tuple[float, datetime, str]] = {}
        self._clock_offset = timedelta()
        self._clock_read = -float("inf")

    @property
    def filesystem(self) -> Any:
        """The filesystem of fsspec, with the credentials that existed when it was created."""
        with self._lock:
            if self._filesystem is None:
                self._filesystem = open_filesystem(self.uri)
            return self._filesystem

    @property
    def outage(self) -> str | None:
        """Description of the longest failure if a call has failed for some seconds and is being retried, else None."""
        with self._lock:
            longest = min(self._failing.values(), default=None)
        if longest is None or time.monotonic() - longest[0] < _OUTAGE_AFTER_S:
            return None
        _, time_utc, reason = longest
        return f"store {self.uri} fails since {time_utc:%H:%M:%S} UTC: {reason}"

    def now(self) -> datetime:
        """Return the current time in UTC: by the clock of S3, else by the clock of this machine."""
        if self.uri.startswith("s3://") and time.monotonic() - self._clock_read > _CLOCK_MAX_AGE_S:
            self._retried(self._ask_clock)
        return datetime.now(UTC) + self._clock_offset

    def read(self, name: str, limit: int = _MAX_BYTES) -> bytes:
        """Return the content of an object; raise FileNotFoundError, or TooLargeError above `limit` bytes."""
        return self._retried(lambda: self._read(name, limit))

    def read_all(self, names: Sequence[str]) -> dict[str, bytes]:
        """Read objects concurrently, and return their contents by name, without objects that do not exist."""
        contents: dict[str, bytes | None] = {}

        def read() -> None:
            remaining = [name for name in names if name not in contents]
            paths = [self._path(name) for name in remaining]
            results = self.filesystem.cat_ranges(paths, 0, _MAX_BYTES + 1, on_error="return")
            failed = []
            for name, result in zip(remaining, results, strict=True):
                if isinstance(result, Exception) and failure_of(result) and not _is_empty(result):
                    failed.append(result)
                else:
                    contents[name] = None if isinstance(result, FileNotFoundError) else _content(result, _MAX_BYTES)
            if failed:  # only the failed reads are repeated
                raise failed[0]

        if names:
            self._retried(read)
        return {name: content for name, content in contents.items() if content is not None}

    def write(self, name: str, content: bytes) -> None:
        """Write an object whole: readers see the earlier content or all of the new one."""

        def write() -> None:
            response = self.filesystem.pipe_file(self._path(name), content)
            self._note_clock(response)
            etag = response.get("ETag") if isinstance(response, dict) else None
            try:
                info = self.filesystem.info(self._path(name))
            except FileNotFoundError:
                info = {}
            if info.get("size") != len(content) or (etag and info.get("ETag") != etag):
                raise OSError(_LOST)

        self._retried(write)

    def create(self, name: str, content: bytes) -> bool:
        """Write an object unless one of this name exists; return True if the object has this content now.

        If several processes create one object at once, one gets True in a folder and on servers that support
        conditional writes, such as AWS. On other servers two may get True, and the last content stays.
        """

        def has_content() -> bool | None:
            try:
                return self._read(name, len(content)) == content
            except FileNotFoundError:
                return None
            except TooLargeError:
                return False

        def create() -> bool:
            if has_content() is None:
                try:
                    self.filesystem.pipe_file(self._path(name), content, mode="create")
                except OSError as error:
                    _, status = response_code(error)
                    if status == _NOT_IMPLEMENTED:
                        self.filesystem.pipe_file(self._path(name), content)
                    elif status != _PRECONDITION_FAILED and not isinstance(error, FileExistsError):
                        raise
            # The response of an earlier attempt may have been lost, or the object itself.
            if (created := has_content()) is None:
                raise OSError(_LOST)
            return created

        return self._retried(create)

    def names(self, prefix: str) -> list[str]:
        """Return the names of `entries`."""
        return list(self.entries(prefix))

    def entries(self, prefix: str) -> dict[str, Entry]:
        """Return an object, or all objects under a prefix, sorted by name.

        A bucket takes one request for each thousand objects, and two more if there is none under the prefix.
        """
        infos = self._retried(lambda: self._find(prefix))
        return {
            name: Entry.of(info)
            for name, info in infos.items()
            # Some tools create an object for a folder.
            if not name.endswith("/") and not Path(name).name.startswith(UNFINISHED)
        }

    def folders(self) -> list[str]:
        """Return the names of the top-level folders, sorted."""
        try:
            infos = self._retried(lambda: self.filesystem.ls(self._root, detail=True))
        except FileNotFoundError:
            return []
        return sorted(Path(info["name"]).name for info in infos if info["type"] == "directory")

    def delete(self, prefix: str) -> None:
        """Delete an object, or all objects under a prefix."""

        def delete() -> None:
            self.filesystem.rm(self._path(prefix), recursive=True)
            if self._find(prefix):  # s3fs does not raise the errors of single objects
                raise OSError(f"objects under {prefix!r} could not be deleted")

        with contextlib.suppress(FileNotFoundError):
            self._retried(delete)

    def check_writable(self) -> None:
        """Write, read and delete a small object; raise a UserError if one of these calls fails."""
        name = f"check-{uuid.uuid4().hex}"
        self.write(name, b"marl-study")
        try:
            if self.read(name) != b"marl-study":
                raise UserError(f"store {self.uri}: returned another content than was written")
        finally:
            self.delete(name)

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}"

    def _read(self, name: str, limit: int) -> bytes:
        (result,) = self.filesystem.cat_ranges([self._path(name)], 0, limit + 1, on_error="return")
        try:
            return _content(result, limit)
        except TooLargeError:
            raise TooLargeError(limit, self.filesystem.info(self._path(name))["size"]) from None

    def _find(self, prefix: str) -> dict[str, dict[str, Any]]:
        folder, start = f"{prefix}/" if prefix else "", len(self._root) + 1
        found = self.filesystem.find(self._root, detail=True, prefix=folder)
        infos = {path[start:]: info for path, info in sorted(found.items()) if path[start:].startswith(folder)}
        with contextlib.suppress(FileNotFoundError):
            if not infos and prefix and (info := self.filesystem.info(self._path(prefix)))["type"] == "file":
                return {prefix: info}
        return infos

    def _ask_clock(self) -> None:
        """Note the date of a response of S3; a refusal has a date too."""
        try:
            response = self.filesystem.call_s3("head_bucket", Bucket=self._root.partition("/")[0])
        except OSError as error:
            response = getattr(error.__cause__, "response", None)
            if response is None:
                raise
        self._note_clock(response)

    def _note_clock(self, response: Any) -> None:
        """Set the offset of the store's clock from the date of a response of S3."""
        try:
            date = parsedate_to_datetime(response["ResponseMetadata"]["HTTPHeaders"]["date"])
        except (KeyError, TypeError, ValueError):
            return
        offset = date + timedelta(seconds=0.5) - datetime.now(UTC)
        if abs(offset - self._clock_offset) > _CLOCK_TOLERANCE:
            self._clock_offset = offset
        self._clock_read = time.monotonic()

    def _retried(self, action: Callable[[], _Result]) -> _Result:
        """Call an action, and retry it with growing random pauses; raise a UserError if it fails for good."""
        began, call = time.monotonic(), object()
        pause = tenacity.wait_random_exponential(multiplier=0.4, max=_MAX_PAUSE_S)
        retrying = tenacity.Retrying(
            stop=tenacity.stop_after_delay(self._retry_timeout_s),
            wait=lambda state: min(pause(state), max(0.0, began + self._retry_timeout_s - time.monotonic())),
            retry=tenacity.retry_if_exception(lambda error: self._is_retryable(call, error)),
            reraise=True,
        )
        try:
            return retrying(action)
        except Exception as error:
            failure, waited_s = failure_of(error), time.monotonic() - began
            if failure is None:
                raise
            retried = f"; retried for {waited_s:.0f} s" if waited_s > _OUTAGE_AFTER_S else ""
            raise UserError(f"store {self.uri}: {failure.reason}{retried}") from error
        finally:
            with self._lock:
                self._failing.pop(call, None)

    def _is_retryable(self, call: object, error: BaseException) -> bool:
        failure = failure_of(error)
        if failure is None:
            return False
        with self._lock:
            began, time_utc, _ = self._failing.get(call, (time.monotonic(), datetime.now(UTC), ""))
            self._failing[call] = began, time_utc, failure.reason
            if failure.is_refusal:
                self._filesystem = None  # credentials of a role or a file are replaced while a study runs
        return failure.retryable or self._retry_timeout_s > _COMMAND_RETRY_TIMEOUT_S


def _content(result: bytes | Exception, limit: int) -> bytes:
    """Return the content that a read returned, or raise its error."""
    if isinstance(result, Exception):
        if not _is_empty(result):
            raise result
        result = b""
    if len(result) > limit:
        raise TooLargeError(limit)
    return result


def _is_empty(error: Exception) -> bool:
    """Return True for the error that a server returns for a range of an empty object."""
    return response_code(error)[1] == _RANGE_NOT_SATISFIABLE
