"""Tables of a study in the store: names and contents of their segments, and rows of a whole table."""

import io
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from study.spec import Baseline

Table = Literal["trials", "reports", "log"]

MIN_SEGMENTS_TO_COMPACT = 64
"""Number of segments of one run that are merged into one."""

_REQUIRED_COLUMNS = {"trials": ("trial",), "reports": ("trial", "seed", "step"), "log": ("line",)}
_TIME = pa.timestamp("us", "UTC")
# Columns that are null where a segment lacks them.
_OPTIONAL_COLUMNS = {"time": _TIME, "kind": pa.string(), "baseline": pa.string()}
_INTEGER_COLUMNS = ("trial", "seed", "step", "metric_version")
_TEXT_COLUMNS = ("kind", "baseline", "state", "error", "sampler", "line")
_TYPED_COLUMNS = (*_INTEGER_COLUMNS, *_TEXT_COLUMNS, "time")
_IS_NUMBER = (pa.types.is_integer, pa.types.is_floating, pa.types.is_boolean)
_MAX_TIME_US = 253_000_000_000_000_000  # in the year 9987
_MAX_CELLS = 100_000_000
_MAX_COLUMNS = 10_000
_MAX_NAME_LENGTH = 300
_NAME = re.compile(r"(?P<table>[a-z]+)/(?P<run>\d{4})-(?P<first>\d{6})(?:-(?P<last>\d{6}))?\.parquet")


@dataclass(frozen=True)
class Segment:
    """One object of a table: the segment `first` of a run, or its segments `first` to `last`, merged."""

    table: str
    run: int
    first: int
    last: int | None = None

    @classmethod
    def parse(cls, name: str) -> "Segment | None":
        """Return the segment of this name in the study, or None for other names."""
        match = _NAME.fullmatch(name)
        if match is None:
            return None
        last = int(match["last"]) if match["last"] else None
        return cls(match["table"], int(match["run"]), int(match["first"]), last)

    @property
    def name(self) -> str:
        """Name in the study."""
        last = "" if self.last is None else f"-{self.last:06d}"
        return f"{self.table}/{self.run:04d}-{self.first:06d}{last}.parquet"

    def covers(self, other: "Segment") -> bool:
        """Return whether the other segment was merged into this one."""
        return (
            self.last is not None
            and other is not self
            and other.run == self.run
            and self.first <= other.first
            and (other.last or other.first) <= self.last
        )


def without_compacted(segments: Iterable[Segment]) -> list[Segment]:
    """Return the segments of one table that were not merged into another one, in the order of their rows."""
    segments = list(segments)
    merged = [segment for segment in segments if segment.last is not None]
    return sorted(
        (segment for segment in segments if not any(other.covers(segment) for other in merged)),
        key=lambda segment: (segment.run, segment.first),
    )


def with_kind(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row with the column `kind`; the name of a baseline is moved from `trial` to `baseline`."""
    if isinstance(baseline := row["trial"], Baseline):
        return {**row, "kind": "baseline", "baseline": baseline.value, "trial": None}
    return {**row, "kind": "trial"}


def to_parquet(rows: Sequence[Mapping[str, Any]]) -> bytes:
    """Encode rows as Parquet. A column that mixes whole and other numbers becomes float, so that segments merge."""
    names = dict.fromkeys(name for row in rows for name in row)
    columns = {name: [row.get(name) for row in rows] for name in names}
    return write_parquet(pa.table({name: pa.array(values, _column_type(values)) for name, values in columns.items()}))


def merge_segments(contents: Sequence[bytes]) -> bytes:
    """Encode the rows of several segments as one; raise the same errors as `read_parquet`."""
    return write_parquet(pa.concat_tables(map(read_parquet, contents), promote_options="permissive"))


def write_parquet(table: pa.Table, compression: str = "snappy") -> bytes:
    """Encode a table as Parquet."""
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression=compression)
    return buffer.getvalue()


def read_segment(name: str, content: bytes) -> pa.Table:
    """Decode a segment, with a column `run` for the run that wrote it.

    It raises the same errors as `read_parquet`, and a ValueError if the columns do not fit the table.
    """
    segment = Segment.parse(name)
    rows = read_parquet(content)
    if segment is None or segment.table not in _REQUIRED_COLUMNS or "run" in rows.column_names:
        raise ValueError("is not a segment of a table")
    required = _REQUIRED_COLUMNS[segment.table]
    if missing := [column for column in required if column not in rows.column_names]:
        raise ValueError(f"is not a segment of a table: it has no column {', '.join(missing)}")
    optional = _OPTIONAL_COLUMNS | ({"state": pa.string()} if segment.table == "trials" else {})
    for index, field in enumerate(rows.schema):
        is_required = field.name in required and field.name != "trial"
        rows = rows.set_column(index, field.name, _checked_column(field.name, rows.column(index), is_required))
    for column, column_type in optional.items():
        if column not in rows.column_names:
            rows = rows.append_column(column, pa.nulls(len(rows), column_type))
    if "trial" in required and pc.any(pc.and_(pc.is_null(rows.column("trial")), pc.invert(_is_baseline(rows)))).as_py():
        raise ValueError("column 'trial' must have no gaps")
    return rows.append_column("run", pa.array([segment.run] * len(rows), pa.int64()))


def read_parquet(content: bytes) -> pa.Table:
    """Decode a Parquet file, without its metadata, which could change the types of columns.

    The numbers of rows and columns are checked before they are decoded: a few hundred bytes may hold billions of rows.

    Raises:
        ArrowException, ValueError or OSError: If the file is damaged, too large, or has unusual column names.
    """
    file = pq.ParquetFile(io.BytesIO(content))
    footer = file.metadata
    rows = max(footer.num_rows, sum(footer.row_group(group).num_rows for group in range(footer.num_row_groups)))
    if rows * max(1, footer.num_columns) > _MAX_CELLS or footer.num_columns > _MAX_COLUMNS:
        raise ValueError(f"is too large: {rows:,} rows of {footer.num_columns:,} columns")
    table = file.read().replace_schema_metadata(None)
    names = table.column_names
    if len(set(names)) < len(names):
        raise ValueError("must have columns of different names")
    if not all(name.isprintable() and len(name) <= _MAX_NAME_LENGTH for name in names):
        raise ValueError(f"must have column names of at most {_MAX_NAME_LENGTH} printable characters")
    return table


def schema_conflicts(segments: Mapping[str, pa.Table]) -> dict[str, Exception]:
    """Return the segments whose schema is incompatible with that of the segments before them, with the reason."""
    schema = pa.schema([])
    compatible: set[pa.Schema] = set()
    conflicts: dict[str, Exception] = {}
    for name, rows in segments.items():
        if rows.schema in compatible:
            continue
        try:
            schema = pa.unify_schemas([schema, rows.schema], promote_options="permissive")
        except pa.ArrowException as error:
            conflicts[name] = ValueError(f"is incompatible with the segments before it: {error}")
        else:
            compatible.add(rows.schema)
    return conflicts


def _checked_column(name: str, values: pa.ChunkedArray, is_required: bool) -> pa.ChunkedArray:
    """Return a column with the type that readers rely on."""
    column_type = values.type
    if is_required and values.null_count:
        raise ValueError(f"column {name!r} must have no gaps")
    if pa.types.is_null(column_type):
        return values.cast(pa.int64()) if name == "trial" else values
    if name in _INTEGER_COLUMNS and pa.types.is_integer(column_type):
        return values.cast(pa.int64())
    if name == "time" and pa.types.is_timestamp(column_type) and column_type.tz is not None:
        values = values.cast(_TIME)
        first, last = pc.min_max(values.cast(pa.int64())).as_py().values()
        if first is not None and not (first >= 0 and last < _MAX_TIME_US):
            raise ValueError("column 'time' must hold times from 1970 to 9987")
        return values
    # Metrics are numbers. Other columns, which a later version may have added, can be text.
    can_be_text = name not in _TYPED_COLUMNS and ("/" not in name or name.startswith("config/"))
    if (name in _TEXT_COLUMNS or can_be_text) and pa.types.is_string(column_type):
        return values
    if name not in _TYPED_COLUMNS and any(is_type(column_type) for is_type in _IS_NUMBER):
        return values
    raise ValueError(f"column {name!r} must not hold {column_type}")


def _is_baseline(rows: pa.Table) -> pa.ChunkedArray:
    return pc.fill_null(pc.equal(rows.column("kind").cast(pa.string()), "baseline"), False)


def _column_type(values: list[Any]) -> pa.DataType | None:
    """Return float for a column that mixes whole and other numbers; pyarrow infers all other types."""
    return pa.float64() if {type(value) for value in values if value is not None} == {int, float} else None


SegmentId = tuple[str, str]
"""Name and etag of a segment."""


class TableRows:
    """Rows of a table by segment, in the order of writing. It is immutable."""

    def __init__(self, segments: Mapping[SegmentId, pa.Table]) -> None:
        self.segments = dict(segments)

    def __len__(self) -> int:
        return sum(map(len, self.segments.values()))

    def of_trials(self) -> "TableRows":
        """Return the rows of trials."""
        return self._selected(lambda rows: pc.invert(_is_baseline(rows)), ["kind", "baseline"])

    def of_baseline(self, baseline: Baseline) -> "TableRows":
        """Return the rows of a baseline, which have no column `trial`."""

        def is_wanted(rows: pa.Table) -> pa.ChunkedArray:
            is_named = pc.equal(rows.column("baseline").cast(pa.string()), baseline.value)
            return pc.and_(_is_baseline(rows), pc.fill_null(is_named, False))

        return self._selected(is_wanted, ["kind", "baseline", "trial"])

    def frame(self, columns: Sequence[str] | None = None, is_wanted: np.ndarray | None = None) -> pd.DataFrame:
        """Return rows as a data frame, by default all rows and columns. Columns that no segment has are ignored.

        `is_wanted` is a mask of all rows. It does not change the types of columns, except that integers with gaps
        become floats.
        """
        if not self.segments:
            return pd.DataFrame()
        chosen, schemas, first = [], set(), 0
        for segment in self.segments.values():
            rows = segment
            if columns is not None:
                rows = segment.select([name for name in columns if name in segment.column_names])
            if is_wanted is not None:
                mask = is_wanted[first : first + len(segment)]
                rows = rows if mask.all() else rows.filter(pa.array(mask)) if mask.any() else rows.slice(0, 0)
            first += len(segment)
            if len(rows) or rows.schema not in schemas:  # a segment without rows still affects the types
                chosen.append(rows)
                schemas.add(rows.schema)
        # Merged before the conversion to pandas: a column that is null in one segment has the type of the others.
        return pa.concat_tables(chosen, promote_options="permissive").to_pandas()

    def _selected(self, is_wanted: Callable[[pa.Table], pa.ChunkedArray], dropped: Sequence[str]) -> "TableRows":
        """Return the rows for which a function returns true, without some columns."""
        segments = {}
        for segment, rows in self.segments.items():
            mask = is_wanted(rows)
            chosen = rows if pc.all(mask).as_py() else rows.filter(mask)
            segments[segment] = chosen.drop_columns([name for name in dropped if name in chosen.column_names])
        return TableRows(segments)
