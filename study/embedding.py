"""What a trained model makes of any sounds: a table of its features, written while it goes through them."""

import hashlib
import io
import json
import tempfile
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray

import marl
from marl import FeatureExtractor
from marl.checkpoint import MODEL_FILE
from marl.data.recording import SUFFIXES, windows
from marl.data.source import Unusable
from study.errors import UserError
from study.objects import Objects

__all__ = ["Embedded", "Recording", "about_model", "embed", "loaded", "recordings"]

_ENCODED_TOGETHER = 256
_DECODED_AHEAD = 16
_THREADS = 4
# A file is decoded so far in advance; the rest of a longer one when its turn has come.
_BLOCK, _BLOCKS_AHEAD = 64, 1
_ROWS_OF_A_GROUP = 8192


class Recording(NamedTuple):
    """A sound to be embedded.

    Attributes:
        name: what the table calls it.
        opened: gives what `marl.data.recording.windows` takes.
    """

    name: str
    opened: Callable[[], str | io.BytesIO]


class Embedded(NamedTuple):
    """What came of it.

    Attributes:
        files: that were embedded.
        windows: rows of the table.
        left_out: name of each other file, and why.
    """

    files: int
    windows: int
    left_out: list[tuple[str, str]]


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


def recordings(places: Sequence[str]) -> list[Recording]:
    """Sounds in files, folders and buckets, in this order, those of each by name.

    Of a folder or bucket all that a sound file's name ends with (`marl.data.recording.SUFFIXES`), hidden ones left out;
    a file that is named is taken, whatever its name.

    Raises:
        UserError: when there is nothing at a place.
    """
    return [recording for place in places for recording in (_of_bucket(place) if "://" in place else _of_path(place))]


def embed(
    model: FeatureExtractor,
    sounds: Sequence[Recording],
    output: Path,
    about: dict[str, str],
    done: Callable[[int, int], None],
) -> Embedded:
    """Write a Parquet file with a row for each window of each sound; it is there whole or not at all.

    Columns are `file`, `start_s` and the means of the latents, `private/0`, …, `shared/0`, …: to float32's rounding
    those that `model.encode` gives for the sound as one waveform. Memory does not grow with the sounds: a few files are
    decoded ahead while windows of any of them are encoded together.

    Args:
        model: from `loaded`.
        sounds: from `recordings`.
        output: ends in `.parquet`.
        about: kept in the file's metadata.
        done: called with the number of files and windows so far.

    Raises:
        UserError: when the output cannot be written.
    """
    names = [f"private/{index}" for index in range(model.private)] + [
        f"shared/{index}" for index in range(model.shared)
    ]
    schema = pa.schema(
        [("file", pa.string()), ("start_s", pa.float64()), *((name, pa.float32()) for name in names)], metadata=about
    )
    left_out: list[tuple[str, str]] = []
    config = model.log_mel.config
    rows = 0
    read = _Reading(sounds, config.sample_rate, config.clip_samples, left_out)
    try:
        with tempfile.TemporaryDirectory(dir=output.parent, prefix=".unfinished-") as folder:
            draft = Path(folder, output.name)
            with pq.ParquetWriter(draft, schema, compression="zstd") as writer:
                for table in _groups(_encoded(model, read), names, config.clip_samples / config.sample_rate):
                    writer.write_table(table.cast(schema))
                    rows += len(table)
                    done(read.files, rows)
            draft.replace(output)
    except OSError as error:
        raise UserError(f"cannot write {output}: {error.strerror or error}") from None
    return Embedded(len(sounds) - len(left_out), rows, left_out)


def about_model(model: Path) -> dict[str, str]:
    """What says which model it was: the SHA-256 of its weights, and where it comes from."""
    about = {"marl.weights_sha256": hashlib.sha256((model / MODEL_FILE).read_bytes()).hexdigest()}
    try:
        manifest = json.loads((model / "manifest.json").read_text(encoding="utf-8"))
        about |= {f"marl.{name}": str(manifest[name]) for name in ("study", "trial", "seed") if name in manifest}
    except (OSError, ValueError, TypeError):  # a model of somebody's own has none
        pass
    return about


class _Block(NamedTuple):
    """Windows of one file that come one after another, [n, samples], the first of them the file's `first`-th."""

    name: str
    first: int
    windows: NDArray[np.float32]


class _Reading:
    """All windows of all sounds, file after file; what cannot be decoded is left out from there on."""

    def __init__(
        self, sounds: Sequence[Recording], sample_rate: int, samples: int, left_out: list[tuple[str, str]]
    ) -> None:
        self._sounds, self._left_out = sounds, left_out
        self._sample_rate, self._samples = sample_rate, samples
        self.files = 0

    def __iter__(self) -> Iterator[_Block]:
        waiting = iter(self._sounds)
        with ThreadPoolExecutor(_THREADS, thread_name_prefix="decode") as threads:
            ahead = deque(threads.submit(self._begin, sound) for sound in islice(waiting, _DECODED_AHEAD))
            while ahead:
                name, begun, rest = ahead.popleft().result()
                first = 0
                try:
                    for part in _chained(begun, rest):
                        yield _Block(name, first, part)
                        first += len(part)
                except Unusable as reason:
                    self._left_out.append((name, str(reason) if not first else f"{reason}, after {first} windows"))
                self.files += 1
                if (sound := next(waiting, None)) is not None:
                    ahead.append(threads.submit(self._begin, sound))

    def _begin(
        self, sound: Recording
    ) -> tuple[str, list[NDArray[np.float32] | Unusable], Iterator[NDArray[np.float32]]]:
        """The first windows of a file, and the others when they are asked for."""
        begun: list[NDArray[np.float32] | Unusable] = []
        rest: Iterator[NDArray[np.float32]] = iter(())
        try:
            rest = windows(sound.opened(), self._sample_rate, self._samples, _BLOCK)
            begun += islice(rest, _BLOCKS_AHEAD)
        except Unusable as reason:
            begun.append(reason)
        return sound.name, begun, rest


def _chained(
    begun: Iterable[NDArray[np.float32] | Unusable], rest: Iterator[NDArray[np.float32]]
) -> Iterator[NDArray[np.float32]]:
    for part in begun:
        if isinstance(part, Unusable):
            raise part
        yield part
    yield from rest


def _encoded(model: FeatureExtractor, blocks: Iterable[_Block]) -> Iterator[tuple[list[_Block], NDArray[np.float32]]]:
    """Blocks, and the latents of all their windows, [n, P + S]."""
    held: list[_Block] = []
    count = 0

    def encoded() -> tuple[list[_Block], NDArray[np.float32]]:
        together = torch.from_numpy(np.concatenate([block.windows for block in held]))
        private, shared = model.encode(together, model.log_mel.config.sample_rate)
        return held, torch.cat([private, shared], dim=-1).squeeze(1).cpu().numpy()

    for block in blocks:
        held.append(block)
        count += len(block.windows)
        if count >= _ENCODED_TOGETHER:
            yield encoded()
            held, count = [], 0
    if held:
        yield encoded()


def _groups(
    encoded: Iterable[tuple[list[_Block], NDArray[np.float32]]], names: Sequence[str], window_s: float
) -> Iterator[pa.Table]:
    """Tables of about so many rows as are written together."""
    files: list[str] = []
    starts: list[float] = []
    latents: list[NDArray[np.float32]] = []

    def table() -> pa.Table:
        columns = np.concatenate(latents).T
        return pa.table({"file": files, "start_s": starts, **dict(zip(names, columns, strict=True))})

    for blocks, found in encoded:
        for block in blocks:
            files += [block.name] * len(block.windows)
            starts += [(block.first + index) * window_s for index in range(len(block.windows))]
        latents.append(found)
        if len(files) >= _ROWS_OF_A_GROUP:
            yield table()
            files, starts, latents = [], [], []
    if files:
        yield table()


def _of_path(place: str) -> list[Recording]:
    path = Path(place)
    if path.is_file():
        return [Recording(place, lambda: place)]
    if not path.is_dir():
        raise UserError(f"{place}: must be a sound file, a folder of them or s3://bucket/prefix; it is not there")
    found = sorted(
        one
        for one in path.rglob("*")
        if one.suffix.lower() in SUFFIXES
        and not any(part.startswith(".") for part in one.relative_to(path).parts)
        and one.is_file()
    )
    if not found:
        raise UserError(f"{place}: no sound file is in this folder; their names end in {', '.join(sorted(SUFFIXES))}")
    return [Recording(str(one), lambda one=one: str(one)) for one in found]  # type: ignore[misc]


def _of_bucket(place: str) -> list[Recording]:
    objects = Objects(place)
    names = [name for name in objects.names("") if Path(name).suffix.lower() in SUFFIXES]
    if names:
        return [_of_object(objects, f"{objects.uri}/{name}", name) for name in names]
    parent, _, name = place.rstrip("/").rpartition("/")
    if Path(name).suffix.lower() in SUFFIXES and parent.count("/") > 2:  # s3://bucket/prefix
        above = Objects(parent)
        if name in above.names(name):
            return [_of_object(above, place, name)]
    raise UserError(f"{place}: no sound is there; names of sounds end in {', '.join(sorted(SUFFIXES))}")


def _of_object(objects: Objects, label: str, name: str) -> Recording:
    return Recording(label, lambda: io.BytesIO(objects.read(name)))
