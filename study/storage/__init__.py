"""Objects in a folder or a bucket through fsspec: written whole, verified, and retried while storage fails."""

from study.storage.object_store import RUN_RETRY_TIMEOUT_S, Entry, ObjectStore

__all__ = ["RUN_RETRY_TIMEOUT_S", "Entry", "ObjectStore"]
