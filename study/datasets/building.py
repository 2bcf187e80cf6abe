"""What a user sees while a set is prepared: how far it is, and what came of it."""

import time

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from marl.data import Sounds
from study.configuration import audio_of, data_of
from study.datasets.finding import find, understood
from study.datasets.prepared import PreparedSet
from study.errors import UserError
from study.objects import Objects
from study.spec import Spec
from study.tables import format_duration

__all__ = ["prepared_now"]

_SHOWN_REASONS = 5
_RATE_OVER_S = 30.0


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

    columns = (
        TextColumn("preparing"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
    )
    started = time.monotonic()
    with Progress(*columns, console=console, transient=True, speed_estimate_period=_RATE_OVER_S) as progress:
        task = progress.add_task("preparing", total=entries, rate="")

        def made(done: int, _: int) -> None:
            progress.update(task, completed=done, rate=f"{progress.tasks[0].speed or 0:.0f} clips/s")

        prepare(found, source, config, audio, address, made)
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


def _counts(found: PreparedSet) -> str:
    document = found.document
    left_out = document.entries - document.clips
    return f"{document.clips:,} clips of {document.data['kind']}" + (f", {left_out:,} left out" if left_out else "")
