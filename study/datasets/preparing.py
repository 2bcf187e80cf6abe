"""Prepares a set: its entries are made into clips by Ray tasks, chunk by chunk, and what is done is not done again."""

import json
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from typing import Any

import ray

from marl.audio import AudioConfig
from marl.data import KINDS, SoundsConfig, source_of
from marl.data.preparation import make
from marl.data.source import Entry, Source
from study.datasets.finding import understood
from study.datasets.prepared import PreparedSet
from study.errors import RunError, UserError
from study.launching.ray_session import ray_session
from study.objects import PATIENT_S, Objects

__all__ = ["prepare"]

CHUNK = 128
"""Entries that one task makes into clips, and one object of the store holds."""

# Tasks that Ray knows of, for each processor: the next is there when one ends.
_AHEAD = 2
_POLL_S = 0.5


def prepare(
    found: PreparedSet,
    source: Source,
    config: SoundsConfig,
    audio: AudioConfig,
    address: str | None,
    made: Callable[[int, int], None],
) -> None:
    """Make the clips of a set that are not made yet, on all processors of a machine or a cluster, and commit it.

    Whoever is stopped in between loses the chunks that were under way; called again it goes on with the others.

    Args:
        found: its place, from `study.datasets.finding.find`.
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
    found: PreparedSet, config: SoundsConfig, audio: AudioConfig, todo: Sequence[tuple[int, Sequence[Entry]]]
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
    made = make(source, entries, audio)
    PreparedSet(Objects(store_uri, PATIENT_S), key).write_chunk(number, made, source.factor_names, audio)


@lru_cache(maxsize=1)
def _source(config: str) -> Source:
    """The same for all tasks of a process, with the files that it has opened."""
    content = json.loads(config)
    return source_of(KINDS[content["kind"]].model_validate(content))  # type: ignore[arg-type]  # it is no SynTone


def _refuse_twins(entries: Sequence[Entry]) -> None:
    if not entries:
        raise UserError("data: there are no clips")
    names = set[str]()
    for entry in entries:
        if entry.name in names:
            raise UserError(f"data: {entry.name} is there twice")
        names.add(entry.name)
