"""The store of a study: its layout, who may write it, and what is done with what cannot be read."""

from study.store.layout import Checkpoint, Document, StudyStore, Table, UnreadableObject, list_studies

__all__ = ["Checkpoint", "Document", "StudyStore", "Table", "UnreadableObject", "list_studies"]
