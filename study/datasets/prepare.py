"""Prepare a dataset: Ray tasks turn its entries into clips, chunk by chunk. Finished chunks are not repeated."""

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any

import ray
from rich.console import Console

from marl.data import AudioDatasetConfig
from marl.data.audio_dataset import Entry, prepare_clips
from study.datasets import as_user_error, find, local_copy
from study.datasets.prepared_set import PreparedSet
from study.errors import RunError, UserError
from study.formatting import format_duration
from study.in_flight import in_flight
from study.progress import progress_bar
from study.spec.resolved_spec import ResolvedSpec
from study.storage import RUN_RETRY_TIMEOUT_S, ObjectStore

_CHUNK = 128  # entries for each Ray task and each object of the store
_TASKS_PER_CPU = 2  # so that the next task can start at once
_POLL_S = 0.5
_SHOWN_REASONS = 5


def _prepare(
    prepared: PreparedSet,
    resolved: ResolvedSpec,
    config: AudioDatasetConfig,
    entries: Sequence[Entry],
    session: AbstractContextManager[Any],
    on_progress: Callable[[int, int], None],
) -> None:
    """Prepare the missing chunks of a set on all processors of a machine or a cluster, then commit the set."""
    if not entries:
        raise UserError("data: no clips prepared")
    name, count = Counter(entry.name for entry in entries).most_common(1)[0]
    if count > 1:
        raise UserError(f"data: names of clips must be unique; got {name} twice")
    chunks = [entries[first : first + _CHUNK] for first in range(0, len(entries), _CHUNK)]
    finished = prepared.finished_chunks()
    todo = [(number, chunk) for number, chunk in enumerate(chunks) if number not in finished]
    done = len(entries) - sum(len(chunk) for _, chunk in todo)
    on_progress(done, len(entries))
    if todo:
        with session:
            for number in _prepare_chunks(prepared, resolved, todo):
                done += len(chunks[number])
                on_progress(done, len(entries))
    if find(config, resolved.audio, prepared.objects).key != prepared.key:
        raise UserError("data: the files changed while they were prepared; run `marl-study data build SPEC` again")
    prepared.complete(len(chunks), config, resolved.audio, config.factor_names)


def _prepare_chunks(
    prepared: PreparedSet, resolved: ResolvedSpec, todo: Sequence[tuple[int, Sequence[Entry]]]
) -> Iterator[int]:
    """Yield the number of each chunk when it is finished."""
    numbers = dict[Any, int]()

    def start_tasks() -> Iterator[Any]:
        for number, entries in todo:
            task = _prepare_chunk.remote(prepared.objects.uri, prepared.key, resolved, number, entries)
            numbers[task] = number
            yield task

    def has_room(running: list[Any]) -> bool:
        resources: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
        return len(running) < max(1, int(resources.get("CPU", 1))) * _TASKS_PER_CPU

    for task in in_flight(start_tasks(), has_room, lambda running: ray.wait(running, timeout=_POLL_S)[0]):
        number = numbers.pop(task)
        try:
            ray.get(task)
        except ray.exceptions.RayError as error:
            reason = error.cause if isinstance(error, ray.exceptions.RayTaskError) else error
            raise RunError(f"chunk {number} of the data could not be prepared: {reason}") from None
        yield number


@ray.remote(num_cpus=1, max_retries=3)
def _prepare_chunk(store_uri: str, key: str, resolved: ResolvedSpec, number: int, entries: Sequence[Entry]) -> None:
    import torch

    torch.set_num_threads(1)  # one task runs on each processor
    audio = resolved.audio
    config = local_copy(dataset_config(resolved), entries)
    clips = prepare_clips(config, entries, audio)
    PreparedSet(ObjectStore(store_uri, RUN_RETRY_TIMEOUT_S), key).write_chunk(number, clips, config.factor_names, audio)


def dataset_config(resolved: ResolvedSpec) -> AudioDatasetConfig:
    """Return the configuration of data that is prepared; raise UserError for other data."""
    config = resolved.data
    if not isinstance(config, AudioDatasetConfig):
        raise UserError(f"data: {config.kind} is synthesised when a study starts and needs no preparation")
    return config


def ensure_prepared(
    resolved: ResolvedSpec, objects: ObjectStore, session: AbstractContextManager[Any], console: Console
) -> PreparedSet:
    """Return the prepared set of a resolved spec. If it is missing, prepare it and show the progress.

    An interrupted call loses the chunks that were in progress; the next call continues with the missing ones. The
    session, in which the tasks run, connects to Ray when it is entered.

    Raises:
        UserError: If there are no clips, the sounds or their table are invalid, or the store refuses a write.
        RunError: If a task fails, for example because its machine lacks the files.
    """
    config = dataset_config(resolved)
    prepared = find(config, resolved.audio, objects)
    if prepared.is_whole():
        console.print(f"data: {_counts(prepared)}: prepared already", markup=False, soft_wrap=True)
        return prepared
    objects.check_writable()
    entries = as_user_error(lambda: local_copy(config).entries())
    console.print(f"data: preparing {len(entries):,} clips of {config.kind}", markup=False, soft_wrap=True)

    started = time.monotonic()
    with progress_bar(console, "preparing", "clips") as on_progress:
        _prepare(prepared, resolved, config, entries, session, on_progress)
    took = format_duration(time.monotonic() - started)
    console.print(f"data: {_counts(prepared)}, prepared in {took}", markup=False, soft_wrap=True)
    rejected = prepared.table.dropna(subset=["rejected"])
    for name, reason in rejected[["name", "rejected"]].head(_SHOWN_REASONS).itertuples(index=False):
        console.print(f"  left out: {name}: {reason}", markup=False, soft_wrap=True)
    if len(rejected) > _SHOWN_REASONS:
        console.print(f"  and {len(rejected) - _SHOWN_REASONS} more; see `marl-study data describe SPEC`", markup=False)
    return prepared


def _counts(prepared: PreparedSet) -> str:
    document = prepared.document
    rejected = document.entries - document.clips
    return f"{document.clips:,} clips of {document.data['kind']}" + (f", {rejected:,} left out" if rejected else "")
