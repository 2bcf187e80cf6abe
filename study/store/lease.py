"""Who runs a study: one launch at a time. Which of several begins, and whether one that began is still at work."""

import os
import socket
import time
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

import psutil

from study.errors import RunError, UserError
from study.store import StudyStore

__all__ = ["check_claim", "claim", "is_live", "refuse_if_live", "whereabouts"]

# A launch on another host whose heartbeat is older than this is taken for dead.
_STALE_AFTER_S = 60.0
_LOOK_EVERY_S = 0.2


def whereabouts() -> dict[str, Any]:
    """How a launch says which process it is: `host`, `process` and `process_started`."""
    return {"host": _host(), "process": os.getpid(), "process_started": _process_started(os.getpid())}


def is_live(launch: Mapping[str, Any], now: Callable[[], datetime]) -> bool:
    """Whether a launch still runs: on this host its process is looked for, elsewhere its heartbeat counts.

    Args:
        launch: what it says of itself.
        now: the store's clock, by which heartbeats are written; it is asked only where one counts.
    """
    if launch.get("finished"):
        return False
    if launch.get("host") == _host():
        return _process_started(int(launch.get("process", -1))) == launch.get("process_started")
    try:
        heartbeat = datetime.fromisoformat(str(launch.get("heartbeat")))
        return (now() - heartbeat).total_seconds() < _STALE_AFTER_S
    except (ValueError, TypeError):
        return False


def refuse_if_live(store: StudyStore, launches: Mapping[int, Mapping[str, Any]]) -> None:
    """Raise a UserError that names the launch, when one of a study's is live."""
    for number, launch in launches.items():
        if is_live(launch, store.objects.now):
            raise _refusal(store, number, launch)


def claim(store: StudyStore, content: Mapping[str, Any]) -> int:
    """Begin the next launch of a study. Of several who try at once exactly one does.

    A store that writes an object only if there is none would be enough, but not all do. So whoever wants to begin says
    so first, in an object of its own, and then looks who else does: who sees a lower token gives way, and who sees
    higher ones waits until they have, as one of them may have looked before and begun.

    Args:
        store: the study.
        content: what the launch says of itself, with its `token`.

    Returns:
        The number of the launch.

    Raises:
        UserError: when another launch of the study is live, or begins just now.
    """
    launches = store.launches()
    refuse_if_live(store, launches)
    number, token = max(launches, default=0) + 1, content["token"]
    store.write_claim(number, token, content)
    try:
        while rivals := _rivals(store, number, token):
            if min(rivals) < token:
                raise _refusal(store, number, rivals[min(rivals)])
            time.sleep(_LOOK_EVERY_S)
        # Rivals are looked for first: of those that are gone, one may have begun.
        if (begun := store.launch(number)) is not None or not store.create_launch(number, content):
            raise _refusal(store, number, begun or store.launch(number) or {})
    except BaseException:
        store.delete_claim(number, token)
        raise
    store.delete_claims()  # also of those who were killed; others who still look find this launch instead
    return number


def check_claim(store: StudyStore, launch: int, token: str) -> bool:
    """See that a launch still has the study.

    Returns:
        Whether somebody asked it to stop.

    Raises:
        RunError: when a later launch has taken the study over, or this one is not there any more.
    """
    begun, asked = store.launch_numbers()
    latest = max(begun, default=launch)
    if latest > launch:
        raise RunError(f"study {store.name!r} was taken over by launch {latest}; this one writes no more")
    if (store.launch(launch) or {}).get("token") != token:
        raise RunError(f"launch {launch} of study {store.name!r} is another's by now, or deleted; it writes no more")
    return launch in asked


def _rivals(store: StudyStore, number: int, token: str) -> dict[str, dict[str, Any]]:
    """Others who want to begin a launch and are alive, by token."""
    claims = store.claims(number)
    return {other: one for other, one in claims.items() if other != token and is_live(one, store.objects.now)}


def _refusal(store: StudyStore, number: int, launch: Mapping[str, Any]) -> UserError:
    return UserError(
        f"study {store.name!r} is being run by launch {number} on {launch.get('host')} (process "
        f"{launch.get('process')}, last heartbeat {launch.get('heartbeat')}); wait for it, or stop it "
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
