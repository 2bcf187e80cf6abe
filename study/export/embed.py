"""What a trained model makes of any sounds: a table of its features, written while it goes through them.

S is samples of a window, D latents: private, then shared.
"""

import hashlib
import json
import os
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray

import marl
from marl import FeatureExtractor
from marl.checkpoint import MODEL_FILE
from marl.data.audio_file import windows
from marl.data.source import UnusableClipError
from study.errors import RunError, UserError
from study.export.recordings import Recording
from study.storage import atomic_path

__all__ = ["Embedded", "about_model", "embed", "loaded"]

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")
_File = tuple[str, NDArray[np.float32]]

_PROCESSORS = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
# For a bucket one waits; it is not work.
_FETCHERS = 16
_FILES_AHEAD, _BATCHES_AHEAD = 32, 2 * _PROCESSORS
# Samples of one file that are decoded before its turn, and of any files that are encoded together.
_BLOCK_SAMPLES, _BATCH_SAMPLES = 1 << 18, 1 << 20
_HELD_BYTES = 1 << 28
_ROWS_OF_A_GROUP = 8192


@dataclass
class Embedded:
    """What came of it, or has so far.

    Attributes:
        files: that were embedded.
        windows: rows of the table.
        rejected: name of each other file, and why.
    """

    files: int = 0
    windows: int = 0
    rejected: list[tuple[str, str]] = field(default_factory=list)


def loaded(model: Path) -> FeatureExtractor:
    """An exported model.

    Raises:
        UserError: when it is none.
    """
    try:
        return marl.load(model)
    except FileNotFoundError as error:
        raise UserError(f"{model} is no exported model: {error.filename} is not there") from None
    except (ValueError, OSError) as error:
        raise UserError(f"{model} is no exported model: {error}") from None


def embed(
    model: FeatureExtractor,
    sounds: Sequence[Recording],
    output: Path,
    about: Mapping[str, str],
    done: Callable[[int, int], None],
    rejected: Callable[[str, str], None] = lambda *_: None,
) -> Embedded:
    """Write a Parquet file with a row for each window of each sound; it is there whole or not at all.

    Columns are `file`, `start_s` and the means of the latents, `private/0`, …, `shared/0`, …: those that `model.encode`
    gives for the sound as one waveform, its channels averaged, whatever it is encoded together with. They are the same
    to 1e-5; where a long sound is resampled, which is done in parts, the rounding of its samples is added.

    Memory does not grow with the sounds: a few files are decoded ahead while windows of any of them are encoded
    together. All that is held beside are names, the latents of one file, and of a bucket 256 MiB and its largest
    object.

    Args:
        model: from `loaded`.
        sounds: from `study.export.recordings`.
        output: ends in `.parquet`. It is not written when no sound could be embedded.
        about: kept in the file's metadata.
        done: called with the number of files, and of windows of those that were embedded, so far.
        rejected: called with the name of each file that cannot be decoded to its end, and why. It has no row.

    Raises:
        UserError: when the output cannot be begun, or a bucket cannot be read.
        RunError: when the output cannot be written any further.
    """
    names = [f"private/{index}" for index in range(model.private)]
    names += [f"shared/{index}" for index in range(model.shared)]
    schema = pa.schema(
        [("file", pa.string()), ("start_s", pa.float64()), *((name, pa.float32()) for name in names)],
        metadata=dict(about),
    )
    window_s = model.log_mel.config.clip_samples / model.log_mel.config.sample_rate
    found = Embedded()
    try:
        with atomic_path(output) as draft:
            try:
                file = draft.open("wb")
            except OSError as error:
                raise UserError(f"cannot write {output}: {error.strerror or error}") from None
            groups = _groups(_features(model, sounds, found, done, rejected))
            with file, closing(groups), pq.ParquetWriter(file, schema, compression="zstd") as writer:
                for group in groups:
                    writer.write_table(pa.table(_columns(group, window_s), schema), _ROWS_OF_A_GROUP)
            if not found.windows:
                draft.unlink()
    except OSError as error:
        raise RunError(f"cannot write {output}: {error.strerror or error}") from None
    return found


def about_model(model: Path) -> dict[str, str]:
    """What says which model it was: the SHA-256 of its weights, and where it comes from."""
    about = {"marl.weights_sha256": hashlib.sha256((model / MODEL_FILE).read_bytes()).hexdigest()}
    try:
        manifest = json.loads((model / "manifest.json").read_text(encoding="utf-8"))
        about |= {f"marl.{name}": str(manifest[name]) for name in ("study", "trial", "seed") if name in manifest}
    except (OSError, ValueError, TypeError):  # a model of somebody's own has none
        pass
    return about


class _Part(NamedTuple):
    """Windows [n, S] of a file that follow those of the part before; none where it ends, for a reason if too early."""

    name: str
    windows_NS: NDArray[np.float32] | None
    reason: str | None = None


class _Begun(NamedTuple):
    """A file whose first windows are decoded, if they can be."""

    name: str
    first_NS: NDArray[np.float32] | None
    rest: Iterator[NDArray[np.float32]]
    reason: str | None = None


def _features(
    model: FeatureExtractor,
    sounds: Sequence[Recording],
    so_far: Embedded,
    done: Callable[[int, int], None],
    rejected: Callable[[str, str], None],
) -> Iterator[_File]:
    """Name and latents [windows, D] of each file that can be decoded to its end, in order; says what came of all."""
    config = model.log_mel.config
    latents: list[NDArray[np.float32]] = []  # of the file whose end has not come

    def encoded(batch: list[_Part]) -> tuple[list[_Part], NDArray[np.float32]]:
        some = [part.windows_NS for part in batch if part.windows_NS is not None]
        if not some:
            return batch, np.empty((0, model.private + model.shared), np.float32)
        private, shared = model.encode(torch.from_numpy(np.concatenate(some)), config.sample_rate)
        return batch, torch.cat([private, shared], dim=-1).squeeze(1).cpu().numpy()

    with _workers(sounds) as (decoders, encoders):
        batches = _batches(_parts(decoders, sounds, config.sample_rate, config.clip_samples), config.clip_samples)
        for batch, latents_ND in _ahead(encoders, encoded, batches, _BATCHES_AHEAD):
            at = 0
            for name, windows_NS, reason in batch:
                if windows_NS is not None:
                    latents.append(latents_ND[at : at + len(windows_NS)])
                    at += len(windows_NS)
                elif reason is None:
                    so_far.files += 1
                    so_far.windows += sum(map(len, latents))
                    yield name, np.concatenate(latents)
                    latents = []
                else:
                    so_far.rejected.append((name, reason))
                    rejected(name, reason)
                    latents = []
            done(so_far.files + len(so_far.rejected), so_far.windows)


@contextmanager
def _workers(sounds: Sequence[Recording]) -> Iterator[tuple[ThreadPoolExecutor, ThreadPoolExecutor]]:
    """Threads that decode and threads that encode. As there is one a processor, none of them has torch make others."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    decoders = ThreadPoolExecutor(_FETCHERS if any(one.held_bytes for one in sounds) else _PROCESSORS, "decode")
    encoders = ThreadPoolExecutor(_PROCESSORS, "encode")
    try:
        yield decoders, encoders
    finally:
        decoders.shutdown(cancel_futures=True)
        encoders.shutdown(cancel_futures=True)
        torch.set_num_threads(threads)


def _parts(
    decoders: ThreadPoolExecutor, sounds: Sequence[Recording], sample_rate: int, samples: int
) -> Iterator[_Part]:
    """All windows of all files, one after the other. The beginning of each is decoded before its turn."""
    at_once = max(1, _BLOCK_SAMPLES // samples)

    def begun(sound: Recording) -> _Begun:
        try:
            rest = windows(sound.opened(), sample_rate, samples, at_once)
            first_NS = next(rest)
        except UnusableClipError as reason:
            return _Begun(sound.name, None, iter(()), str(reason))
        # As a view, one window would hold the memory of as many as there may be.
        return _Begun(sound.name, first_NS if len(first_NS) == at_once else first_NS.copy(), rest)

    for name, first_NS, rest, reason in _ahead(decoders, begun, sounds, _FILES_AHEAD, lambda one: one.held_bytes):
        end = _Part(name, None, reason)
        if first_NS is not None:
            yield _Part(name, first_NS)
            try:
                yield from (_Part(name, next_NS) for next_NS in rest)
            except UnusableClipError as problem:
                end = _Part(name, None, str(problem))
        yield end


def _batches(parts: Iterable[_Part], samples: int) -> Iterator[list[_Part]]:
    """Parts that are encoded together, of whichever files."""
    enough = max(1, _BATCH_SAMPLES // samples)
    batch: list[_Part] = []
    count = 0
    for part in parts:
        batch.append(part)
        count += 0 if part.windows_NS is None else len(part.windows_NS)
        if count >= enough or len(batch) >= 4 * enough:
            yield batch
            batch, count = [], 0
    if batch:
        yield batch


def _groups(features: Iterable[_File]) -> Generator[list[_File], None, None]:
    """Files whose rows are written together."""
    group: list[_File] = []
    rows = 0
    for file in features:
        group.append(file)
        rows += len(file[1])
        if rows >= _ROWS_OF_A_GROUP:
            yield group
            group, rows = [], 0
    if group:
        yield group


def _columns(group: Sequence[_File], window_s: float) -> list[pa.Array]:
    counts = [len(latents_ND) for _, latents_ND in group]
    files = pa.array([name for name, _ in group]).take(pa.array(np.repeat(np.arange(len(group)), counts)))
    start_s = np.concatenate([np.arange(count) * window_s for count in counts])
    latents_DN = np.concatenate([latents_ND for _, latents_ND in group]).T
    return [files, pa.array(start_s), *(pa.array(np.ascontiguousarray(latent_N)) for latent_N in latents_DN)]


def _ahead(
    threads: ThreadPoolExecutor,
    act: Callable[[_Item], _Result],
    items: Iterable[_Item],
    most: int,
    held_bytes: Callable[[_Item], int] = lambda _: 0,
) -> Iterator[_Result]:
    """What is made of each item, in order, and of no more than so many items ahead, by what they hold in memory."""
    waiting: deque[tuple[Future[_Result], int]] = deque()
    held = 0
    for item in items:
        size = held_bytes(item)
        waiting.append((threads.submit(act, item), size))
        held += size
        while waiting and (len(waiting) > most or held > _HELD_BYTES):
            future, size = waiting.popleft()
            held -= size
            yield future.result()
    while waiting:
        yield waiting.popleft()[0].result()
