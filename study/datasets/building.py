"""What a user sees while a set is prepared: how far it is, and what came of it."""

import time
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from marl.data import Sounds
from study.configuration import audio_of, data_of
from study.datasets.finding import find, understood
from study.datasets.prepared import PreparedSet
from study.errors import UserError
from study.objects import Objects
from study.results.tables import format_duration
from study.spec import Spec

__all__ = ["prepared_now"]

_SHOWN_REASONS = 5
_LINE_EVERY_S = 30.0


def prepared_now(spec: Spec, objects: Objects, address: str | None, console: Console) -> PreparedSet:
    """The prepared set of a resolved spec; prepared first where it is not there, with progress and time left.

    Args:
        spec: resolved.
        objects: the store.
        address: of the cluster that prepares it, none for this machine.
        console: where to say how far it is.

    Raises:
        UserError: when the sounds or what describes them are not what they must be.
        RunError: when preparing them fails on a machine.
    """
    config, audio = data_of(spec), audio_of(spec)
    if not isinstance(config, Sounds):
        raise UserError(f"data: {config.kind} is computed when a study begins; there is nothing to prepare")
    found, source = find(config, audio, objects)
    if found.is_whole():
        console.print(f"data: {_counts(found)}: there already", markup=False, soft_wrap=True)
        return found
    objects.check_writable()
    entries = len(understood(source.entries))
    console.print(f"data: preparing {entries:,} clips of {config.kind}", markup=False, soft_wrap=True)
    from study.datasets.preparing import prepare  # with Ray, which takes seconds to import

    started = time.monotonic()
    with _Shown(console) as shown:
        prepare(found, source, config, audio, address, shown)
    took = format_duration(time.monotonic() - started)
    console.print(f"data: {_counts(found)}, prepared in {took}", markup=False, soft_wrap=True)
    left_out = found.table.dropna(subset=["left_out"])
    for name, reason in left_out[["name", "left_out"]].head(_SHOWN_REASONS).itertuples(index=False):
        console.print(f"  left out: {name}: {reason}", markup=False, soft_wrap=True)
    if len(left_out) > _SHOWN_REASONS:
        console.print(
            f"  and {len(left_out) - _SHOWN_REASONS} more; `marl-study data describe SPEC` says why", markup=False
        )
    return found


class _Shown:
    """How far it is: a bar on a terminal, else a line now and then."""

    def __init__(self, console: Console) -> None:
        self._console = console
        columns = (
            TextColumn("preparing"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(),
        )
        self._bar = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
        self._task = self._bar.add_task("preparing", total=None, rate="")
        self._began: tuple[float, int] | None = None
        self._lined = time.monotonic()

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def __call__(self, done: int, entries: int) -> None:
        """So many entries of all are done."""
        now = time.monotonic()
        began, before = self._began = self._began or (now, done)  # what was done before says nothing of the speed
        rate = (done - before) / (now - began) if now > began else 0.0
        self._bar.update(self._task, completed=done, total=entries, rate=f"{rate:.0f} clips/s")
        if not self._console.is_terminal and now - self._lined > _LINE_EVERY_S:
            self._lined = now
            left = f", {format_duration((entries - done) / rate)} left" if rate else ""
            self._console.print(
                f"data: {done:,} of {entries:,}, {rate:.0f} clips/s{left}", markup=False, soft_wrap=True
            )


def _counts(found: PreparedSet) -> str:
    document = found.document
    left_out = document.entries - document.clips
    return f"{document.clips:,} clips of {document.data['kind']}" + (f", {left_out:,} left out" if left_out else "")
