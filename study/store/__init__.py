"""The store of a study: its layout, the lease of its single writer, and what readers do with damaged objects."""

from study.store.layout import Checkpoint, StudyMetadata, StudyStore, list_studies
from study.store.study_objects import StudyCache

__all__ = ["Checkpoint", "StudyCache", "StudyMetadata", "StudyStore", "list_studies"]
