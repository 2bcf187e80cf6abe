"""Objects in a folder or a bucket: whole, verified, asked for again while storage fails."""

from study.storage.object_store import PATIENT_S, Objects

__all__ = ["PATIENT_S", "Objects"]
