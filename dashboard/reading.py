"""Studies as they were last read, for all who look at them at once."""

import threading
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from typing import Any, TypeVar

import streamlit as st

from study.analysis import StudyResults
from study.errors import UnreadableObject, UserError
from study.storage import ObjectStore
from study.store import StudyStore, list_studies
from study.store.cache import StudyCache
from study.store.notes import Marks, Notes

__all__ = ["LIVE_S", "QUIET_S", "Reading", "Shelf", "shelf"]

LIVE_S = 5.0
"""Seconds between two looks at a study that is running."""

QUIET_S = 30.0
"""And at one that is not: somebody may go on with it."""

_Value = TypeVar("_Value")


@dataclass(frozen=True)
class Reading:
    """A study at one moment.

    Attributes:
        results: its tables, which do not change any more.
        notes: where stars and notes are written to.
        marks: those that were there.
        status: as of `StudyResults.status`.
        at: when it was read.
        damaged: what was left out, a sentence each.
        facts: what differs between two readings that are to be drawn otherwise.
        expire: have it read again when it is asked for next.
        trouble: why it could not be read since; empty while all is well.
    """

    results: StudyResults
    notes: Notes
    marks: Marks
    status: dict[str, Any]
    at: datetime
    damaged: tuple[str, ...]
    facts: tuple[Any, ...]
    expire: Callable[[], Any]
    trouble: str = ""
    _known: dict[Any, Any] = field(default_factory=dict)

    @property
    def is_live(self) -> bool:
        """Whether a run is at work."""
        return bool(self.status["state"] == "running")

    def once(self, key: Any, compute: Callable[[], _Value]) -> _Value:
        """What is computed from this reading, once for all who ask."""
        if key not in self._known:
            self._known[key] = compute()
        value: _Value = self._known[key]
        return value


class Shelf:
    """All studies of a store, read again when what is known of one is old, by one session for all.

    Args:
        objects: the store.
    """

    def __init__(self, objects: ObjectStore) -> None:
        self.objects = objects
        self._stores: dict[str, StudyStore] = {}
        self._notes: dict[str, Notes] = {}
        self._readings: dict[str, Reading] = {}
        self._looked_at: dict[str, float] = {}
        self._names: list[str] = []
        self._names_at = -float("inf")
        self._reads = threading.Lock()

    def studies(self) -> list[str]:
        """Names of the studies that are there, or were seconds ago, or before the store was gone.

        Raises:
            UserError: when the store cannot be read and never was.
        """
        if time.monotonic() - self._names_at > LIVE_S:
            try:
                found = list_studies(self.objects)
            except UserError:
                if not self._names:
                    raise
            else:
                # A folder that is gone has no studies; each page says what became of its own.
                self._names = found or self._names
            self._names_at = time.monotonic()
        return self._names

    def latest(self, name: str) -> Reading:
        """A study as it is now, or was seconds ago; where it cannot be read now, as it was before, with the reason.

        Raises:
            UserError: when it cannot be read and never was.
        """
        before = self._readings.get(name)
        # Whoever has something to show does not wait for another session that is reading. One reads at a time, as
        # Python collects warnings for all threads together.
        if not self._reads.acquire(blocking=before is None):
            return self._readings[name]
        try:
            before = self._readings.get(name)
            age = time.monotonic() - self._looked_at.get(name, -float("inf"))
            if before is not None and age < (LIVE_S if before.is_live else QUIET_S) / 2:
                return before
            self._readings[name] = self._read(name, before)
            return self._readings[name]
        finally:
            self._looked_at[name] = time.monotonic()
            self._reads.release()

    def _read(self, name: str, before: Reading | None) -> Reading:
        store = self._stores.setdefault(name, StudyStore(self.objects, name, StudyCache()))
        notes = self._notes.setdefault(name, Notes(store))
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always", UnreadableObject)
            try:
                results = StudyResults(store)
                status = results.status()
                rows = results.size
                marks = notes.read()
            except UserError as error:
                if before is None:
                    raise
                return replace(before, trouble=str(error))
        damaged = tuple(dict.fromkeys(str(one.message) for one in said if issubclass(one.category, UnreadableObject)))
        facts = (*rows, status["state"], status["target"], damaged, marks.starred, tuple(marks.notes))
        if before is not None and before.facts == facts:
            return replace(before, status=status, at=datetime.now(UTC), trouble="")
        expire = partial(self._looked_at.pop, name, None)
        return Reading(results, notes, marks, status, datetime.now(UTC), damaged, facts, expire)


@st.cache_resource(show_spinner=False)
def shelf(uri: str) -> Shelf:
    """The shelf of a store, one for all sessions of this process."""
    return Shelf(ObjectStore(uri))
