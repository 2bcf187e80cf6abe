"""Objects in a folder or a bucket: whole, verified, asked for again while storage fails."""

from study.storage.object_store import RUN_RETRY_TIMEOUT_S, ObjectStore

__all__ = ["RUN_RETRY_TIMEOUT_S", "ObjectStore"]
