"""The one writer of a study's tables: the driver, every few seconds, for as long as it holds the lease."""

import os
import platform
import secrets
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from study.environment import commit, package_versions
from study.errors import RunError, UserError
from study.store import StudyStore, Table
from study.store.lease import acquire_lease, check_lease, process_identity

__all__ = ["StudyWriter"]

_FLUSH_EVERY_S = 5.0
_HEARTBEAT_EVERY_S = 10.0
# A driver that has not called for so long hangs: its run shall look dead.
_HANGS_AFTER_S = 60.0
_LOOK_EVERY_S = 0.25
# A report is there before the trial that it completes.
_TABLES: tuple[Table, ...] = ("log", "reports", "trials")


class StudyWriter:
    """A run of a study: its lease, its heartbeat and its rows.

    A thread of its own writes, so that a store that is slow, or fails for a while, holds nobody up: what could not be
    written is kept and written later.

    Args:
        store: the study.
        trials: how many trials this run will bring the study to.
        tell: is told, in the caller's thread, when the store fails and when it works again.

    Raises:
        UserError: when another run of the study is live.
    """

    def __init__(self, store: StudyStore, trials: int, tell: Callable[[str], object] = lambda line: None) -> None:
        self._store = store
        self._tell = tell
        self._told: str | None = None
        self._clock_offset = timedelta()
        self._read_clock()
        started = self._now().isoformat()
        self._content: dict[str, Any] = {
            "trials": trials,
            "started": started,
            "heartbeat": started,
            "finished": None,
            **process_identity(),
            "machine": f"{platform.machine()}, {os.cpu_count()} CPUs",
            "python": platform.python_version(),
            "commit": commit(),
            "versions": package_versions(),
            "token": secrets.token_hex(8),
        }
        self.run = acquire_lease(store, self._content)
        self._content = {"run": self.run, **self._content}
        self._sequence = 0
        self._flushed = self._beaten = self._called = time.monotonic()
        # All below is shared with the thread, under this lock.
        self._changed = threading.Condition()
        self._rows: dict[Table, list[dict[str, Any]]] = {table: [] for table in _TABLES}
        self._added = self._written = self._wanted = 0
        self._is_finishing = self._is_over = False
        self._stop_asked = False
        self._error: BaseException | None = None
        threading.Thread(target=self._run, name="study-writer", daemon=True).start()

    @property
    def stop_asked(self) -> bool:
        """Whether somebody asked this run to stop, as `marl-study stop` does; known some seconds later."""
        return self._stop_asked

    def add(self, table: Table, row: Mapping[str, Any]) -> None:
        """Keep a row for the next part. Reports are written before the trials that they complete."""
        with self._changed:
            self._rows[table].append({**row, "time": self._now()})
            self._added += 1

    def say(self, line: str) -> None:
        """Keep a line for the log."""
        self.add("log", {"line": line})

    def note_trainers(self, there: Sequence[Mapping[str, Any]], gone: Sequence[Mapping[str, Any]] = ()) -> None:
        """Keep with the run what its trainers say of their work, as `study.training.trainer.Trainer.progress`.

        Args:
            there: those that train now, at least one.
            gone: the last words of those that have died or ended.
        """
        everyone = [*there, *gone]
        seconds = [answer["seconds"] for answer in everyone]
        with self._changed:
            self._content |= {
                "trainers": max(len(there), self._content.get("trainers", 0)),
                "devices": [answer["device"] for answer in there],
                "lanes": [answer["lanes"] for answer in there],
                "trained_steps": sum(answer["trained_steps"] for answer in everyone),
                "lane_steps": sum(answer["lane_steps"] for answer in everyone),
                "seconds": {name: round(sum(one[name] for one in seconds), 3) for name in seconds[0]},
            }

    def tick(self) -> None:
        """Called often, and returns at once: while it is called, the run lives.

        Raises:
            RunError: when another run has taken the study over, or the store has failed for too long.
        """
        self._called = time.monotonic()
        self._tell_of_trouble()
        self._raise_error()

    def flush(self) -> None:
        """Wait until all rows so far are written.

        Raises:
            RunError: as `tick`.
        """
        with self._changed:
            self._wanted = wanted = self._added
        self._wait(lambda: self._written >= wanted)

    def finish(self) -> None:
        """Wait until all is written, and release the lease.

        Raises:
            RunError: as `tick`.
        """
        with self._changed:
            self._is_finishing = True
        self._wait(lambda: self._is_over)

    def _wait(self, is_done: Callable[[], bool]) -> None:
        while True:
            self.tick()
            with self._changed:
                if is_done():
                    return
                self._changed.notify_all()
                self._changed.wait(_LOOK_EVERY_S)

    def _tell_of_trouble(self) -> None:
        outage = self._store.objects.outage
        if (outage is None) == (self._told is None):
            return
        self._told = outage
        self._tell(f"store {self._store.objects.uri} works again" if outage is None else f"{outage}; trying again")

    def _raise_error(self) -> None:
        error = self._error
        if isinstance(error, UserError):
            raise RunError(f"{error}; what was written before is whole, go on with it when the store works") from error
        if isinstance(error, RunError):
            raise RunError(str(error)) from error
        if error is not None:
            raise error

    def _run(self) -> None:
        """What the thread does."""
        try:
            while not self._is_over:
                with self._changed:
                    if self._wanted <= self._written and not self._is_finishing:
                        self._changed.wait(_LOOK_EVERY_S)
                self._do_what_is_due()
        except BaseException as error:  # the driver hears of it
            self._error = error
        finally:
            with self._changed:
                self._changed.notify_all()

    def _do_what_is_due(self) -> None:
        now = time.monotonic()
        is_finishing = self._is_finishing
        if is_finishing or self._wanted > self._written or now - self._flushed >= _FLUSH_EVERY_S:
            self._write_rows()
        if is_finishing:
            self._content["finished"] = self._now().isoformat()
            self._beat()
            self._is_over = True
        elif now - self._beaten >= _HEARTBEAT_EVERY_S and now - self._called < _HANGS_AFTER_S:
            self._beat()

    def _write_rows(self) -> None:
        self._flushed = time.monotonic()
        with self._changed:
            rows, self._rows = self._rows, {table: [] for table in _TABLES}
            added = self._added
        if not any(rows.values()):
            return
        self._check_lease()
        self._sequence += 1
        for table in _TABLES:
            if rows[table]:
                self._store.append(table, self.run, self._sequence, rows[table])
        with self._changed:
            self._written = added
            self._changed.notify_all()
        for table in _TABLES:
            if rows[table]:
                self._store.compact(table, self.run)

    def _beat(self) -> None:
        self._beaten = time.monotonic()
        self._check_lease()
        self._read_clock()
        with self._changed:
            self._content["heartbeat"] = self._now().isoformat()
            content = dict(self._content)
        self._store.write_run(self.run, content)

    def _check_lease(self) -> None:
        self._stop_asked |= check_lease(self._store, self.run, self._content["token"])

    def _read_clock(self) -> None:
        self._clock_offset = self._store.objects.now() - datetime.now(UTC)

    def _now(self) -> datetime:
        """The store's clock, without asking it."""
        return datetime.now(UTC) + self._clock_offset
