"""Objects in a folder or a bucket: written whole, verified, and retried while storage fails."""

from study.storage.backend import UNFINISHED, Entry, StorageError, TooLargeError, atomic_path
from study.storage.object_store import RUN_RETRY_TIMEOUT_S, ObjectStore

__all__ = [
    "RUN_RETRY_TIMEOUT_S",
    "UNFINISHED",
    "Entry",
    "ObjectStore",
    "StorageError",
    "TooLargeError",
    "atomic_path",
]
