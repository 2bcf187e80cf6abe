"""Prepared sets of clips: their layout in the store, and access to their clips.

    _data/<key>/set.json               metadata; written last, so a set that has it is complete
                clips.parquet          a row for each entry: factors, loudness and position, or why it was rejected
                log_mels/<chunk>.npy   spectrograms in dB, float16
                sounds/<chunk>.flac    clips of a chunk one after another, 16 bit
                made/<chunk>.parquet   rows of a finished chunk

The key is a hash of the sounds and of all settings that the set depends on.
"""

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ValidationError
from torch import Tensor

from marl.audio import AudioConfig
from marl.data import AudioDatasetConfig, Clips, Factor, split_clips
from marl.data.audio_dataset import PreparedClips, factor_from_column, waveforms_of
from study.datasets.chunks import FACTOR, clips_read, flac_of, log_mels_read, npy_of, rows_of, table_of, table_read
from study.errors import UserError
from study.formatting import printable
from study.storage import ObjectStore, TooLargeError

__all__ = ["FOLDER", "PreparedSet", "SetDocument", "key_of"]

FOLDER = "_data"
"""Folder of prepared sets in a store. Names of studies cannot begin with an underscore."""

_DOCUMENT, _TABLE = "set.json", "clips.parquet"
_DOCUMENT_LIMIT = 16 << 20
_CONCURRENT_READS = 16


class SetDocument(BaseModel, frozen=True):
    """Metadata of a prepared set, the content of `set.json`.

    Attributes:
        format: Version of the layout.
        data: Configuration of the data.
        audio: Configuration of the spectrograms.
        factors: Names of the factors.
        entries: Number of entries of the source.
        clips: Number of clips.
        created: When the set was completed.
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
    """Return the key of a set: a hash of the content of its files and of all settings except path and split."""
    settings = config.model_dump(mode="json", exclude={"split", "content", "path"})
    everything = {"format": 1, "data": settings, "audio": audio.model_dump(mode="json"), "digest": digest}
    return hashlib.sha256(json.dumps(everything, sort_keys=True).encode()).hexdigest()[:32]


@dataclass(frozen=True)
class PreparedSet:
    """A prepared set in a store.

    Attributes:
        objects: The store.
        key: Key of the set.
    """

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
        """Metadata of the set.

        Raises:
            UserError: If the set is missing or incomplete, or its metadata are damaged.
        """
        try:
            return SetDocument.model_validate_json(self.objects.read(self._name(_DOCUMENT), _DOCUMENT_LIMIT))
        except FileNotFoundError:
            raise UserError(
                f"{self.uri} is missing or incomplete; prepare the data with `marl-study data build SPEC`"
            ) from None
        except (ValidationError, TooLargeError) as error:
            raise self._damaged(_DOCUMENT, error) from None

    @cached_property
    def table(self) -> pd.DataFrame:
        """Table with a row for each entry.

        `name`, `group`, `factor/<name>`; `rejected`, the reason for a rejection, or null. Clips also have `content`,
        `loudness_db`, `peak`, `sounds_s`, `sum_db`, `square_db` as in `marl.data.audio_dataset.Clip`, and their
        position `chunk` and `row`.
        """
        try:
            return table_read(self.objects.read(self._name(_TABLE)), self.document.factors)
        except (ValueError, FileNotFoundError) as error:
            raise self._damaged(_TABLE, error) from None

    @cached_property
    def rows(self) -> pd.DataFrame:
        """Rows of `table` that are clips, in the order of the clips of a dataset."""
        return self.table[self.table["rejected"].isna()].reset_index(drop=True)

    @cached_property
    def factors_and_values(self) -> tuple[tuple[Factor, ...], Tensor]:
        """Factors, and the index of each clip's value, int64 [N, C].

        Raises:
            UserError: If a factor has fewer than two values.
        """
        try:
            found = [factor_from_column(name, _values(self.rows[f"{FACTOR}{name}"])) for name in self.document.factors]
        except ValueError as error:
            raise UserError(f"data: {error}") from None
        return tuple(factor for factor, _ in found), torch.stack([index_N for _, index_N in found], dim=1)

    def clips(self, split: str) -> Clips:
        """Return all clips on the CPU, without spectrograms.

        Args:
            split: Unit that is never divided between splits, see `marl.data.dataset.split_clips`.

        Raises:
            UserError: If the clips cannot be split.
        """
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
        found_nS = np.empty((len(chunk_n), samples), np.int16)
        for chunk in np.unique(chunk_n):
            name, here = _sounds(chunk), chunk_n == chunk
            try:
                found_nS[here] = clips_read(self.objects.read(self._name(name)), row_n[here].tolist(), samples)
            except (ValueError, FileNotFoundError) as error:
                raise self._damaged(name, error) from None
        return waveforms_of(found_nS)

    def log_mels(self) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float16]]]:
        """Yield indices into `rows` and their spectrograms in dB, float16 [n, F, T], chunk by chunk."""
        chunks = [int(chunk) for chunk in sorted(self.rows["chunk"].unique())]
        chunk_N, row_N = self.rows[["chunk", "row"]].to_numpy(dtype=np.int64).T
        for first in range(0, len(chunks), _CONCURRENT_READS):
            names = {chunk: _log_mels(chunk) for chunk in chunks[first : first + _CONCURRENT_READS]}
            try:
                contents = self.objects.read_all([self._name(name) for name in names.values()])
            except TooLargeError as error:
                raise self._damaged("log_mels", error) from None
            for chunk, name in names.items():
                clips = np.flatnonzero(chunk_N == chunk)
                try:
                    found = log_mels_read(contents[self._name(name)], self.document.audio)
                    yield clips, found[row_N[clips]]
                except (ValueError, KeyError, IndexError) as error:
                    raise self._damaged(name, error) from None

    def finished_chunks(self) -> set[int]:
        """Return the numbers of the finished chunks."""
        stems = (Path(name).stem for name in self.objects.names(self._name("made")))
        return {int(stem) for stem in stems if stem.isdecimal()}

    def write_chunk(self, number: int, made: PreparedClips, factors: Sequence[str], audio: AudioConfig) -> None:
        """Write a chunk. Its rows are written last and mark it as finished."""
        if made.clips:
            self.objects.write(self._name(_log_mels(number)), npy_of(made.decibels_NFT))
            self.objects.write(self._name(_sounds(number)), flac_of(made.samples_NS, audio.sample_rate))
        self.objects.write(self._name(f"made/{number:05d}.parquet"), table_of(rows_of(number, made, factors)))

    def complete(self, chunks: int, config: AudioDatasetConfig, audio: AudioConfig, factors: Sequence[str]) -> None:
        """Merge the rows of all chunks, reject duplicates with equal samples, and commit the set."""
        names = [self._name(f"made/{number:05d}.parquet") for number in range(chunks)]
        try:
            contents = self.objects.read_all(names)
            parts = [table_read(contents[name], factors) for name in names]
        except KeyError as error:
            raise UserError(
                f"{self.uri}: {error.args[0]} disappeared during preparation; run `marl-study data build SPEC` again"
            ) from None
        except ValueError as error:
            raise self._damaged("made", error) from None
        table = pd.concat([part.astype(object) for part in parts], ignore_index=True)
        table["rejected"] = _with_duplicates(table)
        self.objects.write(self._name(_TABLE), table_of(table))
        document = SetDocument(
            data=config.model_dump(mode="json", exclude={"content"}),
            audio=audio,
            factors=tuple(factors),
            entries=len(table),
            clips=int(table["rejected"].isna().sum()),
            created=datetime.now(UTC),
            writer=version("marl-study"),
        )
        self.objects.write(self._name(_DOCUMENT), document.model_dump_json(indent=1).encode())

    def _damaged(self, name: str, error: Exception) -> UserError:
        reason = "missing" if isinstance(error, FileNotFoundError | KeyError) else str(error).splitlines()[0]
        return UserError(
            f"{printable(f'{self.uri}/{name}')} is damaged: {printable(reason)}; delete {printable(self.uri)} and "
            "prepare the data again with `marl-study data build SPEC`"
        )

    def _name(self, name: str) -> str:
        return f"{FOLDER}/{self.key}/{name}"


def _log_mels(chunk: int) -> str:
    return f"log_mels/{chunk:05d}.npy"


def _sounds(chunk: int) -> str:
    return f"sounds/{chunk:05d}.flac"


def _values(column: pd.Series) -> list[str | float | None]:
    return [None if pd.isna(value) else value for value in column]


def _with_duplicates(table: pd.DataFrame) -> pd.Series:
    """Return the reason of each rejection; all but the first row with the same content are rejected."""
    first = table.dropna(subset=["content"]).drop_duplicates("content").set_index("content")["name"]
    of = table["content"].map(first)
    is_duplicate = table["rejected"].isna() & (of != table["name"])
    return table["rejected"].where(~is_duplicate, "same samples as " + of.astype(str))
