"""Cached states of studies, shared by all sessions of the dashboard."""

import threading
import time
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
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

_MANY_TRIALS = 2000
_MAX_DRAWN = 200  # charts of a reading that are kept, the latest ones

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
    _drawn: dict[tuple[Any, ...], dict[str, Any]] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def is_live(self) -> bool:
        """True if the study is running."""
        return bool(self.status["state"] == "running")

    @property
    def front(self) -> pd.DataFrame:
        """Results of the trials on the front, best first in the first objective."""
        return self.once("front", self.results.front)

    @property
    def is_large(self) -> bool:
        """True if the study has more than `_MANY_TRIALS` trials, so that pages leave out slow results by default."""
        return len(self.results.trials()) > _MANY_TRIALS

    @property
    def front_probability(self) -> pd.Series:
        """Probability that each complete trial is on the front, which takes seconds in a large study."""
        return self.once("front probability", self.results.front_probability)

    def once(self, key: Any, compute: Callable[[], _Value]) -> _Value:
        """Return a value computed from this reading. It is computed once for all sessions."""
        if key not in self._computed:
            self._computed[key] = compute()
        value: _Value = self._computed[key]
        return value

    def drawn(self, view: tuple[Any, ...], create: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """Return the Vega-Lite specification of a chart in one view of a page. It is created once for all sessions."""
        with self._lock:
            if (spec := self._drawn.pop(view, None)) is not None:
                self._drawn[view] = spec
        if spec is None:
            spec = create()
            with self._lock:
                self._drawn[view] = spec
                if len(self._drawn) > _MAX_DRAWN:
                    del self._drawn[next(iter(self._drawn))]
        return dict(spec)


class StoreReader:
    """Reads the studies of a store for all sessions. One session at a time reads a study."""

    def __init__(self, objects: ObjectStore) -> None:
        self.objects = objects
        self._stores: dict[str, StudyStore] = {}
        self._notes: dict[str, Notes] = {}
        self._readings: dict[str, Reading] = {}
        self._read_times: dict[str, float] = {}  # when the last reading of each study began
        self._expired: dict[str, float] = {}
        self._locks: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)
        self._names: list[str] = []
        self._names_time = -float("inf")

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
        # A session with an earlier reading does not wait for another session, unless it has just written something.
        if not self._locks[name].acquire(blocking=before is None or self._is_expired(name)):
            return self._readings[name]
        try:
            before, now = self._readings.get(name), time.monotonic()
            age = now - self._read_times.get(name, -float("inf"))
            if before is None or self._is_expired(name) or age >= (LIVE_S if before.is_live else QUIET_S) / 2:
                self._read_times[name] = now
                self._readings[name] = self._read(name, before)
            return self._readings[name]
        finally:
            self._locks[name].release()

    def _is_expired(self, name: str) -> bool:
        """Return whether a user has written to the study after the last reading began."""
        return self._expired.get(name, -float("inf")) >= self._read_times.get(name, -float("inf"))

    def _expire(self, name: str) -> None:
        self._expired[name] = time.monotonic()

    def _read(self, name: str, before: Reading | None) -> Reading:
        store = self._stores.setdefault(name, StudyStore(self.objects, name, StudyCache()))
        notes = self._notes.setdefault(name, Notes(store))
        with _unreadable_objects() as messages:
            try:
                results = StudyResults(store)
                status = results.status()
                segments = results.segments
                marks = notes.read()
            except UserError as error:
                if before is None:
                    raise
                return replace(before, outage=str(error))
        damaged = tuple(dict.fromkeys(messages))
        fingerprint = (segments, status["state"], status["target"], damaged, marks.starred, tuple(marks.notes))
        if before is not None and before.fingerprint == fingerprint:
            return replace(before, status=status, time=datetime.now(UTC), outage="")
        expire = partial(self._expire, name)
        return Reading(results, notes, marks, status, datetime.now(UTC), damaged, fingerprint, expire)


_messages: ContextVar[list[str] | None] = ContextVar("_messages", default=None)


@contextmanager
def _unreadable_objects() -> Iterator[list[str]]:
    """Collect the messages of this thread's `UnreadableObject` warnings. Warnings of other threads are shown as usual.

    `warnings.catch_warnings` would collect the warnings of all threads, and studies are read at the same time.
    """
    messages: list[str] = []
    token = _messages.set(messages)
    warnings.simplefilter("always", UnreadableObject)
    if warnings.showwarning is not _keep_or_show:
        _show.append(warnings.showwarning)
        warnings.showwarning = _keep_or_show
    try:
        yield messages
    finally:
        _messages.reset(token)


_show: list[Callable[..., None]] = []


def _keep_or_show(message: Warning | str, category: type[Warning], *arguments: Any, **options: Any) -> None:
    messages = _messages.get()
    if messages is not None and issubclass(category, UnreadableObject):
        messages.append(str(message))
    else:
        _show[-1](message, category, *arguments, **options)


@st.cache_resource(show_spinner=False)
def store_reader(uri: str) -> StoreReader:
    """Return the reader of a store, shared by all sessions of this process."""
    return StoreReader(ObjectStore(uri))
