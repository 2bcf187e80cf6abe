"""The one way in which something is tried again: after pauses that grow and are drawn at random, up to a deadline."""

import random
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

from study.errors import UserError
from study.storage.backend import UNFINISHED, Entry, Storage, StorageError, TooLarge
from study.storage.bucket import Bucket
from study.storage.folder import Folder

__all__ = ["RUN_RETRY_TIMEOUT_S", "ObjectStore", "retry"]

_Result = TypeVar("_Result")

_FIRST_PAUSE_S = 0.2
_LONGEST_PAUSE_S = 15.0


def retry(action: Callable[[], _Result], retry_timeout_s: float, retryable: Callable[[Exception], bool]) -> _Result:
    """What an action returns, once it works.

    Args:
        action: is called at least once, and a last time when the time ends.
        retry_timeout_s: for how long it is tried again, seconds.
        retryable: is told of each failure, and says whether the same call may work a little later.

    Raises:
        Exception: the action's own, when it will not pass, or the time has ended.
    """
    deadline = time.monotonic() + retry_timeout_s
    longest_s = _FIRST_PAUSE_S
    while True:
        try:
            return action()
        except Exception as error:
            left_s = deadline - time.monotonic()
            if not retryable(error) or left_s <= 0:
                raise
        # At random, so that those whom one fault has stopped do not all come back at once.
        time.sleep(min(left_s, random.uniform(0.5, 1.0) * longest_s))  # noqa: S311  # no secret depends on it
        longest_s = min(2 * longest_s, _LONGEST_PAUSE_S)


RUN_RETRY_TIMEOUT_S = 600.0
"""For how long whatever runs a study asks again, seconds: storage fails now and then, and comes back."""


# A user waits in front of a command.
_COMMAND_RETRY_TIMEOUT_S = 10.0
# A failure that is over sooner is nobody's concern.
_TROUBLE_AFTER_S = 5.0
_LARGEST = 1 << 30


class ObjectStore:
    """A tree of objects under a URI: a path of this machine, or `s3://bucket/prefix`. Threads may share it.

    Keys and endpoint of S3 come from the usual variables, AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and
    AWS_ENDPOINT_URL, from ~/.aws, or from the machine's role.

    Args:
        uri: where.
        retry_timeout_s: How long to retry a failed call, in seconds. Up to the default only retryable failures are
            retried. A longer timeout means that the store worked before, so every failure is retried: credentials may
            be refreshed and a full disk cleared.

    Raises:
        UserError: when the URI is of no kind that is known.
    """

    def __init__(self, uri: str, retry_timeout_s: float = _COMMAND_RETRY_TIMEOUT_S) -> None:
        kind, _, path = uri.rpartition("://")
        if kind not in ("", "s3", "file") or (kind == "s3" and not path.strip("/")):
            raise UserError(f"store {uri}: must be a folder or s3://bucket/prefix")
        self._storage: Storage = Bucket(uri) if kind == "s3" else Folder(path)
        self._retry_timeout_s = retry_timeout_s
        self._fails_since: tuple[float, datetime] | None = None
        self._reason = ""
        self._lock = threading.Lock()

    @property
    def uri(self) -> str:
        """Where it is."""
        return self._storage.uri

    @property
    def outage(self) -> str | None:
        """What is wrong with a store that has failed for some seconds, and is being asked again; none when it works."""
        with self._lock:
            if self._fails_since is None or time.monotonic() - self._fails_since[0] < _TROUBLE_AFTER_S:
                return None
            return f"store {self.uri} fails since {self._fails_since[1]:%H:%M:%S} UTC: {self._reason}"

    def now(self) -> datetime:
        """What time it is by the store's clock, in UTC; of a folder, by this machine's.

        Machines whose own clocks differ agree on it to some seconds.
        """
        return datetime.now(UTC) + self._retried(self._storage.clock_offset)

    def read(self, name: str, limit: int = _LARGEST) -> bytes:
        """The content of an object of at most so many bytes.

        Raises:
            FileNotFoundError: when there is none of that name.
            TooLarge: a ValueError, when it has more bytes.
            UserError: when the store cannot be reached or refuses.
        """
        return self._retried(lambda: self._storage.read(name, limit))

    def read_all(self, names: Sequence[str]) -> dict[str, bytes]:
        """Contents of objects by name, read side by side with one request each; those that are not there are left out.

        Raises:
            UserError: when the store cannot be reached or refuses.
        """
        found: dict[str, bytes] = {}
        absent: set[str] = set()

        def read() -> None:
            waiting = [name for name in names if name not in found and name not in absent]
            errors: list[StorageError] = []
            for name, content in zip(waiting, self._storage.read_all(waiting, _LARGEST), strict=True):
                if isinstance(content, FileNotFoundError):
                    absent.add(name)
                elif isinstance(content, bytes):
                    found[name] = content
                elif isinstance(content, StorageError):
                    errors.append(content)
                else:
                    raise content
            if errors:  # what is hopeless first; else only what failed is read again
                raise min(errors, key=lambda error: error.retryable)

        if names:
            self._retried(read)
        return found

    def write(self, name: str, content: bytes) -> None:
        """Write an object whole: readers see all of it or nothing. It is there when this returns.

        Raises:
            UserError: when the store cannot be reached, refuses or is full.
        """
        self._retried(lambda: self._storage.write(name, content))

    def create(self, name: str, content: bytes) -> bool:
        """Write an object if there is none of that name; whether it has this content now.

        Of several who create one at once, all but one hear False, in a folder and on servers that know conditions, as
        AWS does. On others two may hear True, and the object has the content of the last.

        Raises:
            UserError: when the store cannot be reached, refuses or is full.
        """

        def create() -> bool:
            if self._is(name, content) is None:
                self._storage.create(name, content)
            # An answer may have been lost, or the object itself.
            is_ours = self._is(name, content)
            if is_ours is None:
                raise StorageError("an object that it took is not there", retryable=True)
            return is_ours

        return self._retried(create)

    def names(self, prefix: str) -> list[str]:
        """Names of all objects under a prefix, sorted."""
        return list(self.entries(prefix))

    def sizes(self, prefix: str) -> dict[str, int]:
        """Bytes of all objects under a prefix, by name, sorted."""
        return {name: entry.size for name, entry in self.entries(prefix).items()}

    def entries(self, prefix: str) -> dict[str, Entry]:
        """What a list says of all objects under a prefix, by name, sorted: one request for each thousand."""
        found = self._retried(lambda: self._storage.entries(prefix))
        return {name: found[name] for name in sorted(found) if not Path(name).name.startswith(UNFINISHED)}

    def folders(self) -> list[str]:
        """Names of the folders at the top, sorted."""
        return sorted(self._retried(self._storage.folders))

    def delete(self, prefix: str) -> None:
        """Delete an object, or everything under a prefix."""
        self._retried(lambda: self._storage.delete(prefix))

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

    def _is(self, name: str, content: bytes) -> bool | None:
        """Whether an object has a content; none when it is not there."""
        try:
            return self._storage.read(name, len(content)) == content
        except FileNotFoundError:
            return None
        except TooLarge:
            return False

    def _retried(self, action: Callable[[], _Result]) -> _Result:
        """Try again what may go better later; explain what will not."""
        began = time.monotonic()
        try:
            result = retry(action, self._retry_timeout_s, self._retryable)
        except StorageError as error:
            waited_s = time.monotonic() - began
            tried = f"; tried again for {waited_s:.0f} s, until now in vain" if waited_s > _TROUBLE_AFTER_S else ""
            raise UserError(f"store {self.uri}: {error}{tried}") from error
        with self._lock:
            self._fails_since = None
        return result

    def _retryable(self, error: Exception) -> bool:
        if not isinstance(error, StorageError):
            return False
        with self._lock:
            self._reason = str(error)
            self._fails_since = self._fails_since or (time.monotonic(), datetime.now(UTC))
        if error.is_refusal:
            self._storage.refresh_credentials()
        return error.retryable or self._retry_timeout_s > _COMMAND_RETRY_TIMEOUT_S
