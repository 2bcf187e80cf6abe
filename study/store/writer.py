"""The single writer of a study's tables and of its run's record."""

import os
import platform
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from study.environment import commit, package_versions
from study.errors import RunError, UserError
from study.storage import RUN_RETRY_TIMEOUT_S
from study.store.layout import StudyStore
from study.store.lease import Finishing, Lease
from study.store.tables import Table

_FLUSH_EVERY_S = 5.0
_HEARTBEAT_EVERY_S = 10.0
# Longest time between two calls of a driver that works. After it, the heartbeat stops.
_HANGS_AFTER_S = 60.0
# How long `finish` waits for the release of the lease after an error.
_RELEASE_WITHIN_S = 5.0
_POLL_S = 0.25
# In the order of writing: the reports of a trial exist before the row that completes the trial.
_TABLES: tuple[Table, ...] = ("log", "reports", "trials")


class StudyWriter(Finishing):
    """A run of a study: its lease, its heartbeat, and its rows of tables.

    A thread writes, so that a slow or failing store does not block the caller. The store retries failed writes for
    `RUN_RETRY_TIMEOUT_S`. After that the run ends, and rows that are not yet written are lost. As a context manager it
    finishes at the end of the block; after an error in the block, an error of finishing is logged instead of raised.

    Args:
        store: The study.
        trials: Number of trials that the study will have after this run.
        on_outage: Called in the caller's thread with a message, when the store fails and when it works again.

    Attributes:
        run: Number of the run.

    Raises:
        UserError: If another run of the study is live.
    """

    def __init__(self, store: StudyStore, trials: int, on_outage: Callable[[str], object] = lambda line: None) -> None:
        self._store = store
        self._on_outage = on_outage
        self._reported_outage: str | None = None
        machine = f"{platform.machine()}, {os.cpu_count()} CPUs"
        fields = {"python": platform.python_version(), "commit": commit(), "versions": package_versions()}
        self._lease = Lease(store, {"trials": trials, "machine": machine, **fields})
        self.run = self._lease.run
        self._sequence = 0
        self._flushed = self._heartbeat_written = self._called = time.monotonic()
        # Shared with the thread, under this lock:
        self._changed = threading.Condition()
        self._rows: dict[Table, list[dict[str, Any]]] = {table: [] for table in _TABLES}
        self._added = self._written = self._wanted = 0
        self._is_finishing = self._is_finished = False
        self._error: BaseException | None = None
        threading.Thread(target=self._run, name="study-writer", daemon=True).start()

    @property
    def stop_requested(self) -> bool:
        """Whether `marl-study stop` requested this run to stop; known after some seconds."""
        return self._lease.stop_requested

    def add(self, table: Table, row: Mapping[str, Any]) -> None:
        """Add a row to a table, with the current time. Reports are written before the trials that they complete."""
        with self._changed:
            self._rows[table].append({**row, "time": self._lease.now()})
            self._added += 1

    def log(self, line: str) -> None:
        """Add a line to the log."""
        self.add("log", {"line": line})

    def record_trainers(self, active: Sequence[Mapping[str, Any]], ended: Sequence[Mapping[str, Any]] = ()) -> None:
        """Write the progress of trainers, as `Trainer.progress` returns it, to the record of the run."""
        trainers = [*active, *ended]
        seconds = [progress["seconds"] for progress in trainers]
        self._lease.details = {
            **self._lease.details,
            "trainers": max(len(active), self._lease.details.get("trainers", 0)),
            "devices": [progress["device"] for progress in active],
            "lanes": [progress["lanes"] for progress in active],
            "trained_steps": sum(progress["trained_steps"] for progress in trainers),
            "lane_steps": sum(progress["lane_steps"] for progress in trainers),
            "seconds": {name: round(sum(each[name] for each in seconds), 3) for name in seconds[0]},
        }

    def record_unavailable(self, unavailable: Sequence[Mapping[str, Any]]) -> None:
        """Add post-training metrics that could not be computed to the record of the run, so that no run tries again.

        Args:
            unavailable: `group` of metrics, `trial` and `seed` of the replicate, and `reason`, of each.
        """
        self._lease.details = {**self._lease.details, "unavailable": list(unavailable)}

    def check(self) -> None:
        """Report the state of the store, and return at once. The heartbeat stops when this is no longer called.

        Raises:
            RunError: If another run has taken over the study, or the store has failed for too long.
        """
        self._called = time.monotonic()
        self._report_outage()
        self._raise_error()

    def flush(self) -> None:
        """Wait until all rows so far are written; raise the same errors as `check`."""
        with self._changed:
            self._wanted = wanted = self._added
        self._wait(lambda: self._written >= wanted)

    def finish(self) -> None:
        """Wait until all rows are written and the lease is released; raise the same errors as `check`.

        After an error the lease is released nevertheless, as soon as the store works.
        """
        with self._changed:
            self._is_finishing = True
            self._changed.notify_all()
        try:
            self._wait(lambda: self._is_finished)
        except Exception:
            with self._changed:
                self._changed.wait_for(lambda: self._is_finished, _RELEASE_WITHIN_S)
            raise
        self._raise_error()

    def _wait(self, is_done: Callable[[], bool]) -> None:
        while True:
            self.check()
            with self._changed:
                if is_done():
                    return
                self._changed.notify_all()
                self._changed.wait(_POLL_S)

    def _report_outage(self) -> None:
        outage = self._store.objects.outage
        if (outage is None) == (self._reported_outage is None):
            return
        self._reported_outage = outage
        minutes = RUN_RETRY_TIMEOUT_S / 60
        uri = self._store.objects.uri
        self._on_outage(f"store {uri} works again" if outage is None else f"{outage}; retrying for {minutes:.0f} min")

    def _raise_error(self) -> None:
        error = self._error
        if isinstance(error, UserError):
            raise RunError(
                f"{error}; rows written earlier are in the store; resume the study when the store works"
            ) from error
        if isinstance(error, RunError):
            raise RunError(str(error)) from error
        if error is not None:
            raise error

    def _run(self) -> None:
        """Write rows and heartbeats until the run finishes, then release the lease, in the thread."""
        try:
            with self._lease:
                try:
                    self._write_until_finishing()
                except BaseException as error:  # `check` raises it in the caller's thread
                    self._error = error
                    with self._changed:  # until then the caller has trainers
                        self._changed.wait_for(lambda: self._is_finishing)
                    raise
        except BaseException as error:
            self._error = error
        with self._changed:
            self._is_finished = True
            self._changed.notify_all()

    def _write_until_finishing(self) -> None:
        while not self._is_finishing:
            with self._changed:
                if self._wanted <= self._written and not self._is_finishing:
                    self._changed.wait(_POLL_S)
            now = time.monotonic()
            if self._wanted > self._written or now - self._flushed >= _FLUSH_EVERY_S:
                self._write_rows()
            if now - self._heartbeat_written >= _HEARTBEAT_EVERY_S and now - self._called < _HANGS_AFTER_S:
                self._heartbeat_written = now
                self._lease.renew()
        self._write_rows()

    def _write_rows(self) -> None:
        self._flushed = time.monotonic()
        with self._changed:
            rows, self._rows = self._rows, {table: [] for table in _TABLES}
            added = self._added
        if not any(rows.values()):
            return
        self._lease.check()
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
