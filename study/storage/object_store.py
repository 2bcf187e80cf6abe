"""The object store of studies: whole writes, bounded reads, and retries while storage fails."""

import random
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

from study.errors import UserError
from study.storage.backend import UNFINISHED, Backend, Entry, Folder, StorageError, TooLargeError

__all__ = ["RUN_RETRY_TIMEOUT_S", "ObjectStore", "retry"]

RUN_RETRY_TIMEOUT_S = 600.0
"""How long processes of a running study retry, in seconds."""

_Result = TypeVar("_Result")

_COMMAND_RETRY_TIMEOUT_S = 10.0
_FIRST_PAUSE_S = 0.2
_MAX_PAUSE_S = 15.0
# Failures that end sooner are not reported.
_OUTAGE_AFTER_S = 5.0
_MAX_BYTES = 1 << 30


def retry(action: Callable[[], _Result], retry_timeout_s: float, retryable: Callable[[Exception], bool]) -> _Result:
    """Call an action until it succeeds, with growing random pauses.

    Args:
        action: Called at least once, and once more when the timeout ends.
        retry_timeout_s: How long to retry, in seconds.
        retryable: Called with each failure; returns whether the same call may succeed later.

    Raises:
        Exception: The error of the action, if it is not retryable or the timeout has ended.
    """
    deadline = time.monotonic() + retry_timeout_s
    max_pause_s = _FIRST_PAUSE_S
    while True:
        try:
            return action()
        except Exception as error:
            left_s = deadline - time.monotonic()
            if not retryable(error) or left_s <= 0:
                raise
        # Random, so that processes that failed together do not retry together.
        time.sleep(min(left_s, random.uniform(0.5, 1.0) * max_pause_s))  # noqa: S311  # not for secrets
        max_pause_s = min(2 * max_pause_s, _MAX_PAUSE_S)


class ObjectStore:
    """A tree of objects in a local folder or in S3. Threads may share it.

    Credentials and endpoint of S3 come from the usual variables (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY,
    AWS_ENDPOINT_URL), from ~/.aws, or from the role of the machine.

    Args:
        uri: A path of this machine, or `s3://bucket/prefix`.
        retry_timeout_s: How long to retry a failed call, in seconds. Up to the default only retryable failures are
            retried. A longer timeout means that the store worked before, so every failure is retried: credentials may
            be refreshed and a full disk cleared.

    Raises:
        UserError: If the URI has another scheme.
    """

    def __init__(self, uri: str, retry_timeout_s: float = _COMMAND_RETRY_TIMEOUT_S) -> None:
        scheme, _, path = uri.rpartition("://")
        if scheme not in ("", "s3", "file") or (scheme == "s3" and not path.strip("/")):
            raise UserError(f"--store: must be a folder or s3://bucket/prefix; got {uri!r}")
        self._backend: Backend
        if scheme == "s3":
            from study.storage.bucket import Bucket  # imports botocore, which takes a while

            self._backend = Bucket(uri)
        else:
            self._backend = Folder(path)
        self._retry_timeout_s = retry_timeout_s
        # Calls that are being retried: when each began to fail, by both clocks, and why.
        self._failing: dict[object, tuple[float, datetime, str]] = {}
        self._lock = threading.Lock()

    @property
    def uri(self) -> str:
        """Address of the tree."""
        return self._backend.uri

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
        """Return the current time by the clock of the store, in UTC.

        Machines whose own clocks differ agree on it within seconds. A folder has the clock of this machine.
        """
        return datetime.now(UTC) + self._retried(self._backend.clock_offset)

    def read(self, name: str, limit: int = _MAX_BYTES) -> bytes:
        """Return the content of an object.

        Args:
            name: Name of the object.
            limit: Maximum size in bytes.

        Raises:
            FileNotFoundError: If there is no object of this name.
            TooLargeError: If the object is larger than `limit`.
            UserError: If the store cannot be reached, or refuses.
        """
        return self._retried(lambda: self._backend.read(name, limit))

    def read_all(self, names: Sequence[str]) -> dict[str, bytes]:
        """Read objects concurrently, with one request each.

        Returns:
            Contents by name, without objects that do not exist.

        Raises:
            UserError: If the store cannot be reached, or refuses.
        """
        contents: dict[str, bytes] = {}
        absent: set[str] = set()

        def read() -> None:
            remaining = [name for name in names if name not in contents and name not in absent]
            errors: list[StorageError] = []
            for name, content in zip(remaining, self._backend.read_all(remaining, _MAX_BYTES), strict=True):
                if isinstance(content, FileNotFoundError):
                    absent.add(name)
                elif isinstance(content, bytes):
                    contents[name] = content
                elif isinstance(content, StorageError):
                    errors.append(content)
                else:
                    raise content
            if errors:  # permanent errors first; otherwise only the failed reads are repeated
                raise min(errors, key=lambda error: error.retryable)

        if names:
            self._retried(read)
        return contents

    def write(self, name: str, content: bytes) -> None:
        """Write an object whole: readers see the earlier content or all of the new one.

        Raises:
            UserError: If the store cannot be reached, refuses, or is full.
        """
        self._retried(lambda: self._backend.write(name, content))

    def create(self, name: str, content: bytes) -> bool:
        """Write an object unless one of this name exists.

        Returns:
            True if the object has this content now. Of several processes that create one object at once, one gets
            True in a folder and on servers that support conditional writes, such as AWS. On other servers two may get
            True, and the last content stays.

        Raises:
            UserError: If the store cannot be reached, refuses, or is full.
        """

        def create() -> bool:
            if self._has_content(name, content) is None:
                self._backend.create(name, content)
            # The response of an earlier attempt may have been lost, or the object itself.
            has_content = self._has_content(name, content)
            if has_content is None:
                raise StorageError("the store lost an object that it accepted", retryable=True)
            return has_content

        return self._retried(create)

    def names(self, prefix: str) -> list[str]:
        """Return the names of all objects under a prefix, sorted."""
        return list(self.entries(prefix))

    def sizes(self, prefix: str) -> dict[str, int]:
        """Return the sizes in bytes of all objects under a prefix, sorted by name."""
        return {name: entry.size for name, entry in self.entries(prefix).items()}

    def entries(self, prefix: str) -> dict[str, Entry]:
        """Return all objects under a prefix, sorted by name. S3 takes one request for each thousand objects."""
        entries = self._retried(lambda: self._backend.entries(prefix))
        return {name: entries[name] for name in sorted(entries) if not Path(name).name.startswith(UNFINISHED)}

    def folders(self) -> list[str]:
        """Return the names of the top-level folders, sorted."""
        return sorted(self._retried(self._backend.folders))

    def delete(self, prefix: str) -> None:
        """Delete an object, or all objects under a prefix."""
        self._retried(lambda: self._backend.delete(prefix))

    def check_writable(self) -> None:
        """Write, list, read and delete a small object.

        Raises:
            UserError: If one of these calls fails.
        """
        name = f"check-{uuid.uuid4().hex}"
        self.write(name, b"marl-study")
        try:
            if self.read(name) != b"marl-study":
                raise UserError(f"store {self.uri}: returned another content than was written")
        finally:
            self.delete(name)

    def _has_content(self, name: str, content: bytes) -> bool | None:
        """Return whether an object has a content; None if it does not exist."""
        try:
            return self._backend.read(name, len(content)) == content
        except FileNotFoundError:
            return None
        except TooLargeError:
            return False

    def _retried(self, action: Callable[[], _Result]) -> _Result:
        """Call an action of the backend, and retry it; raise a UserError if it fails for good."""
        began, call = time.monotonic(), object()
        try:
            return retry(action, self._retry_timeout_s, lambda error: self._is_retryable(call, error))
        except StorageError as error:
            waited_s = time.monotonic() - began
            retried = f"; retried for {waited_s:.0f} s" if waited_s > _OUTAGE_AFTER_S else ""
            raise UserError(f"store {self.uri}: {error}{retried}") from error
        finally:
            with self._lock:
                self._failing.pop(call, None)

    def _is_retryable(self, call: object, error: Exception) -> bool:
        if not isinstance(error, StorageError):
            return False
        with self._lock:
            began, time_utc, _ = self._failing.get(call, (time.monotonic(), datetime.now(UTC), ""))
            self._failing[call] = began, time_utc, str(error)
        if error.is_refusal:
            self._backend.refresh_credentials()
        return error.retryable or self._retry_timeout_s > _COMMAND_RETRY_TIMEOUT_S
