"""Recordings of one's own: sound files in a folder, and a table that says what each of them is."""

import csv
import hashlib
import io
import math
import os
import re
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from pathlib import Path, PurePosixPath
from typing import ClassVar, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, field_validator

from marl.data.audio_file import duration_s, read_mono
from marl.data.source import AudioDatasetConfig, Entry, Source, UnusableClipError, Value

__all__ = ["DATASET", "Folder", "digest_of"]

_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?|nan", re.IGNORECASE)
_HASHED_AT_ONCE = 1 << 20
_THREADS = 8
_LONGEST_REASON = 200
# Of a sample, or of a clip: what rounding takes.
_SLACK = 1e-3


class Folder(AudioDatasetConfig):
    """Any sound files that libsndfile reads, of any length, rate and number of channels.

    Attributes:
        path: the folder.
        table: CSV or Parquet file with a row for each sound file; its path is relative to the folder.
        factors: its columns that are factors. A column of numbers is a factor with numbers, any other one with words;
            an empty cell is not known.
        file: its column with the paths of the files, relative to the folder.
        group: its column that says which files belong together, such as a singer or a session; by default each file is
            on its own.
        clips_per_file: so many clips of each file, evenly spaced, fewer where they would overlap; with one it is the
            beginning.
        shortest_s: a file that is shorter gives no clip; one that is shorter than a clip is filled up with silence.
        split: as of all datasets; by default all clips of a group lie in one split.
    """

    description: ClassVar[str] = "recordings of the study's own"

    kind: Literal["folder"] = "folder"
    path: str
    table: str = "factors.csv"
    factors: tuple[str, ...] = Field(min_length=1)
    file: str = "file"
    group: str | None = None
    clips_per_file: int = Field(1, ge=1)
    shortest_s: float = Field(0.1, gt=0)
    split: str = "group"

    @field_validator("factors")
    @classmethod
    def _are_different(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(value)) < len(value):
            raise ValueError(f"must not name a column twice; got {list(value)}")
        return value

    @property
    def factor_names(self) -> tuple[str, ...]:
        """Names of the factors."""
        return self.factors

    def source(self) -> Source:
        """Return the source of the clips."""
        return _FolderSource(self)


DATASET = Folder


class _FolderSource:
    """See `marl.data.source.Source`."""

    def __init__(self, config: Folder) -> None:
        self.factor_names = config.factors
        self._config = config
        self._root = Path(config.path)
        if not self._root.is_dir():
            raise ValueError(f"path must be a folder; {config.path} is none")

    def digest(self) -> str:
        names = [row.file for row in self._rows()]
        return digest_of(self._root, [self._config.table, *names])

    def entries(self) -> list[Entry]:
        clips = self._config.clips_per_file
        return [
            Entry(
                row.file if clips == 1 else f"{row.file}, clip {number + 1} of {clips}",
                row.values,
                row.group,
                (row.file, number),
            )
            for row in self._rows()
            for number in range(clips)
        ]

    def waveforms(
        self, entries: Sequence[Entry], sample_rate: int, samples: int
    ) -> Iterable[NDArray[np.float32] | UnusableClipError]:
        for entry in entries:
            try:
                name, number = entry.locator
                yield self._waveform(name, number, sample_rate, samples)
            except UnusableClipError as reason:
                yield reason

    def _waveform(self, name: str, number: int, sample_rate: int, samples: int) -> NDArray[np.float32]:
        path, clip_s, shortest_s = self._root / name, samples / sample_rate, self._config.shortest_s
        start_s = 0.0
        if self._config.clips_per_file > 1:
            length_s = duration_s(path)
            clips = min(self._config.clips_per_file, max(1, math.floor(length_s / clip_s + _SLACK)))
            if number >= clips:
                raise UnusableClipError("the file is too short for so many clips")
            start_s = max(0.0, length_s - clip_s) * number / max(1, clips - 1)
        found = read_mono(path, sample_rate, start_s, max(clip_s, shortest_s - start_s))
        heard_s = start_s + (len(found) + _SLACK) / sample_rate
        if heard_s < shortest_s:
            raise UnusableClipError(f"too short: {heard_s:.3f} s, and {shortest_s:g} s are needed")
        return np.pad(found[:samples], (0, max(0, samples - len(found))))

    def _rows(self) -> "list[_Row]":
        """What the table says.

        Raises:
            ValueError: when it is no table, or says what cannot be.
        """
        config, path = self._config, self._root / self._config.table
        wanted = list(dict.fromkeys([config.file, *config.factors, *([config.group] if config.group else [])]))
        columns = _table(path, wanted)
        files = _files(self._root, path, columns[config.file])
        if not files:
            raise ValueError(f"{path} must have a row for each sound file; it has none")
        values = zip(*(_values(columns[name]) for name in config.factors), strict=True)
        groups = files
        if config.group:
            for file, group in zip(files, columns[config.group], strict=True):
                if group is None:
                    raise ValueError(
                        f"{path} must have an entry in column {config.group!r} for each file, as the group of each; "
                        f"{file!r} has none; fill it in, or take another `group`"
                    )
            groups = [str(group) for group in columns[config.group]]
        return [_Row(*row) for row in zip(files, values, groups, strict=True)]


class _Row(NamedTuple):
    """A file, as the table has it."""

    file: str
    values: tuple[Value, ...]
    group: str


def digest_of(root: Path, names: Sequence[str]) -> str:
    """SHA-256 of files by their names and contents; one that is not there counts as such."""
    digest = hashlib.sha256()
    with ThreadPoolExecutor(_THREADS) as threads:
        for name, content in zip(names, threads.map(lambda name: _digest(root / name), names), strict=True):
            digest.update(f"{len(name)} {name} {content}\n".encode())
    return digest.hexdigest()


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    try:
        if not path.is_file():  # a pipe would be waited for
            return "not there"
        with path.open("rb") as file:
            while block := file.read(_HASHED_AT_ONCE):
                digest.update(block)
    except OSError:
        return "not there"
    return digest.hexdigest()


def _table(path: Path, wanted: Sequence[str]) -> dict[str, list[object]]:
    """Columns of a table; `None` is an empty cell."""
    try:
        names, columns = _parquet(path) if path.suffix.lower() == ".parquet" else _csv(path)
    except FileNotFoundError:
        raise ValueError(f"table must be a CSV or Parquet file; {path} is not there") from None
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {_first_line(error.strerror or error)}") from None
    except UnicodeDecodeError:
        raise ValueError(f"{path} must be text in UTF-8; it is not; save it as that") from None
    except Exception as error:  # Parquet's reader has errors of many kinds
        raise ValueError(f"{path} is no table: {_first_line(error)}") from None
    for name in wanted:
        if names.count(name) != 1:
            there = _first_line(", ".join(map(repr, names)))
            times = "twice" if name in names else "not"
            raise ValueError(f"{path} must have a column {name!r}; it is there {times}; there are {there}")
    return {name: columns[names.index(name)] for name in wanted}


def _csv(path: Path) -> tuple[list[str], list[list[object]]]:
    # Pandas would rename columns, and take the first one for numbers of rows where a row is longer than the header.
    text = path.read_text(encoding="utf-8-sig")
    rows = list(csv.reader(io.StringIO(text, newline=""), strict=True))
    names = rows[0] if rows else []
    for number, row in enumerate(rows, start=1):
        if row and len(row) != len(names):
            raise ValueError(f"each row must have {len(names)} cells, as the first one; row {number} has {len(row)}")
    cells = [row for row in rows[1:] if row]
    return names, [[row[column] or None for row in cells] for column in range(len(names))]


def _parquet(path: Path) -> tuple[list[str], list[list[object]]]:
    import pandas as pd

    table = pd.read_parquet(path)
    columns = [table.iloc[:, column] for column in range(table.shape[1])]
    cells = [column.astype(object).where(column.notna() & (column.astype(str) != ""), None) for column in columns]
    return [str(name) for name in table.columns], [column.tolist() for column in cells]


def _files(root: Path, table: Path, cells: Sequence[object]) -> list[str]:
    """Paths in the folder, each as there is only one way to write it."""
    inside = os.path.realpath(root)
    found = dict[str, None]()
    for cell in cells:
        name = str(PurePosixPath(cell)) if isinstance(cell, str) else ""
        parts = PurePosixPath(name).parts
        if not parts or parts[0] == "/" or ".." in parts or "\0" in name:
            raise ValueError(f"{table}: a file must be a path in the folder, relative to it; got {cell!r}; correct it")
        if name in found:
            raise ValueError(f"{table} must have one row for each file; {name!r} is in two; take one out")
        if os.path.commonpath([inside, os.path.realpath(root / name)]) != inside:
            raise ValueError(
                f"{table}: a file must lie in the folder; {name!r} is a link that leads out; copy it there"
            )
        found[name] = None
    return list(found)


def _values(cells: Sequence[object]) -> list[Value]:
    """Numbers where all that is known are numbers, words otherwise."""
    known = [cell for cell in cells if cell is not None]
    if all(_is_number(cell) for cell in known):
        numbers = [None if cell is None else float(cell) for cell in cells]  # type: ignore[arg-type]
        return [number if number is not None and math.isfinite(number) else None for number in numbers]
    return [None if cell is None else str(cell) for cell in cells]


def _is_number(cell: object) -> bool:
    if isinstance(cell, str):  # Python itself would take "1_2" for twelve
        return _NUMBER.fullmatch(cell.strip()) is not None
    return isinstance(cell, int | float | Decimal | np.number) and not isinstance(cell, bool)


def _first_line(error: object) -> str:
    lines = str(error).splitlines() or [type(error).__name__]
    return lines[0][:_LONGEST_REASON]
