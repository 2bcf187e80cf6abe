"""Who runs a study: one run at a time. Which of several begins, and whether one that began is still at work."""

import os
import socket
import time
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

import psutil

from study.errors import RunError, UserError
from study.store import StudyStore

__all__ = ["acquire_lease", "check_lease", "is_live", "process_identity", "refuse_if_live"]

# A run on another host whose heartbeat is older than this is taken for dead.
_STALE_AFTER_S = 60.0
_LOOK_EVERY_S = 0.2


def process_identity() -> dict[str, Any]:
    """How a run says which process it is: `host`, `process` and `process_started`."""
    return {"host": _host(), "process": os.getpid(), "process_started": _process_started(os.getpid())}


def is_live(run: Mapping[str, Any], now: Callable[[], datetime]) -> bool:
    """Whether a run still runs: on this host its process is looked for, elsewhere its heartbeat counts.

    Args:
        run: what it says of itself.
        now: the store's clock, by which heartbeats are written; it is asked only where one counts.
    """
    if run.get("finished"):
        return False
    if run.get("host") == _host():
        return _process_started(int(run.get("process", -1))) == run.get("process_started")
    try:
        heartbeat = datetime.fromisoformat(str(run.get("heartbeat")))
        return (now() - heartbeat).total_seconds() < _STALE_AFTER_S
    except (ValueError, TypeError):
        return False


def refuse_if_live(store: StudyStore, runs: Mapping[int, Mapping[str, Any]]) -> None:
    """Raise a UserError that names the run, when one of a study's is live."""
    for number, run in runs.items():
        if is_live(run, store.objects.now):
            raise _refusal(store, number, run)


def acquire_lease(store: StudyStore, content: Mapping[str, Any]) -> int:
    """Begin the next run of a study. Of several who try at once exactly one does.

    A store that writes an object only if there is none would be enough, but not all do. So whoever wants to begin says
    so first, in an object of its own, and then looks who else does: who sees a lower token gives way, and who sees
    higher ones waits until they have, as one of them may have looked before and begun.

    Args:
        store: the study.
        content: what the run says of itself, with its `token`.

    Returns:
        The number of the run.

    Raises:
        UserError: when another run of the study is live, or begins just now.
    """
    runs = store.runs()
    refuse_if_live(store, runs)
    number, token = max(runs, default=0) + 1, content["token"]
    store.write_lease(number, token, content)
    try:
        while competing := _competing_leases(store, number, token):
            if min(competing) < token:
                raise _refusal(store, number, competing[min(competing)])
            time.sleep(_LOOK_EVERY_S)
        # Rivals are looked for first: of those that are gone, one may have begun.
        if (begun := store.run(number)) is not None or not store.create_run(number, content):
            raise _refusal(store, number, begun or store.run(number) or {})
    except BaseException:
        store.delete_lease(number, token)
        raise
    store.delete_leases()  # also of those who were killed; others who still look find this run instead
    return number


def check_lease(store: StudyStore, run: int, token: str) -> bool:
    """See that a run still has the study.

    Returns:
        Whether somebody asked it to stop.

    Raises:
        RunError: when a later run has taken the study over, or this one is not there any more.
    """
    begun, asked = store.run_numbers()
    latest = max(begun, default=run)
    if latest > run:
        raise RunError(f"study {store.name!r} was taken over by run {latest}; this one writes no more")
    if (store.run(run) or {}).get("token") != token:
        raise RunError(f"run {run} of study {store.name!r} is another's by now, or deleted; it writes no more")
    return run in asked


def _competing_leases(store: StudyStore, number: int, token: str) -> dict[str, dict[str, Any]]:
    """Others who want to begin a run and are alive, by token."""
    leases = store.leases(number)
    return {other: one for other, one in leases.items() if other != token and is_live(one, store.objects.now)}


def _refusal(store: StudyStore, number: int, run: Mapping[str, Any]) -> UserError:
    return UserError(
        f"study {store.name!r} is already running as run {number} on {run.get('host')} (process "
        f"{run.get('process')}, last heartbeat {run.get('heartbeat')}); wait for it, or stop it "
        f"(marl-study stop {store.name})"
    )


def _host() -> str:
    """This machine since it was started: a process of the same number after a restart is another one."""
    return f"{socket.gethostname()}/{int(psutil.boot_time())}"


def _process_started(process: int) -> float | None:
    try:
        return psutil.Process(process).create_time()
    except (psutil.NoSuchProcess, psutil.AccessDenied, ValueError):
        return None
