"""Custom recordings: a folder of audio files, and a table of their factors."""

import contextlib
import csv
import hashlib
import io
import math
import os
import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from pathlib import Path, PurePosixPath
from typing import Annotated, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from marl.base_config import Distinct
from marl.data.audio_dataset import AudioDatasetConfig, Entry, UnusableClipError, Value
from marl.data.audio_file import duration_s, read_mono

__all__ = ["DATASET", "Folder", "digest_of"]

_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?|nan", re.IGNORECASE)
_THREADS = 8
_MAX_REASON_CHARS = 200
# Tolerance of durations for rounding, as a share of a sample or of a clip.
_TOLERANCE = 1e-3


class Folder(AudioDatasetConfig):
    """Configuration of custom recordings of any format, length, sample rate and number of channels."""

    description: ClassVar[str] = "custom recordings"

    kind: Literal["folder"] = "folder"
    """Custom recordings with a table of their factors."""
    path: str
    """Folder of the audio files. `marl-study` also takes the address of a bucket."""
    table: str = "factors.csv"
    """CSV or Parquet file with a row per audio file, relative to the folder."""
    factors: Annotated[tuple[str, ...], Distinct] = Field(min_length=1)
    """Columns of the table that are factors. A column whose known cells are all numbers has numbers, any other has
    words. An empty cell is unknown."""
    file: str = "file"
    """Column with the paths of the audio files, relative to the folder."""
    group: str | None = None
    """Column with the group of each file, such as a singer or a session; by default each file is a group."""
    clips_per_file: int = Field(1, ge=1)
    """Maximum number of clips of a file. They are evenly spaced and do not overlap; a single clip is the start of the
    file."""
    shortest_s: float = Field(0.1, gt=0)
    """Minimum duration of a file, seconds. A file that is shorter than a clip is padded with silence."""
    split: str = "group"
    """Unit that is in one split only: `clip`, `combination` (clips with the same value of every factor), `group` or the
    name of a factor. By default no two splits share a group."""

    @property
    def factor_names(self) -> tuple[str, ...]:
        """Names of the factors."""
        return self.factors

    def digest(self) -> str:
        """Return the SHA-256 of the table and of the audio files in it."""
        return digest_of(Path(self.path), [self.table, *(file for file, _, _ in self._rows())])

    def entries(self) -> list[Entry]:
        """Return the entries of each row of the table."""
        clips = self.clips_per_file
        suffixes = [""] if clips == 1 else [f", clip {number + 1} of {clips}" for number in range(clips)]
        return [
            Entry(f"{file}{suffix}", values, group, (file, number))
            for file, values, group in self._rows()
            for number, suffix in enumerate(suffixes)
        ]

    def waveform(self, entry: Entry, sample_rate: int, samples: int) -> NDArray[np.float32]:
        """Return the waveform of a clip of a file."""
        file, number = entry.locator
        path, clip_s, start_s = Path(self.path, file), samples / sample_rate, 0.0
        if self.clips_per_file > 1:
            length_s = duration_s(path)
            clips = min(self.clips_per_file, max(1, math.floor(length_s / clip_s + _TOLERANCE)))
            if number >= clips:
                raise UnusableClipError(f"the file is too short for {self.clips_per_file} clips")
            start_s = max(0.0, length_s - clip_s) * number / max(1, clips - 1)
        waveform = read_mono(path, sample_rate, start_s, max(clip_s, self.shortest_s - start_s))
        read_s = start_s + (len(waveform) + _TOLERANCE) / sample_rate
        if read_s < self.shortest_s:
            raise UnusableClipError(f"too short: must have at least {self.shortest_s:g} s; got {read_s:.3f} s")
        return np.pad(waveform[:samples], (0, max(0, samples - len(waveform))))

    def _rows(self) -> list[tuple[str, tuple[Value, ...], str]]:
        """Return file, values and group of each row of the table."""
        if not Path(self.path).is_dir():
            raise ValueError(f"path must be a folder; got {self.path}")
        path = Path(self.path, self.table)
        columns = _table(path, [self.file, *self.factors, *([self.group] if self.group else [])])
        files = _files(Path(self.path), path, columns[self.file])
        if not files:
            raise ValueError(f"{path} must have a row for each audio file; it has none")
        values = zip(*(_values(columns[name]) for name in self.factors), strict=True)
        groups: Sequence[object] = columns[self.group] if self.group else files
        if None in groups:
            raise ValueError(
                f"{path} must have a group in column {self.group!r} for each file; {files[groups.index(None)]!r} has "
                "none; fill it in, or change data.group"
            )
        return list(zip(files, values, map(str, groups), strict=True))


DATASET = Folder


def digest_of(root: Path, names: Sequence[str]) -> str:
    """Return the SHA-256 of the names and contents of files; a missing file has a fixed content."""
    digest = hashlib.sha256()
    with ThreadPoolExecutor(_THREADS) as threads:
        for name, content in zip(names, threads.map(lambda name: _digest(root / name), names), strict=True):
            digest.update(f"{len(name)} {name} {content}\n".encode())
    return digest.hexdigest()


def _digest(path: Path) -> str:
    with contextlib.suppress(OSError):
        if path.is_file():  # reading a pipe would block
            with path.open("rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest()
    return "not there"


def _table(path: Path, names: Sequence[str]) -> dict[str, list[object]]:
    """Return the named columns of a table; an empty cell is `None`."""
    try:
        header, columns = _parquet(path) if path.suffix.lower() == ".parquet" else _csv(path)
    except FileNotFoundError:
        raise ValueError(f"table must be a CSV or Parquet file; {path} does not exist") from None
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {_first_line(error.strerror or error)}") from None
    except UnicodeDecodeError:
        raise ValueError(f"{path} must be encoded in UTF-8") from None
    except Exception as error:  # Parquet's reader raises errors of many types
        raise ValueError(f"{path} is not a table: {_first_line(error)}") from None
    for name in names:
        if header.count(name) > 1:
            raise ValueError(f"{path} must have one column {name!r}; it has it twice")
        if name not in header:
            existing = _first_line(", ".join(map(repr, header)))
            raise ValueError(f"{path} must have a column {name!r}; it has {existing}")
    return {name: columns[header.index(name)] for name in names}


def _csv(path: Path) -> tuple[list[str], list[list[object]]]:
    # Pandas would rename columns, and use the first one as an index if a row is longer than the header.
    text = path.read_text(encoding="utf-8-sig")
    rows = list(csv.reader(io.StringIO(text, newline=""), strict=True))
    header = rows[0] if rows else []
    for number, row in enumerate(rows, start=1):
        if row and len(row) != len(header):
            raise ValueError(f"each row must have {len(header)} cells, like the first one; row {number} has {len(row)}")
    cells = [row for row in rows[1:] if row]
    return header, [[row[column] or None for row in cells] for column in range(len(header))]


def _parquet(path: Path) -> tuple[list[str], list[list[object]]]:
    import pandas as pd

    table = pd.read_parquet(path)
    columns = [table.iloc[:, column] for column in range(table.shape[1])]
    cells = [column.astype(object).where(column.notna() & (column.astype(str) != ""), None) for column in columns]
    return [str(name) for name in table.columns], [column.tolist() for column in cells]


def _files(root: Path, table: Path, cells: Sequence[object]) -> list[str]:
    """Return the paths in the cells of a table without `.` and repeated slashes, in the order of the rows.

    Raises:
        ValueError: If a path is not relative to the folder, leads out of it, or is in two rows.
    """
    folder = os.path.realpath(root)
    files = dict[str, None]()
    for cell in cells:
        name = str(PurePosixPath(cell)) if isinstance(cell, str) else ""
        parts = PurePosixPath(name).parts
        if not parts or parts[0] == "/" or ".." in parts or "\0" in name:
            raise ValueError(f"{table}: a file must be a path relative to the folder and in it; got {cell!r}")
        if name in files:
            raise ValueError(f"{table} must have one row for each file; {name!r} has two; delete one")
        if os.path.commonpath([folder, os.path.realpath(root / name)]) != folder:
            raise ValueError(f"{table}: a file must be in the folder; {name!r} is a link to elsewhere; copy the file")
        files[name] = None
    return list(files)


def _values(cells: Sequence[object]) -> list[Value]:
    """Return numbers if all known cells are numbers, words otherwise."""
    if all(_is_number(cell) for cell in cells if cell is not None):
        numbers = [math.nan if cell is None else float(cell) for cell in cells]  # type: ignore[arg-type]
        return [number if math.isfinite(number) else None for number in numbers]
    return [None if cell is None else str(cell) for cell in cells]


def _is_number(cell: object) -> bool:
    if isinstance(cell, str):  # Python itself would read "1_2" as twelve
        return _NUMBER.fullmatch(cell.strip()) is not None
    return isinstance(cell, int | float | Decimal | np.number) and not isinstance(cell, bool)


def _first_line(error: object) -> str:
    lines = str(error).splitlines() or [type(error).__name__]
    return lines[0][:_MAX_REASON_CHARS]
