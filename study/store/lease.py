"""Runs of a study: their records, and the lease by which one run at a time writes the study."""

import json
import logging
import os
import re
import secrets
import socket
import time
from collections.abc import Callable, Mapping
from datetime import datetime
from types import TracebackType
from typing import Annotated, Any, Self

import psutil
from pydantic import AwareDatetime, BaseModel, Field, StringConstraints, ValidationError

from study.errors import RunError, UserError
from study.spec import Baseline, explain
from study.store.study_objects import StudyObjects, json_object

logger = logging.getLogger(__name__)

_RUN = re.compile(r"runs/(\d{4})\.json")
_STOP = re.compile(r"runs/(\d{4})\.stop\.json")
_LEASE = re.compile(r"leases/(\d{4})-([0-9a-f]{16})\.json")
_RECORD_LIMIT = 1 << 20
# A run on another host is dead when its last heartbeat is older.
_HEARTBEAT_TIMEOUT_S = 60.0
_POLL_S = 0.2
_Text = Annotated[str, StringConstraints(max_length=300, pattern=r"^[^\x00-\x1f\x7f-\x9f]*$")]


class _Unavailable(BaseModel, strict=True):
    """A group of post-training metrics that a run could not compute for a replicate."""

    group: _Text
    trial: int | Baseline
    seed: int
    reason: _Text


class _RunRecord(BaseModel, strict=True):
    """Fields of a run's record that readers rely on; a record has more."""

    trials: int = Field(ge=0, le=10**9)
    started: AwareDatetime
    heartbeat: AwareDatetime
    finished: AwareDatetime | None = None
    host: _Text = ""
    process: int = -1
    process_started: float | None = None
    trainers: float = Field(0, ge=0, le=1e6, allow_inf_nan=False)
    token: _Text = ""
    unavailable: list[_Unavailable] = []


class RunRecords(StudyObjects):
    """Records of a study's runs, and requests for the lease. A record is written by its own run only."""

    def write_run(self, number: int, record: Mapping[str, Any]) -> None:
        """Write the record of a run."""
        self._write(_run_name(number), _encoded(record))

    def create_run(self, number: int, record: Mapping[str, Any]) -> bool:
        """Write the record of a run unless another has its number; return whether the stored record is this one."""
        return self.objects.create(f"{self.name}/{_run_name(number)}", _encoded(record))

    def runs(self) -> dict[int, dict[str, Any]]:
        """Return the records of all runs, by number."""
        return {int(match[1]): record for match, record in self._records("runs", _RUN)}

    def run(self, number: int) -> dict[str, Any] | None:
        """Return the record of a run, or None if there is none or it is damaged."""
        try:
            return _decoded_record("", self._read(_run_name(number), _RECORD_LIMIT))
        except (ValueError, FileNotFoundError):
            return None

    def run_numbers(self) -> tuple[set[int], set[int]]:
        """Return the numbers of all runs, and of those that were requested to stop, with one request."""
        names = self._names("runs/")
        runs, stops = (
            {int(match[1]) for name in names if (match := pattern.fullmatch(name))} for pattern in (_RUN, _STOP)
        )
        return runs, stops

    def request_stop(self, run: int) -> None:
        """Request a run to stop. The run reads the request within seconds, writes checkpoints and ends."""
        self._write(f"runs/{run:04d}.stop.json", _encoded({"asked": self.objects.now().isoformat()}))

    def write_lease(self, number: int, token: str, record: Mapping[str, Any]) -> None:
        """Write a request for the lease as run `number`."""
        self._write(f"leases/{number:04d}-{token}.json", _encoded(record))

    def leases(self, number: int) -> dict[str, dict[str, Any]]:
        """Return the requests for the lease as run `number`, by token."""
        return {match[2]: record for match, record in self._records("leases", _LEASE) if int(match[1]) == number}

    def delete_leases(self, token: str = "") -> None:
        """Delete the requests for the lease that have this token, by default all."""
        for name in self._names("leases/"):
            if token in name:
                self.objects.delete(f"{self.name}/{name}")

    def _records(self, folder: str, pattern: re.Pattern[str]) -> list[tuple[re.Match[str], dict[str, Any]]]:
        entries = self._entries(folder)
        matches = {name: match for name in entries if (match := pattern.fullmatch(name))}
        records = self._decoded(folder, {name: entries[name] for name in matches}, _RECORD_LIMIT, _decoded_record)
        return [(matches[name], record) for name, record in self._readable(records)]


def process_identity() -> dict[str, Any]:
    """Return the fields of a run's record that identify this process."""
    return {"host": _host(), "process": os.getpid(), "process_started": _process_started(os.getpid())}


def is_live(run: Mapping[str, Any], now: Callable[[], datetime]) -> bool:
    """Return whether a run is still running: on this host by its process, on other hosts by its heartbeat.

    `now` returns the time by the clock of the store, which heartbeats have. It is called only for other hosts.
    """
    if run.get("finished"):
        return False
    if run.get("host") == _host():
        return _process_started(int(run.get("process", -1))) == run.get("process_started")
    try:
        heartbeat = datetime.fromisoformat(str(run.get("heartbeat")))
        return (now() - heartbeat).total_seconds() < _HEARTBEAT_TIMEOUT_S
    except (ValueError, TypeError):
        return False


def check_no_live_run(store: RunRecords, runs: Mapping[int, Mapping[str, Any]]) -> None:
    """Raise a UserError if one of a study's runs, by number, is live."""
    for number, run in runs.items():
        if is_live(run, store.objects.now):
            raise _is_running(store, number, run)


class Finishing:
    """A context manager that finishes at the end of its block. After an error in the block, its own error is logged."""

    def finish(self) -> None:
        """Finish, at the latest at the end of the block."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _type: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        try:
            self.finish()
        except Exception as own_error:
            if error is None:
                raise
            if str(own_error) != str(error):
                logger.error("%s", own_error)  # the traceback is that of the block's error


class Lease(Finishing):
    """The right of one run to write a study, acquired at once and released at the end of a `with` block.

    Args:
        store: The study.
        fields: Fields of the run's record besides times, process and token.

    Attributes:
        run: Number of the run.
        details: More fields of the record, written with the next heartbeat. Threads replace the mapping as a whole.
        stop_requested: Whether the run had been requested to stop at the last check.

    Raises:
        UserError: If another run of the study is live, or has just started.
    """

    def __init__(self, store: RunRecords, fields: Mapping[str, Any]) -> None:
        self._store = store
        self._token = secrets.token_hex(8)
        runs = store.runs()  # first, because the store's time is known once it has responded
        started = self.now().isoformat()
        times = {"started": started, "heartbeat": started, "finished": None}
        self._record: dict[str, Any] = {**fields, **times, **process_identity(), "token": self._token}
        self.details: Mapping[str, Any] = {}
        self.stop_requested = False
        self.run = self._acquire(runs)
        logger.info("run %d of study %s acquired the lease", self.run, store.name)

    def now(self) -> datetime:
        """Return the current time by the store's clock."""
        return self._store.objects.now()

    def check(self) -> None:
        """Check that the run still holds the lease, and whether it was requested to stop.

        Raises:
            RunError: If a later run has taken over the study, or the record of this run was replaced or deleted.
        """
        runs, stops = self._store.run_numbers()
        study, latest = self._store.name, max(runs, default=self.run)
        if latest > self.run:
            raise RunError(f"study {study!r} was taken over by run {latest}; this run has stopped writing")
        if (self._store.run(self.run) or {}).get("token") != self._token:
            raise RunError(
                f"the record of run {self.run} of study {study!r} was replaced or deleted; this run has stopped writing"
            )
        self.stop_requested = self.run in stops

    def renew(self) -> None:
        """Check the lease, and write the record with the current time as its heartbeat."""
        self.check()
        self._record |= {"run": self.run, **self.details, "heartbeat": self.now().isoformat()}
        self._store.write_run(self.run, self._record)

    def finish(self) -> None:
        """Write the record with the time at which the run finished, so that another run can start."""
        self._record["finished"] = self.now().isoformat()
        self.renew()

    def _acquire(self, runs: Mapping[int, Mapping[str, Any]]) -> int:
        """Start the run after `runs`, and return its number.

        If several processes try at once, exactly one succeeds. A conditional write would be enough, but some
        servers ignore the condition. So a process first writes a request for the lease, and then lists the competing
        requests. If one of them has a lower token, the process fails. If all have higher tokens, it waits until they
        are withdrawn, because one of their processes may have listed the requests earlier and started the run.

        Raises:
            UserError: If another process started the run or has a lower token.
        """
        store, token = self._store, self._token
        check_no_live_run(store, runs)
        number = max(runs, default=0) + 1
        store.write_lease(number, token, self._record)
        try:
            while competing := _competing_leases(store, number, token):
                if min(competing) < token:
                    raise _is_running(store, number, competing[min(competing)])
                time.sleep(_POLL_S)
            # After the competing leases are gone: the process of one of them may have started the run.
            if (winner := store.run(number)) is not None or not store.create_run(number, self._record):
                raise _is_running(store, number, winner or store.run(number) or {})
        except BaseException:
            store.delete_leases(token)
            raise
        store.delete_leases()  # also of killed processes; processes that still wait now find the run
        return number


def _competing_leases(store: RunRecords, number: int, token: str) -> dict[str, dict[str, Any]]:
    """Return the requests for the lease by other live processes, by token."""
    leases = store.leases(number)
    return {other: record for other, record in leases.items() if other != token and is_live(record, store.objects.now)}


def _is_running(store: RunRecords, number: int, run: Mapping[str, Any]) -> UserError:
    return UserError(
        f"study {store.name!r} is already running as run {number} on {run.get('host')} (process "
        f"{run.get('process')}, last heartbeat {run.get('heartbeat')}); wait for it, or stop it "
        f"(marl-study stop {store.name})"
    )


def _host() -> str:
    """Return host name and boot time of this machine, because process numbers are reused after a boot."""
    return f"{socket.gethostname()}/{int(psutil.boot_time())}"


def _process_started(process: int) -> float | None:
    try:
        return psutil.Process(process).create_time()
    except (psutil.NoSuchProcess, psutil.AccessDenied, ValueError):
        return None


def _decoded_record(_: str, content: bytes) -> dict[str, Any]:
    record = json_object(content)
    try:
        _RunRecord.model_validate_json(content)
    except ValidationError as error:
        raise ValueError(explain(error, _RunRecord)) from None
    return record


def _run_name(number: int) -> str:
    return f"runs/{number:04d}.json"


def _encoded(content: Mapping[str, Any]) -> bytes:
    return json.dumps(content, indent=1).encode()
