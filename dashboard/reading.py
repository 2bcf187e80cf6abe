"""Cached readings of studies, shared by all sessions of the dashboard."""

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
from study.store import StudyCache, StudyStore, list_studies
from study.store.notes import Marks, Notes

__all__ = ["LIVE_S", "QUIET_S", "Reading", "Shelf", "shelf"]

LIVE_S = 5.0
"""Polling interval of a running study, in seconds."""

QUIET_S = 30.0
"""Polling interval of a study that is not running, in seconds; it may be resumed at any time."""

_Value = TypeVar("_Value")


@dataclass(frozen=True)
class Reading:
    """State of a study at one time.

    Attributes:
        results: Tables of the study; they do not change.
        notes: Writes stars and notes.
        marks: Stars and notes at that time.
        status: Result of `StudyResults.status`.
        at: When the study was read.
        damaged: One sentence for each object that was left out.
        facts: Readings with equal facts look the same.
        expire: Makes the next request read the study again.
        trouble: Why later reads failed; empty if they did not.
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
        """True if the study is running."""
        return bool(self.status["state"] == "running")

    def once(self, key: Any, compute: Callable[[], _Value]) -> _Value:
        """Return a value computed from this reading. It is computed once for all sessions."""
        if key not in self._known:
            self._known[key] = compute()
        value: _Value = self._known[key]
        return value


class Shelf:
    """All studies of a store. A study is read again when its reading is old, by one session for all.

    Args:
        objects: The store.
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
        """Return the names of the studies, at most seconds old; the last known names if the store is unreachable.

        Raises:
            UserError: If the store cannot be read and has never been read.
        """
        if time.monotonic() - self._names_at > LIVE_S:
            try:
                found = list_studies(self.objects)
            except UserError:
                if not self._names:
                    raise
            else:
                # A deleted folder lists no studies; the pages of its studies report the error.
                self._names = found or self._names
            self._names_at = time.monotonic()
        return self._names

    def latest(self, name: str) -> Reading:
        """Return a reading of a study, at most seconds old. If it cannot be read, return the last one with the reason.

        Raises:
            UserError: If the study cannot be read and has never been read.
        """
        before = self._readings.get(name)
        # A session with an earlier reading does not wait for another session. One session reads at a time, because
        # Python collects warnings of all threads together.
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
        with warnings.catch_warnings(record=True) as caught:
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
        damaged = tuple(
            dict.fromkeys(str(warning.message) for warning in caught if issubclass(warning.category, UnreadableObject))
        )
        facts = (*rows, status["state"], status["target"], damaged, marks.starred, tuple(marks.notes))
        if before is not None and before.facts == facts:
            return replace(before, status=status, at=datetime.now(UTC), trouble="")
        expire = partial(self._looked_at.pop, name, None)
        return Reading(results, notes, marks, status, datetime.now(UTC), damaged, facts, expire)


@st.cache_resource(show_spinner=False)
def shelf(uri: str) -> Shelf:
    """Return the shelf of a store, shared by all sessions of this process."""
    return Shelf(ObjectStore(uri))
