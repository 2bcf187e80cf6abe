"""Commands for a study that runs elsewhere: logs, stop. They need nothing but its store."""

import time
from collections.abc import Iterator
from typing import Annotated

import pandas as pd
import typer

from study.commands.options import StoreOption, StudyArgument
from study.errors import RunError, UserError
from study.objects import Objects
from study.results.status import DEFAULT_STORE, command_for
from study.store import StudyStore
from study.store.claims import is_live
from study.store.study_objects import printable
from study.terminal import err

__all__ = ["logs", "stop"]

_LOOK_EVERY_S = 2.0
# It looks every ten seconds, and writing checkpoints takes some more.
_STOPS_WITHIN_S = 60.0


def logs(
    study: StudyArgument,
    store: StoreOption = DEFAULT_STORE,
    follow: Annotated[bool, typer.Option("--follow", help="Go on until the study is not running any more.")] = False,
) -> None:
    """Show what a study has said of itself, in all its launches, with the time in UTC.

    Example: marl-study logs quickstart --follow
    """
    for line in _lines(Objects(store), study, follow):
        typer.echo(line)


def stop(study: StudyArgument, store: StoreOption = DEFAULT_STORE) -> None:
    """Ask the launch of a study, wherever it runs, to write checkpoints and end; wait until it has.

    Example: marl-study stop quickstart --store s3://bucket/studies
    """
    found = StudyStore(Objects(store), study)
    launch = _live(found)
    if launch is None:
        found.document()  # a study that is not there is told as such
        raise UserError(f"study {study!r} is not running: {_last_sign_of_life(found)}")
    found.ask_to_stop(launch)
    err.print(f"asked launch {launch} of study {study} to write checkpoints and stop", soft_wrap=True)
    deadline = time.monotonic() + _STOPS_WITHIN_S
    while _live(found) == launch:
        if time.monotonic() > deadline:
            raise RunError(
                f"launch {launch} of study {study!r} has not stopped within {_STOPS_WITHIN_S:.0f} s, "
                f"{_last_sign_of_life(found)}; it may still do so, as `{command_for(found, 'status')}` will show"
            )
        time.sleep(_LOOK_EVERY_S)
    err.print(f"stopped; go on with: {command_for(found, 'resume')}", soft_wrap=True)


def _lines(objects: Objects, study: str, follow: bool) -> Iterator[str]:
    """Lines of the log, oldest first; followed, those that come while the study runs."""
    from study.store.cache import StudyCache

    store = StudyStore(objects, study, StudyCache())
    store.document()
    shown = 0
    while True:
        is_running = _live(store) is not None  # asked first: it writes its last lines before it ends
        rows = store.read("log")
        for time_, line in zip(rows["time"][shown:], rows["line"][shown:], strict=True) if len(rows) else ():
            yield f"{pd.Timestamp(time_):%Y-%m-%d %H:%M:%S}  {printable(line)}"
        shown = len(rows)
        if not follow or not is_running:
            return
        time.sleep(_LOOK_EVERY_S)


def _live(store: StudyStore) -> int | None:
    """The launch that is at work, if one is."""
    live = [number for number, launch in store.launches().items() if is_live(launch, store.objects.now)]
    return max(live, default=None)


def _last_sign_of_life(store: StudyStore) -> str:
    launches = store.launches()
    if not launches:
        return "it was never launched"
    last = launches[max(launches)]
    if last.get("finished"):
        return f"launch {max(launches)} finished at {last['finished']}"
    return f"the last heartbeat of launch {max(launches)} was at {last['heartbeat']}"
