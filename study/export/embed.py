"""Feature tables: the latents of a model for every window of any recordings, as a Parquet file.

Files are decoded and windows are encoded in threads, a bounded number of files and batches ahead of the writer.

N is windows, S samples of a window, D latents, private before shared.
"""

import hashlib
import json
import os
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray

import marl
from marl import FeatureExtractor
from marl.checkpoint import MANIFEST_FILE, MODEL_FILE
from marl.data.audio_dataset import UnusableClipError
from marl.data.audio_file import windows
from marl.registry import add_folders
from study.errors import RunError, UserError
from study.export.recordings import Recording
from study.export.verify import not_a_model
from study.in_flight import in_flight
from study.local_files import atomic_path

_Item = TypeVar("_Item")
_FileFeatures = tuple[str, NDArray[np.float32]]

_CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
# Threads that wait for a bucket use little processor time.
_FETCH_THREADS = 16
_MAX_FILES_AHEAD, _MAX_BATCHES_AHEAD = 32, 2 * _CORES
# Samples of one file that are decoded ahead of its turn, and samples of any files that are encoded together.
_BLOCK_SAMPLES, _BATCH_SAMPLES = 1 << 18, 1 << 20
_MAX_HELD_BYTES = 1 << 28
_ROWS_PER_GROUP = 8192


@dataclass
class EmbeddingResult:
    """Number of embedded files and windows, and the name of each file that could not be decoded, with the reason."""

    files: int = 0
    windows: int = 0
    rejected: list[tuple[str, str]] = field(default_factory=list)


def load_model(folder: Path, plugins: Iterable[str] = ()) -> FeatureExtractor:
    """Return an exported model; raise UserError if the folder does not hold one.

    Args:
        folder: Folder of the model.
        plugins: Networks that may be imported, also from the current folder.
    """
    add_folders([Path()] if plugins else ())
    try:
        return marl.load(folder, plugins=plugins)
    except FileNotFoundError as error:
        raise not_a_model(folder, f"{Path(error.filename).name} is missing") from None
    except (ValueError, OSError) as error:
        raise UserError(f"cannot load the model in {folder}: {error}") from None


def embed(
    model: FeatureExtractor,
    recordings: Sequence[Recording],
    output: Path,
    metadata: Mapping[str, str],
    on_progress: Callable[[int, int], None],
    on_rejected: Callable[[str, str], None] = lambda *_: None,
) -> EmbeddingResult:
    """Write a Parquet file with a row for each window of each recording, completely or not at all.

    The columns are `file`, `start_s` and the means of the latents, `private/0`, …, `shared/0`, …. They equal the result
    of `model.encode` for the whole recording to 1e-5, independently of the other recordings. Long recordings are
    resampled in blocks, which adds rounding errors of the samples.

    Memory does not grow with the number or length of recordings: it holds a few decoded blocks, the latents of one
    file, and at most 256 MiB and one object of a bucket.

    Args:
        model: Model.
        recordings: Recordings.
        output: Path ending in `.parquet`. It is not written if no recording could be embedded.
        metadata: Metadata of the file.
        on_progress: Called with the number of files that were processed, and of windows that were embedded.
        on_rejected: Called with the name of each file that cannot be decoded completely, and the reason. It has no row.

    Raises:
        UserError: If the output cannot be created, or a bucket cannot be read.
        RunError: If writing the output fails later.
    """
    fields = [("file", pa.string()), ("start_s", pa.float64())]
    fields += [(f"private/{index}", pa.float32()) for index in range(model.private)]
    fields += [(f"shared/{index}", pa.float32()) for index in range(model.shared)]
    schema = pa.schema(fields, metadata=dict(metadata))
    window_s = model.log_mel.config.clip_samples / model.log_mel.config.sample_rate
    result = EmbeddingResult()
    try:
        with atomic_path(output) as draft:
            try:
                file = draft.open("wb")
            except OSError as error:
                raise UserError(f"cannot write {output}: {error.strerror or error}") from None
            with file:
                features = _features(model, recordings, result, on_progress, on_rejected)
                groups = _grouped(features, lambda file: len(file[1]), _ROWS_PER_GROUP)
                with closing(groups), pq.ParquetWriter(file, schema, compression="zstd") as writer:
                    for group in groups:
                        writer.write_table(pa.table(_columns(group, window_s), schema), _ROWS_PER_GROUP)
            if not result.windows:
                draft.unlink()
    except OSError as error:
        raise RunError(f"cannot write {output}: {error.strerror or error}") from None
    return result


def model_metadata(folder: Path) -> dict[str, str]:
    """Return metadata that identifies an exported model: the SHA-256 of its weights, and its study, trial and seed."""
    metadata = {"marl.weights_sha256": hashlib.sha256((folder / MODEL_FILE).read_bytes()).hexdigest()}
    with suppress(OSError, ValueError, TypeError):  # models that were not exported by `marl-study` have no manifest
        manifest = json.loads((folder / MANIFEST_FILE).read_text(encoding="utf-8"))
        metadata |= {f"marl.{name}": str(manifest[name]) for name in ("study", "trial", "seed") if name in manifest}
    return metadata


class _Block(NamedTuple):
    """Consecutive windows of a file, [N, S].

    Without windows it marks the end of the file, with a reason if the file cannot be decoded completely.
    """

    name: str
    windows_NS: NDArray[np.float32]
    reason: str | None = None


def _features(
    model: FeatureExtractor,
    recordings: Sequence[Recording],
    result: EmbeddingResult,
    on_progress: Callable[[int, int], None],
    on_rejected: Callable[[str, str], None],
) -> Iterator[_FileFeatures]:
    """Yield name and latents [N, D] of each file that can be decoded completely, in order, and update the result."""
    config = model.log_mel.config
    windows_per_batch = max(1, _BATCH_SAMPLES // config.clip_samples)
    latents: list[NDArray[np.float32]] = []  # of the current file

    def encode(batch: list[_Block]) -> tuple[list[_Block], NDArray[np.float32]]:
        windows_NS = np.concatenate([block.windows_NS for block in batch])
        if not len(windows_NS):
            return batch, np.empty((0, model.private + model.shared), np.float32)
        private, shared = model.encode(torch.from_numpy(windows_NS), config.sample_rate)
        return batch, torch.cat([private, shared], dim=-1).squeeze(1).cpu().numpy()

    with _executors(recordings) as (decoders, encoders):
        blocks = _blocks(decoders, recordings, config.sample_rate, config.clip_samples)
        batches = _grouped(blocks, lambda block: len(block.windows_NS), windows_per_batch)
        encoding = (encoders.submit(encode, batch) for batch in batches)
        for future in in_flight(encoding, lambda running: len(running) <= _MAX_BATCHES_AHEAD):
            batch, latents_ND = future.result()
            start = 0
            for name, windows_NS, reason in batch:
                if len(windows_NS):
                    latents.append(latents_ND[start : start + len(windows_NS)])
                    start += len(windows_NS)
                    continue
                if reason is None:
                    result.files += 1
                    result.windows += sum(map(len, latents))
                    yield name, np.concatenate(latents)
                else:
                    result.rejected.append((name, reason))
                    on_rejected(name, reason)
                latents = []
            on_progress(result.files + len(result.rejected), result.windows)


@contextmanager
def _executors(recordings: Sequence[Recording]) -> Iterator[tuple[ThreadPoolExecutor, ThreadPoolExecutor]]:
    """Provide threads that decode and threads that encode. Each encodes with one core, so torch starts no others."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    is_remote = any(recording.held_bytes for recording in recordings)
    decoders = ThreadPoolExecutor(_FETCH_THREADS if is_remote else _CORES, "decode")
    encoders = ThreadPoolExecutor(_CORES, "encode")
    try:
        yield decoders, encoders
    finally:
        decoders.shutdown(cancel_futures=True)
        encoders.shutdown(cancel_futures=True)
        torch.set_num_threads(threads)


def _blocks(
    decoders: ThreadPoolExecutor, recordings: Sequence[Recording], sample_rate: int, clip_samples: int
) -> Iterator[_Block]:
    """Yield all windows of all files in order. The first block of a file is decoded ahead of its turn."""
    windows_per_block = max(1, _BLOCK_SAMPLES // clip_samples)
    end_0S = np.empty((0, clip_samples), np.float32)

    def decode(recording: Recording) -> Iterator[_Block]:
        try:
            for windows_NS in windows(recording.open(), sample_rate, clip_samples, windows_per_block):
                # A view of a partial block would keep the memory of the whole block.
                yield _Block(recording.name, windows_NS if len(windows_NS) == windows_per_block else windows_NS.copy())
            yield _Block(recording.name, end_0S)
        except UnusableClipError as reason:
            yield _Block(recording.name, end_0S, str(reason))

    def decode_first(recording: Recording) -> Iterator[_Block]:
        blocks = decode(recording)
        return chain([next(blocks)], blocks)

    def has_room(running: list[tuple[Future[Iterator[_Block]], int]]) -> bool:
        return len(running) <= _MAX_FILES_AHEAD and sum(size for _, size in running) <= _MAX_HELD_BYTES

    decoding = ((decoders.submit(decode_first, recording), recording.held_bytes) for recording in recordings)
    for future, _ in in_flight(decoding, has_room):
        yield from future.result()


def _grouped(items: Iterable[_Item], size: Callable[[_Item], int], min_size: int) -> Generator[list[_Item], None, None]:
    """Yield groups of consecutive items whose sizes add up to `min_size`, with at most `4 * min_size` items."""
    group: list[_Item] = []
    total = 0
    for item in items:
        group.append(item)
        total += size(item)
        if total >= min_size or len(group) >= 4 * min_size:
            yield group
            group, total = [], 0
    if group:
        yield group


def _columns(group: Sequence[_FileFeatures], window_s: float) -> list[pa.Array]:
    counts = [len(latents_ND) for _, latents_ND in group]
    files = pa.array([name for name, _ in group]).take(pa.array(np.repeat(np.arange(len(group)), counts)))
    start_s = np.concatenate([np.arange(count) * window_s for count in counts])
    latents_DN = np.concatenate([latents_ND for _, latents_ND in group]).T
    return [files, pa.array(start_s), *(pa.array(np.ascontiguousarray(latent_N)) for latent_N in latents_DN)]
