"""Prepared sets of clips: their layout in the store, and access to their clips.

    _data/<key>/set.json               metadata; written last, so a set that has it is complete
                clips.parquet          a row for each entry: factors, loudness and position, or why it was rejected
                log_mels/<chunk>.npy   spectrograms in dB, float16
                sounds/<chunk>.flac    clips of a chunk one after another, 16 bit
                chunks/<chunk>.parquet rows of a finished chunk

The key is a hash of the sounds and of all settings that the set depends on. Reading unpickles nothing.
"""

import hashlib
import io
import json
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import pyarrow as pa
import soundfile
import torch
from numpy.typing import NDArray
from pydantic import BaseModel
from torch import Tensor

from marl.audio import AudioConfig
from marl.data import AudioDatasetConfig, Clips, Factor, split_clips
from marl.data.audio_dataset import PreparedClips, factor_from_column, waveforms_of
from marl.registry import is_reference, loaded_source
from study.errors import UserError
from study.formatting import printable
from study.storage import ObjectStore
from study.store.tables import read_parquet, write_parquet

FOLDER = "_data"
"""Folder of prepared sets in a store. Names of studies cannot begin with an underscore."""

_DOCUMENT, _TABLE = "set.json", "clips.parquet"
_LOG_MELS, _SOUNDS, _ROWS = "log_mels/{:05d}.npy", "sounds/{:05d}.flac", "chunks/{:05d}.parquet"
_DOCUMENT_LIMIT = 16 << 20
_CONCURRENT_READS = 16
# Columns of text, whole numbers and real numbers.
_TEXT = ("name", "group", "content", "rejected")
_WHOLE = ("chunk", "row")
_REAL = ("loudness_db", "peak", "sounds_s", "sum_db", "square_db")


class SetDocument(BaseModel, frozen=True):
    """Metadata of a prepared set, the content of `set.json`.

    Attributes:
        format: Version of the layout.
        entries: Number of clips and of rejected entries.
        writer: Version of marl-study.
    """

    format: Literal[1] = 1
    data: dict[str, Any]
    audio: AudioConfig
    factors: tuple[str, ...]
    entries: int
    clips: int
    created: datetime
    writer: str


def key_of(config: AudioDatasetConfig, audio: AudioConfig, digest: str) -> str:
    """Return the key of a set: a hash of its files, its settings except path and split, and a plug-in's source."""
    settings = config.model_dump(mode="json", exclude={"split", "content", "path"})
    everything = {"format": 1, "data": settings, "audio": audio.model_dump(mode="json"), "digest": digest}
    everything |= {"source": loaded_source(config.kind).sha256} if is_reference(config.kind) else {}
    return hashlib.sha256(json.dumps(everything, sort_keys=True).encode()).hexdigest()[:32]


@dataclass(frozen=True)
class PreparedSet:
    """A prepared set in a store."""

    objects: ObjectStore
    key: str

    @property
    def uri(self) -> str:
        """Address of the set."""
        return f"{self.objects.uri}/{FOLDER}/{self.key}"

    def is_whole(self) -> bool:
        """Return whether the set is complete."""
        return bool(self.objects.names(self._name(_DOCUMENT)))

    @cached_property
    def document(self) -> SetDocument:
        """Metadata of the set."""
        with self._reading(_DOCUMENT):
            try:
                content = self.objects.read(self._name(_DOCUMENT), _DOCUMENT_LIMIT)
            except FileNotFoundError:
                how = "prepare the data with `marl-study data build SPEC`"
                raise UserError(f"{self.uri} is missing or incomplete; {how}") from None
            return SetDocument.model_validate_json(content)

    @cached_property
    def table(self) -> pd.DataFrame:
        """Table with a row for each entry.

        `name`, `group`, `factor/<name>`; `rejected`, the reason for a rejection, or null. Clips also have `content`,
        `loudness_db`, `peak`, `sounds_s`, `sum_db`, `square_db` as in `marl.data.audio_dataset.Clip`, and their
        position `chunk` and `row`.
        """
        with self._reading(_TABLE):
            return _decode_table(self._read(_TABLE), self.document.factors)

    @cached_property
    def rows(self) -> pd.DataFrame:
        """Rows of `table` that are clips, in the order of the clips of a dataset."""
        return self.table[self.table["rejected"].isna()].reset_index(drop=True)

    @cached_property
    def factors_and_values(self) -> tuple[tuple[Factor, ...], Tensor]:
        """Factors, and the index of each clip's value, int64 [N, C]."""
        table = self.rows.astype(object).where(self.rows.notna(), None)
        try:
            columns = [factor_from_column(name, table[f"factor/{name}"].tolist()) for name in self.document.factors]
        except ValueError as error:
            raise UserError(f"data: {error}") from None
        return tuple(factor for factor, _ in columns), torch.stack([index_N for _, index_N in columns], dim=1)

    def clips(self, split: str) -> Clips:
        """Return all clips on the CPU, without spectrograms, split as `marl.data.split_clips` describes."""
        factors, value_NC = self.factors_and_values
        try:
            splits = split_clips(split, value_NC, factors, list(self.rows["group"]), list(self.rows["name"]))
        except ValueError as error:
            raise UserError(f"data.{error}") from None
        return Clips(value_NC, factors, splits, self.waveforms)

    def waveforms(self, clips: Sequence[int]) -> Tensor:
        """Return the waveforms of clips, float32 [n, S]."""
        samples = self.document.audio.clip_samples
        chunk_n, row_n = self.rows.loc[list(clips), ["chunk", "row"]].to_numpy(dtype=np.int64).T
        samples_nS = np.empty((len(chunk_n), samples), np.int16)
        for chunk in np.unique(chunk_n):
            name, here = _SOUNDS.format(chunk), chunk_n == chunk
            with self._reading(name):
                samples_nS[here] = _decode_sounds(self._read(name), row_n[here].tolist(), samples)
        return waveforms_of(samples_nS)

    def log_mels(self) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float16]]]:
        """Yield indices into `rows` and their spectrograms in dB, float16 [n, F, T], chunk by chunk."""
        chunks = [int(chunk) for chunk in sorted(self.rows["chunk"].unique())]
        chunk_N, row_N = self.rows[["chunk", "row"]].to_numpy(dtype=np.int64).T
        for first in range(0, len(chunks), _CONCURRENT_READS):
            names = {chunk: _LOG_MELS.format(chunk) for chunk in chunks[first : first + _CONCURRENT_READS]}
            with self._reading("log_mels"):
                contents = self.objects.read_all([self._name(name) for name in names.values()])
            for chunk, name in names.items():
                clips = np.flatnonzero(chunk_N == chunk)
                with self._reading(name):
                    decibels_nFT = _decode_log_mels(contents[self._name(name)], self.document.audio)[row_N[clips]]
                yield clips, decibels_nFT

    def finished_chunks(self) -> set[int]:
        """Return the numbers of the finished chunks."""
        stems = (Path(name).stem for name in self.objects.names(self._name("chunks")))
        return {int(stem) for stem in stems if stem.isdecimal()}

    def write_chunk(self, number: int, prepared: PreparedClips, factors: Sequence[str], audio: AudioConfig) -> None:
        """Write a chunk. Its rows are written last and mark it as finished."""
        if prepared.clips:
            log_mels, sounds = io.BytesIO(), io.BytesIO()
            np.save(log_mels, prepared.decibels_NFT, allow_pickle=False)
            # Clips one after another; FLAC is lossless.
            soundfile.write(sounds, prepared.samples_NS.reshape(-1), audio.sample_rate, format="FLAC", subtype="PCM_16")
            self._write(_LOG_MELS.format(number), log_mels.getvalue())
            self._write(_SOUNDS.format(number), sounds.getvalue())
        self._write(_ROWS.format(number), _encode_table(_chunk_rows(number, prepared, factors)))

    def complete(self, chunks: int, config: AudioDatasetConfig, audio: AudioConfig, factors: Sequence[str]) -> None:
        """Merge the rows of all chunks, reject clips with equal samples except the first, and commit the set."""
        names = [self._name(_ROWS.format(number)) for number in range(chunks)]
        with self._reading("chunks"):
            contents = self.objects.read_all(names)
            if missing := [name for name in names if name not in contents]:
                raise UserError(
                    f"{self.uri}: {missing[0]} disappeared during preparation; run `marl-study data build SPEC` again"
                )
            parts = [_decode_table(contents[name], factors).astype(object) for name in names]
        table = pd.concat(parts, ignore_index=True)
        # All but the first row with the same content are rejected.
        first = table.dropna(subset=["content"]).drop_duplicates("content").set_index("content")["name"]
        original = table["content"].map(first)
        is_duplicate = table["rejected"].isna() & (original != table["name"])
        table["rejected"] = table["rejected"].where(~is_duplicate, "same samples as " + original.astype(str))
        self._write(_TABLE, _encode_table(table))
        document = SetDocument(
            data=config.model_dump(mode="json", exclude={"content"}),
            audio=audio,
            factors=tuple(factors),
            entries=len(table),
            clips=int(table["rejected"].isna().sum()),
            created=datetime.now(UTC),
            writer=version("marl-study"),
        )
        self._write(_DOCUMENT, document.model_dump_json(indent=1).encode())

    @contextmanager
    def _reading(self, name: str) -> Iterator[None]:
        """Turn the errors of a missing or damaged object into a UserError."""
        try:
            yield
        except (ValueError, LookupError, FileNotFoundError) as error:
            reason = "missing" if isinstance(error, FileNotFoundError | KeyError) else str(error).splitlines()[0]
            raise UserError(
                f"{printable(f'{self.uri}/{name}')} is damaged: {printable(reason)}; delete {printable(self.uri)} and "
                "prepare the data again with `marl-study data build SPEC`"
            ) from None

    def _read(self, name: str) -> bytes:
        return self.objects.read(self._name(name))

    def _write(self, name: str, content: bytes) -> None:
        self.objects.write(self._name(name), content)

    def _name(self, name: str) -> str:
        return f"{FOLDER}/{self.key}/{name}"


def _chunk_rows(number: int, prepared: PreparedClips, factors: Sequence[str]) -> pd.DataFrame:
    """Return a row for each entry of a chunk, with the columns of `PreparedSet.table`."""
    columns = [f"factor/{name}" for name in factors]
    rows = [
        clip._asdict() | {"chunk": number, "row": row} | dict(zip(columns, clip.values, strict=True))
        for row, clip in enumerate(prepared.clips)
    ]
    rows += [{"name": name, "rejected": reason, "chunk": number, "row": -1} for name, reason in prepared.rejected]
    return pd.DataFrame(rows, columns=[*_TEXT, *_WHOLE, *_REAL, *columns], dtype=object)


def _encode_table(rows: pd.DataFrame) -> bytes:
    """Encode rows as Parquet. A factor that is unknown in all rows gets the null type, which merges with any other."""
    fields = [(name, pa.string()) for name in _TEXT] + [(name, pa.int64()) for name in _WHOLE]
    fields += [(name, pa.float64()) for name in _REAL]
    for name in rows.columns[len(fields) :]:
        known = rows[name].dropna()
        is_text = known.map(lambda value: isinstance(value, str)).any()
        fields.append((name, pa.string() if is_text else pa.float64() if len(known) else pa.null()))
    return write_parquet(pa.Table.from_pandas(rows, pa.schema(fields), preserve_index=False), compression="zstd")


def _decode_table(content: bytes, factors: Sequence[str]) -> pd.DataFrame:
    """Decode the rows that `_encode_table` encoded."""
    names = [*_TEXT, *_WHOLE, *_REAL, *(f"factor/{name}" for name in factors)]
    try:
        table = read_parquet(content)
        if missing := [name for name in names if name not in table.column_names]:
            raise ValueError(f"has no column {missing[0]}")
        return table.select(names).to_pandas()
    except (pa.ArrowException, OSError) as error:
        raise ValueError(str(error).splitlines()[0]) from None


def _decode_log_mels(content: bytes, audio: AudioConfig) -> NDArray[np.float16]:
    """Decode the spectrograms of a chunk, float16 [n, F, T], from an npy file."""
    file, npy = io.BytesIO(content), np.lib.format
    try:
        read_header = npy.read_array_header_1_0 if npy.read_magic(file) == (1, 0) else npy.read_array_header_2_0
        shape, is_fortran, dtype = read_header(file)
    except (OSError, EOFError) as error:
        raise ValueError(str(error)) from None
    if dtype != np.float16 or is_fortran or len(shape) != 3 or shape[1:] != (audio.mel_bands, audio.frames):
        expected = f"[clips, {audio.mel_bands}, {audio.frames}]"
        raise ValueError(f"must be float16 of {expected}; got {dtype} of {list(shape)}")
    # NumPy allocates memory for the shape of the header before it reads the values.
    if math.prod(shape) * dtype.itemsize != len(content) - file.tell():
        raise ValueError(f"states {shape[0]:,} clips, and holds {len(content) - file.tell():,} bytes of values")
    decibels_nFT: NDArray[np.float16] = np.frombuffer(content, np.float16, offset=file.tell()).reshape(shape)
    if not np.isfinite(decibels_nFT).all():
        raise ValueError("holds values that are not finite")
    return decibels_nFT


def _decode_sounds(content: bytes, rows: Sequence[int], samples: int) -> NDArray[np.int16]:
    """Decode the clips at some rows of a chunk, int16 [n, samples], from FLAC."""
    samples_nS = np.empty((len(rows), samples), np.int16)
    try:
        with soundfile.SoundFile(io.BytesIO(content)) as sounds:
            for index, row in enumerate(rows):
                sounds.seek(int(row) * samples)
                samples_nS[index] = sounds.read(samples, dtype="int16")
    except soundfile.LibsndfileError as error:
        raise ValueError(str(error)) from None
    return samples_nS
