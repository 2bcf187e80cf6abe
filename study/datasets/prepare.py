"""Prepares a set: its entries are made into clips by Ray tasks, chunk by chunk, and what is done is not done again."""

import json
import time
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from typing import Any, Self

import ray
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from marl.audio import AudioConfig
from marl.data import KINDS, AudioDatasetConfig
from marl.data.source import Entry, Source, prepare_clips
from study.datasets.lookup import find, understood
from study.datasets.prepared_set import PreparedSet
from study.errors import RunError, UserError
from study.formatting import format_duration
from study.runs.ray_cluster import ray_session
from study.spec.resolved_spec import ResolvedSpec
from study.storage import RUN_RETRY_TIMEOUT_S, ObjectStore

__all__ = ["prepare", "prepared_now"]

CHUNK = 128
"""Entries that one task makes into clips, and one object of the store holds."""

# Tasks that Ray knows of, for each processor: the next is there when one ends.
_AHEAD = 2
_POLL_S = 0.5


def prepare(
    found: PreparedSet,
    source: Source,
    config: AudioDatasetConfig,
    audio: AudioConfig,
    address: str | None,
    made: Callable[[int, int], None],
) -> None:
    """Make the clips of a set that are not made yet, on all processors of a machine or a cluster, and commit it.

    Whoever is stopped in between loses the chunks that were under way; called again it goes on with the others.

    Args:
        found: its place, from `study.datasets.lookup.find`.
        source: where its clips come from, likewise.
        config: of the data.
        audio: the spectrograms.
        address: of the cluster to use, none for this machine.
        made: called with the number of entries that are done and of all.

    Raises:
        UserError: when there are no clips, or the store refuses.
        RunError: when making them fails on a machine, for example because its disk lacks the files.
    """
    entries = understood(source.entries)
    _refuse_twins(entries)
    chunks = [entries[first : first + CHUNK] for first in range(0, len(entries), CHUNK)]
    done = found.made_chunks()
    todo = [number for number in range(len(chunks)) if number not in done]
    so_far = sum(len(chunks[number]) for number in done if number < len(chunks))
    made(so_far, len(entries))
    if todo:
        with ray_session(address):
            for number in _made(found, config, audio, [(number, chunks[number]) for number in todo]):
                so_far += len(chunks[number])
                made(so_far, len(entries))
    found.complete(len(chunks), config, audio, source.factor_names)


def _made(
    found: PreparedSet, config: AudioDatasetConfig, audio: AudioConfig, todo: Sequence[tuple[int, Sequence[Entry]]]
) -> Iterator[int]:
    """Numbers of chunks as they are done."""
    waiting, running = list(reversed(todo)), dict[Any, int]()
    content = config.model_dump_json()
    while waiting or running:
        resources: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
        at_once = max(1, int(resources.get("CPU", 1))) * _AHEAD
        while waiting and len(running) < at_once:
            number, entries = waiting.pop()
            call = _make_chunk.remote(found.objects.uri, found.key, content, audio.model_dump_json(), number, entries)
            running[call] = number
        for call in ray.wait(list(running), timeout=_POLL_S)[0]:
            number = running.pop(call)
            try:
                ray.get(call)
            except ray.exceptions.RayTaskError as error:
                raise RunError(f"chunk {number} of the data could not be made: {error.cause}") from None
            except ray.exceptions.RayError as error:
                raise RunError(f"chunk {number} of the data could not be made: {error}") from None
            yield number


@ray.remote(num_cpus=1, max_retries=3)
def _make_chunk(store_uri: str, key: str, config: str, audio_json: str, number: int, entries: Sequence[Entry]) -> None:
    import torch

    torch.set_num_threads(1)  # as many tasks as processors run beside each other
    audio, source = AudioConfig.model_validate_json(audio_json), _source(config)
    made = prepare_clips(source, entries, audio)
    PreparedSet(ObjectStore(store_uri, RUN_RETRY_TIMEOUT_S), key).write_chunk(number, made, source.factor_names, audio)


@lru_cache(maxsize=1)
def _source(config: str) -> Source:
    """The same for all tasks of a process, with the files that it has opened."""
    content = json.loads(config)
    data = KINDS[content["kind"]].model_validate(content)
    assert isinstance(data, AudioDatasetConfig)  # noqa: S101  # computed data sets are not prepared
    return data.source()


def _refuse_twins(entries: Sequence[Entry]) -> None:
    if not entries:
        raise UserError("data: there are no clips")
    names = set[str]()
    for entry in entries:
        if entry.name in names:
            raise UserError(f"data: {entry.name} is there twice")
        names.add(entry.name)


_SHOWN_REASONS = 5
_LINE_EVERY_S = 30.0


def prepared_now(resolved: ResolvedSpec, objects: ObjectStore, address: str | None, console: Console) -> PreparedSet:
    """The prepared set of a resolved spec; prepared first where it is not there, with progress and time left.

    Args:
        resolved: the spec.
        objects: the store.
        address: of the cluster that prepares it, none for this machine.
        console: where to say how far it is.

    Raises:
        UserError: when the sounds or what describes them are not what they must be.
        RunError: when preparing them fails on a machine.
    """
    config, audio = resolved.data, resolved.audio
    if not isinstance(config, AudioDatasetConfig):
        raise UserError(f"data: {config.kind} is computed when a study begins; there is nothing to prepare")
    found, source = find(config, audio, objects)
    if found.is_whole():
        console.print(f"data: {_counts(found)}: there already", markup=False, soft_wrap=True)
        return found
    objects.check_writable()
    entries = len(understood(source.entries))
    console.print(f"data: preparing {entries:,} clips of {config.kind}", markup=False, soft_wrap=True)

    started = time.monotonic()
    with _Shown(console) as shown:
        prepare(found, source, config, audio, address, shown)
    took = format_duration(time.monotonic() - started)
    console.print(f"data: {_counts(found)}, prepared in {took}", markup=False, soft_wrap=True)
    rejected = found.table.dropna(subset=["rejected"])
    for name, reason in rejected[["name", "rejected"]].head(_SHOWN_REASONS).itertuples(index=False):
        console.print(f"  left out: {name}: {reason}", markup=False, soft_wrap=True)
    if len(rejected) > _SHOWN_REASONS:
        console.print(
            f"  and {len(rejected) - _SHOWN_REASONS} more; `marl-study data describe SPEC` says why", markup=False
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
    rejected = document.entries - document.clips
    return f"{document.clips:,} clips of {document.data['kind']}" + (f", {rejected:,} left out" if rejected else "")
