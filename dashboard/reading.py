"""Cached states of studies, shared by all sessions of the dashboard."""

import threading
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from typing import Any, TypeVar

import pandas as pd
import streamlit as st

from study.analysis import StudyResults
from study.errors import UnreadableObject, UserError
from study.storage import ObjectStore
from study.store import StudyCache, StudyStore, list_studies
from study.store.notes import Marks, Notes

LIVE_S = 5.0
"""Polling interval of a running study, in seconds."""

QUIET_S = 30.0
"""Polling interval of a study that is not running, in seconds; it may be resumed at any time."""

_Value = TypeVar("_Value")


@dataclass(frozen=True)
class Reading:
    """State of a study at one time.

    `warnings` has a sentence for each damaged object that was left out. Readings with equal fingerprints look the same.
    `expire` makes the next request read the study again. `outage` is why later reads failed; empty if they did not.
    """

    results: StudyResults
    notes: Notes
    marks: Marks
    status: dict[str, Any]
    time: datetime
    warnings: tuple[str, ...]
    fingerprint: tuple[Any, ...]
    expire: Callable[[], Any]
    outage: str = ""
    _computed: dict[Any, Any] = field(default_factory=dict)

    @property
    def is_live(self) -> bool:
        """True if the study is running."""
        return bool(self.status["state"] == "running")

    @property
    def front(self) -> pd.DataFrame:
        """Results of the trials on the front, best first in the first objective."""
        return self.once("front", self.results.front)

    def once(self, key: Any, compute: Callable[[], _Value]) -> _Value:
        """Return a value computed from this reading. It is computed once for all sessions."""
        if key not in self._computed:
            self._computed[key] = compute()
        value: _Value = self._computed[key]
        return value


class StoreReader:
    """Reads the studies of a store for all sessions. One session reads at a time; the others get its reading."""

    def __init__(self, objects: ObjectStore) -> None:
        self.objects = objects
        self._stores: dict[str, StudyStore] = {}
        self._notes: dict[str, Notes] = {}
        self._readings: dict[str, Reading] = {}
        self._read_times: dict[str, float] = {}
        self._names: list[str] = []
        self._names_time = -float("inf")
        self._lock = threading.Lock()

    def studies(self) -> list[str]:
        """Return the names of the studies, listed at most `LIVE_S` ago; the last names if the store is unreachable."""
        if time.monotonic() - self._names_time > LIVE_S:
            try:
                # A deleted folder lists no studies; the pages of its studies report the error.
                self._names = list_studies(self.objects) or self._names
            except UserError:
                if not self._names:
                    raise
            self._names_time = time.monotonic()
        return self._names

    def latest(self, name: str) -> Reading:
        """Return a reading of a study. The store is read again after half a polling interval.

        If the study cannot be read now, the last reading is returned with the reason in `outage`; a `UserError` is
        raised if there is none.
        """
        before = self._readings.get(name)
        # A session with an earlier reading does not wait for another session. One session reads at a time, because
        # Python collects warnings of all threads together.
        if not self._lock.acquire(blocking=before is None):
            return self._readings[name]
        try:
            before = self._readings.get(name)
            age = time.monotonic() - self._read_times.get(name, -float("inf"))
            if before is None or age >= (LIVE_S if before.is_live else QUIET_S) / 2:
                self._readings[name] = self._read(name, before)
            return self._readings[name]
        finally:
            self._read_times[name] = time.monotonic()
            self._lock.release()

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
                return replace(before, outage=str(error))
        messages = (str(warning.message) for warning in caught if issubclass(warning.category, UnreadableObject))
        damaged = tuple(dict.fromkeys(messages))
        fingerprint = (*rows, status["state"], status["target"], damaged, marks.starred, tuple(marks.notes))
        if before is not None and before.fingerprint == fingerprint:
            return replace(before, status=status, time=datetime.now(UTC), outage="")
        expire = partial(self._read_times.pop, name, None)
        return Reading(results, notes, marks, status, datetime.now(UTC), damaged, fingerprint, expire)


@st.cache_resource(show_spinner=False)
def store_reader(uri: str) -> StoreReader:
    """Return the reader of a store, shared by all sessions of this process."""
    return StoreReader(ObjectStore(uri))
