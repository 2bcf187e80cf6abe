"""The object store of studies: whole writes, bounded reads, and retries while storage fails."""

import contextlib
import json
import os
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import fsspec
import tenacity

from study.errors import TooLargeError, UserError, option, response_code, storage_failure
from study.extras import check_extra
from study.local_files import UNFINISHED, ObjectFolder

RUN_RETRY_TIMEOUT_S = 600.0
"""How long processes of a running study retry, in seconds."""

_Result = TypeVar("_Result")

_COMMAND_RETRY_TIMEOUT_S = 10.0
_MAX_PAUSE_S = 15.0
_OUTAGE_AFTER = timedelta(seconds=5)  # failures that end sooner are not reported
_MAX_BYTES = 1 << 30
# The date of a response has whole seconds, and the response travelled: smaller differences are ignored.
_CLOCK_TOLERANCE = timedelta(seconds=2)
_LOST = "the store lost an object that it accepted"
# Schemes of addresses, and whether they name a bucket.
_SCHEMES = {"": False, "file": False, "s3": True, "gs": True, "az": True, "memory": True}
_EXTRAS = {"s3": "aws", "gs": "gcs", "az": "azure"}
_CONFIG_OF_BOTOCORE = {
    "max_pool_connections": 32,
    "retries": {"total_max_attempts": 1, "mode": "standard"},
    # Servers other than AWS reject, or answer wrongly, the checksums that botocore sends by default.
    "request_checksum_calculation": "when_required",
    "response_checksum_validation": "when_required",
}
_OPTIONS: dict[str, dict[str, Any]] = {"gs": {"requests_timeout": 15}, "s3": {"config_kwargs": _CONFIG_OF_BOTOCORE}}
_PRECONDITION_FAILED, _RANGE_NOT_SATISFIABLE, _NOT_IMPLEMENTED = 412, 416, 501


class Entry(NamedTuple):
    """An object in a listing: its size in bytes, and a tag that changes whenever the object is written."""

    size: int
    etag: str


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
        if scheme not in _SCHEMES or (_SCHEMES[scheme] and not path.strip("/")):
            raise UserError(f"{option('store')}: must be a folder, or s3://, gs:// or az://bucket/prefix; got {uri!r}")
        if _SCHEMES[scheme]:
            self.uri = uri.rstrip("/")
            self._root = f"{'/' if scheme == 'memory' else ''}{path.strip('/')}"
        else:
            # Symbolic links stay as they are named.
            self.uri = self._root = os.path.abspath(os.path.expanduser(path))  # noqa: PTH100, PTH111
        self._retry_timeout_s = retry_timeout_s
        self._lock = threading.Lock()
        self._filesystem: Any = None
        # Calls that are being retried: when each began, and why it failed last.
        self._failing: dict[object, tuple[float, str]] = {}
        self._clock_offset = timedelta()

    @property
    def filesystem(self) -> Any:
        """The filesystem of fsspec, with the credentials that existed when it was created."""
        with self._lock:
            if self._filesystem is None:
                self._filesystem = _open_filesystem(self.uri)
                if self.uri.startswith("s3://"):
                    self._filesystem.s3.meta.events.register("after-call.s3", self._note_clock)
            return self._filesystem

    @property
    def outage(self) -> str | None:
        """Description of the longest failure if a call has failed for some seconds and is being retried, else None."""
        with self._lock:
            began, reason = min(self._failing.values(), default=(time.monotonic(), ""))
        failing = timedelta(seconds=time.monotonic() - began)
        if failing < _OUTAGE_AFTER:
            return None
        return f"store {self.uri} fails since {datetime.now(UTC) - failing:%H:%M:%S} UTC: {reason}"

    def now(self) -> datetime:
        """Return the current time in UTC: by the clock of S3 once it has responded, else by this machine's clock."""
        return datetime.now(UTC) + self._clock_offset

    def read(self, name: str, limit: int = _MAX_BYTES) -> bytes:
        """Return the content of an object; raise FileNotFoundError, or TooLargeError above `limit` bytes."""
        content = self._retried(lambda: self._read(name, limit))
        if len(content) > limit:
            info = self._retried(lambda: self.filesystem.info(self._path(name)))
            raise TooLargeError(limit, info["size"])
        return content

    def read_all(self, names: Sequence[str]) -> dict[str, bytes]:
        """Read objects concurrently, and return their contents by name, without objects that do not exist."""
        paths = [self._path(name) for name in names]
        results = self._retried(lambda: self.filesystem.cat_ranges(paths, 0, _MAX_BYTES + 1, on_error="return"))
        contents = {}
        for name, result in zip(names, results, strict=True):
            with contextlib.suppress(FileNotFoundError):
                is_whole = isinstance(result, bytes) and len(result) <= _MAX_BYTES
                contents[name] = result if is_whole else self.read(name, _MAX_BYTES)
        return contents

    def write(self, name: str, content: bytes) -> None:
        """Write an object whole: readers see the earlier content or all of the new one."""

        def write() -> None:
            response = self.filesystem.pipe_file(self._path(name), content)
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

        def read() -> bytes | None:
            try:
                return self._read(name, len(content))
            except FileNotFoundError:
                return None

        def create() -> bool:
            if (stored := read()) is None:
                try:
                    self.filesystem.pipe_file(self._path(name), content, mode="create")
                except OSError as error:
                    _, status = response_code(error)
                    if status == _NOT_IMPLEMENTED:
                        self.filesystem.pipe_file(self._path(name), content)
                    elif status != _PRECONDITION_FAILED and not isinstance(error, FileExistsError):
                        raise
                # The response of an earlier attempt may have been lost, or the object itself.
                if (stored := read()) is None:
                    raise OSError(_LOST)
            return stored == content

        return self._retried(create)

    def names(self, prefix: str) -> list[str]:
        """Return the names of `entries`."""
        return list(self.entries(prefix))

    def entries(self, prefix: str) -> dict[str, Entry]:
        """Return an object, or all objects under a prefix, sorted by name.

        A bucket takes one request for each thousand objects, and two more if there is none under the prefix.
        """
        entries = {}
        for name, info in self._retried(lambda: self._find(prefix)).items():
            # Some tools create an object for a folder.
            if not name.endswith("/") and not Path(name).name.startswith(UNFINISHED):
                tags = (info.get(key) for key in ("size", "ETag", "etag", "md5Hash", "mtime", "created", "ino"))
                entries[name] = Entry(info["size"], " ".join(str(tag) for tag in tags if tag))
        return entries

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
        self.read(name)
        self.delete(name)

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}"

    def _read(self, name: str, limit: int) -> bytes:
        """Return the content of an object, of a larger one more than `limit` bytes."""
        try:
            content: bytes = self.filesystem.cat_file(self._path(name), start=0, end=limit + 1)
        except OSError as error:
            if response_code(error)[1] != _RANGE_NOT_SATISFIABLE:  # the object is empty
                raise
            return b""
        return content

    def _find(self, prefix: str) -> dict[str, dict[str, Any]]:
        found, start = self.filesystem.find(self._path(prefix).rstrip("/"), detail=True), len(self._root) + 1
        infos = {path[start:]: info or self.filesystem.info(path) for path, info in sorted(found.items())}
        return {name: info for name, info in infos.items() if info["type"] == "file"}

    def _note_clock(self, parsed: dict[str, Any], **_: Any) -> None:
        """Set the offset of the store's clock from the date of a response of S3; a refusal has a date too."""
        with contextlib.suppress(KeyError, TypeError, ValueError):
            date = parsedate_to_datetime(parsed["ResponseMetadata"]["HTTPHeaders"]["date"])
            offset = date + timedelta(seconds=0.5) - datetime.now(UTC)
            if abs(offset - self._clock_offset) > _CLOCK_TOLERANCE:
                self._clock_offset = offset

    def _retried(self, action: Callable[[], _Result]) -> _Result:
        """Call an action, and retry it with growing random pauses; raise a UserError if it fails for good."""
        began, call = time.monotonic(), object()

        def is_retryable(error: BaseException) -> bool:
            failure = storage_failure(error)
            if failure is None:
                return False
            with self._lock:
                self._failing[call] = began, failure.reason
                if failure.is_refusal:
                    self._filesystem = None  # credentials of a role or a file are replaced while a study runs
            return failure.retryable or self._retry_timeout_s > _COMMAND_RETRY_TIMEOUT_S

        pause = tenacity.wait_random_exponential(multiplier=0.4, max=_MAX_PAUSE_S)
        retrying = tenacity.Retrying(
            stop=tenacity.stop_after_delay(self._retry_timeout_s),
            wait=lambda state: min(pause(state), max(0.0, began + self._retry_timeout_s - time.monotonic())),
            retry=tenacity.retry_if_exception(is_retryable),
            reraise=True,
        )
        try:
            return retrying(action)
        except Exception as error:
            if (failure := storage_failure(error)) is None:
                raise
            waited = timedelta(seconds=time.monotonic() - began)
            retried = f"; retried for {waited.seconds} s" if waited > _OUTAGE_AFTER else ""
            raise UserError(f"store {self.uri}: {failure.reason}{retried}") from error
        finally:
            with self._lock:
                self._failing.pop(call, None)


def _open_filesystem(uri: str) -> Any:
    """Return the filesystem of an address, with the options in MARL_STORAGE_OPTIONS for buckets."""
    scheme, separator, _ = uri.partition("://")
    if not separator:
        return ObjectFolder()
    if scheme in _EXTRAS:
        check_extra(_EXTRAS[scheme], uri)
    options = {"use_listings_cache": False, **_OPTIONS.get(scheme, {})}
    try:
        for name, value in dict(json.loads(os.environ.get("MARL_STORAGE_OPTIONS") or "{}")).items():
            options[name] = {**options.get(name, {}), **value} if isinstance(value, dict) else value
        filesystem = fsspec.filesystem(scheme, skip_instance_cache=True, **options)
    except (TypeError, ValueError) as error:
        raise UserError(f"{uri}: MARL_STORAGE_OPTIONS must be a JSON object of arguments of fsspec; {error}") from error
    filesystem.retries = 1  # `ObjectStore` retries
    return filesystem
