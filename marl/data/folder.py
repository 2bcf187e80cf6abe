"""Recordings of one's own: sound files in a folder, and a table that says what each of them is."""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, field_validator

from marl.data.recording import duration_s, read_mono
from marl.data.source import Entry, Sounds, Source, Unusable, Value

__all__ = ["Folder", "digest_of", "source"]

_HASHED_AT_ONCE = 1 << 20
_THREADS = 8


class Folder(Sounds):
    """Any sound files that libsndfile reads, of any length, rate and number of channels.

    Attributes:
        path: the folder.
        table: CSV or Parquet file with a row for each sound file; its path is relative to the folder.
        factors: its columns that are factors. A column of numbers is a factor with numbers, any other one with words;
            an empty cell is not known.
        file: its column with the paths of the files, relative to the folder.
        group: its column that says which files belong together, such as a singer or a session; by default each file is
            on its own.
        clips_per_file: so many clips of each file, evenly spaced; with one it is the beginning.
        shortest_s: a file that is shorter gives no clip; one that is shorter than a clip is filled up with silence.
        split: as of all datasets; by default all clips of a group lie in one split.
    """

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


def source(config: Folder) -> Source:
    """Where the clips come from."""
    return _FolderSource(config)


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
    ) -> Iterable[NDArray[np.float32] | Unusable]:
        for entry in entries:
            try:
                name, number = entry.place
                yield self._waveform(name, number, sample_rate, samples)
            except Unusable as reason:
                yield reason

    def _waveform(self, name: str, number: int, sample_rate: int, samples: int) -> NDArray[np.float32]:
        path, clip_s, clips = self._root / name, samples / sample_rate, self._config.clips_per_file
        if not path.resolve().is_relative_to(self._root.resolve()):
            raise Unusable("leads out of the folder")
        start_s = 0.0
        if clips > 1:
            last_s = duration_s(path) - clip_s
            if number > 0 and last_s < number * clip_s:
                raise Unusable("the file is too short for so many clips")
            start_s = max(0.0, last_s) * number / (clips - 1)
        found = read_mono(path, sample_rate, start_s, clip_s)
        if len(found) < self._config.shortest_s * sample_rate:
            raise Unusable(f"too short: {len(found) / sample_rate:.3f} s, and {self._config.shortest_s:g} s are needed")
        return np.pad(found, (0, samples - len(found)))

    def _rows(self) -> "list[_Row]":
        """What the table says.

        Raises:
            ValueError: when it is no table, or says what cannot be.
        """
        import pandas as pd  # a table may be a Parquet file

        config, path = self._config, self._root / self._config.table
        try:
            if path.suffix == ".parquet":
                table = pd.read_parquet(path)
            else:
                table = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8-sig")
        except FileNotFoundError:
            raise ValueError(f"table must be a file in {config.path}; {config.table} is not there") from None
        except (ValueError, OSError) as error:  # what pandas and pyarrow raise are of these
            raise ValueError(f"{path} is no table: {str(error).splitlines()[0]}") from None
        wanted = [config.file, *config.factors, *([config.group] if config.group else [])]
        for name in wanted:
            if name not in table:
                raise ValueError(f"{path} has no column {name!r}; there are {', '.join(map(repr, table.columns))}")
        if table.empty:
            raise ValueError(f"{path} has no rows")
        files = [str(name) for name in table[config.file]]
        seen = set[str]()
        for name in files:
            if name in seen:
                raise ValueError(f"{path} has {name!r} in two rows; a file has one")
            seen.add(name)
            parts = PurePosixPath(name).parts
            if not parts or parts[0] == "/" or ".." in parts:
                raise ValueError(f"{path}: a file must lie in the folder; got {name!r}")
        columns = [_values(list(table[name])) for name in config.factors]
        groups = [str(group) for group in table[config.group]] if config.group else files
        values = zip(*columns, strict=True)
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
        with path.open("rb") as file:
            while block := file.read(_HASHED_AT_ONCE):
                digest.update(block)
    except OSError:
        return "not there"
    return digest.hexdigest()


def _values(cells: Sequence[object]) -> list[Value]:
    """Numbers where all that is known are numbers, words otherwise."""
    known = [None if cell is None or cell != cell or cell == "" else cell for cell in cells]
    try:
        numbers = [None if cell is None else float(cell) for cell in known]  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return [None if cell is None else str(cell) for cell in known]
    return list(_finite(numbers))


def _finite(numbers: Sequence[float | None]) -> Iterator[float | None]:
    for number in numbers:
        yield number if number is not None and np.isfinite(number) else None
