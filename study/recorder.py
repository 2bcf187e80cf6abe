"""The one writer of a study's tables: the driver, at most every few seconds, for as long as its claim holds."""

import os
import platform
import secrets
import socket
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

import psutil

from study.errors import RunError, UserError
from study.provenance import commit
from study.store import StudyStore, Table

__all__ = ["Recorder", "is_live", "refuse_if_live"]

_FLUSH_EVERY_S = 5.0
_HEARTBEAT_EVERY_S = 10.0
# A launch on another host whose heartbeat is older than this is taken for dead.
_STALE_AFTER_S = 60.0
_PACKAGES = ("marl-study", "torch", "torchaudio", "ray", "optuna")


def is_live(launch: Mapping[str, Any]) -> bool:
    """Whether a launch still runs: on this host its process is looked for, elsewhere its heartbeat counts."""
    if launch.get("finished"):
        return False
    if launch.get("host") == _host():
        return _process_started(int(launch.get("process", -1))) == launch.get("process_started")
    try:
        heartbeat = datetime.fromisoformat(str(launch.get("heartbeat")))
    except ValueError:
        return False
    return (datetime.now(UTC) - heartbeat).total_seconds() < _STALE_AFTER_S


def refuse_if_live(study: str, launches: Mapping[int, Mapping[str, Any]]) -> None:
    """Raise a UserError that names the launch, when one of them is live."""
    for number, launch in launches.items():
        if is_live(launch):
            raise UserError(
                f"study {study!r} is being run by launch {number} on {launch.get('host')} (process "
                f"{launch.get('process')}, last heartbeat {launch.get('heartbeat')}); wait for it or stop it there"
            )


class Recorder:
    """A launch of a study: its claim, its heartbeat and its rows.

    Args:
        store: the study.
        trials: how many trials this launch will bring the study to.

    Raises:
        UserError: when another launch of the study is live.
    """

    def __init__(self, store: StudyStore, trials: int) -> None:
        self._store = store
        self._rows: dict[Table, list[dict[str, Any]]] = {"reports": [], "trials": []}
        self._sequence = 0
        self._flushed = self._beaten = time.monotonic()
        earlier = store.launches()
        refuse_if_live(store.name, earlier)
        self.launch = max(earlier, default=0) + 1
        started = datetime.now(UTC).isoformat()
        self._content: dict[str, Any] = {
            "launch": self.launch,
            "trials": trials,
            "started": started,
            "heartbeat": started,
            "finished": None,
            "host": _host(),
            "process": os.getpid(),
            "process_started": _process_started(os.getpid()),
            "machine": f"{platform.machine()}, {os.cpu_count()} CPUs",
            "python": platform.python_version(),
            "commit": commit(),
            "versions": {package: version(package) for package in _PACKAGES},
            "token": secrets.token_hex(8),
        }
        store.write_launch(self.launch, self._content)
        # Two that claim at once both see both: the lower number goes on. Under one number the later writer does.
        claims = store.launches()
        if claims.get(self.launch, {}).get("token") != self._content["token"]:
            raise UserError(f"study {store.name!r} is just being launched by another process; try again in a moment")
        refuse_if_live(store.name, {number: claim for number, claim in claims.items() if number < self.launch})

    def add(self, table: Table, row: Mapping[str, Any]) -> None:
        """Keep a row for the next part. Reports are written before the trials that they complete."""
        self._rows[table].append({**row, "time": datetime.now(UTC)})

    def note_trainers(self, answers: Sequence[Mapping[str, Any]]) -> None:
        """Keep with the launch what its trainers say of their work, as `study.trainer.Trainer.progress`."""
        seconds = [answer["seconds"] for answer in answers]
        self._content |= {
            "trainers": max(len(answers), self._content.get("trainers", 0)),
            "devices": [answer["device"] for answer in answers],
            "lanes": [answer["lanes"] for answer in answers],
            "trained_steps": sum(answer["trained_steps"] for answer in answers),
            "lane_steps": sum(answer["lane_steps"] for answer in answers),
            "seconds": {name: round(sum(one[name] for one in seconds), 3) for name in seconds[0]},
        }

    def tick(self) -> None:
        """Called often: writes what is due.

        Raises:
            RunError: when a later launch has taken the study over.
        """
        now = time.monotonic()
        if now - self._flushed >= _FLUSH_EVERY_S:
            self.flush()
        if now - self._beaten >= _HEARTBEAT_EVERY_S:
            self._beat()

    def flush(self) -> None:
        """Write all kept rows."""
        self._flushed = time.monotonic()
        if not any(self._rows.values()):
            return
        self._check_claim()
        self._sequence += 1
        for table in ("reports", "trials"):
            rows = self._rows[table]
            if rows:
                self._store.append(table, self.launch, self._sequence, rows)
                self._rows[table] = []
                self._store.compact(table, self.launch)

    def finish(self) -> None:
        """Write what is left and give the claim back."""
        self.flush()
        self._content["finished"] = datetime.now(UTC).isoformat()
        self._beat()

    def _beat(self) -> None:
        self._beaten = time.monotonic()
        self._check_claim()
        self._content["heartbeat"] = datetime.now(UTC).isoformat()
        self._store.write_launch(self.launch, self._content)

    def _check_claim(self) -> None:
        latest = max(self._store.launches(), default=self.launch)
        if latest > self.launch:
            raise RunError(f"study {self._store.name!r} was taken over by launch {latest}; this one writes no more")


def _host() -> str:
    """This machine since it was started: a process of the same number after a restart is another one."""
    return f"{socket.gethostname()}/{int(psutil.boot_time())}"


def _process_started(process: int) -> float | None:
    try:
        return psutil.Process(process).create_time()
    except (psutil.NoSuchProcess, psutil.AccessDenied, ValueError):
        return None
