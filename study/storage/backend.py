"""What every kind of storage offers, and how it says that it cannot."""

from collections.abc import Sequence
from datetime import timedelta
from typing import NamedTuple, Protocol

__all__ = ["UNFINISHED", "Entry", "Storage", "StorageError", "TooLarge"]

UNFINISHED = ".unfinished-"
"""How names of objects begin that are not there yet."""


class Entry(NamedTuple):
    """What a list of objects says of one.

    Attributes:
        size: bytes.
        etag: another one when the object was written again.
    """

    size: int
    etag: str


class StorageError(Exception):
    """Storage cannot be reached, or refuses.

    Attributes:
        retryable: whether the same call may work a little later.
        is_refusal: whether it is the keys that were refused.
    """

    def __init__(self, reason: str, retryable: bool, is_refusal: bool = False) -> None:
        super().__init__(reason)
        self.retryable = retryable
        self.is_refusal = is_refusal


class TooLarge(ValueError):  # noqa: N818  # it is no fault of the reader
    """An object has more bytes than anything that is written under such a name: it is not read."""

    def __init__(self, size: int, limit: int) -> None:
        super().__init__(f"has {size:,} bytes, where {limit:,} are the most that it may have")


class Storage(Protocol):
    """A tree of objects: a folder of this machine, or a part of a bucket.

    Each method tries once. Besides what is said, each raises StorageError.

    Attributes:
        uri: where it is.
    """

    uri: str

    def read(self, name: str, limit: int) -> bytes:
        """The content of an object of at most `limit` bytes; raises FileNotFoundError or TooLarge."""

    def read_all(self, names: Sequence[str], limit: int) -> list[bytes | Exception]:
        """The same of many, side by side; what could not be read is the exception that `read` raises."""

    def write(self, name: str, content: bytes) -> None:
        """Write an object whole, and see that it is there."""

    def create(self, name: str, content: bytes) -> bool:
        """The same if there is none of that name; whether it was written. Not all servers keep to the condition."""

    def entries(self, prefix: str) -> dict[str, Entry]:
        """All objects under a prefix, by name, in no order."""

    def folders(self) -> list[str]:
        """Names of the folders at the top, in no order."""

    def delete(self, prefix: str) -> None:
        """Delete an object, or everything under a prefix."""

    def clock_offset(self) -> timedelta:
        """How far the storage's clock is ahead of this machine's."""

    def refresh_credentials(self) -> None:
        """Look for keys anew."""
