"""The store of a study: its layout, who may write it, and what is done with what cannot be read."""

from study.store.layout import Checkpoint, StudyMetadata, StudyStore, Table, list_studies

__all__ = ["Checkpoint", "StudyMetadata", "StudyStore", "Table", "list_studies"]
