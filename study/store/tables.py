"""The segments of a table in the store: how they are named, which of them count, and rows as the content of one."""

import io
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from study.spec import Baseline

__all__ = [
    "MIN_SEGMENTS_TO_COMPACT",
    "Segment",
    "SegmentId",
    "TableRows",
    "checked_table",
    "merge_segments",
    "read_segment",
    "schema_conflicts",
    "to_parquet",
    "with_kind",
    "without_compacted",
]

MIN_SEGMENTS_TO_COMPACT = 64
"""So many segments of one run become one."""

_REQUIRED = {"trials": ("trial",), "reports": ("trial", "seed", "step"), "log": ("line",)}
# Not known where they are missing.
_TIME = pa.timestamp("us", "UTC")
_EXPECTED = {"trials": {"state": pa.string(), "time": _TIME}, "reports": {"time": _TIME}, "log": {"time": _TIME}}
_WHOLE = ("trial", "seed", "step", "metric_version")
_TEXT = ("kind", "baseline", "state", "error", "sampler", "line")
_KNOWN = (*_WHOLE, *_TEXT, "time")
_NUMBERS = (pa.types.is_integer, pa.types.is_floating, pa.types.is_boolean)
_LAST_TIME_US = 253_000_000_000_000_000  # in the year 9987
_MOST_CELLS = 100_000_000
_MOST_COLUMNS = 10_000
_LONGEST_NAME = 300
_NAME = re.compile(r"(?P<table>[a-z]+)/(?P<run>\d{4})-(?P<first>\d{6})(?:-(?P<last>\d{6}))?\.parquet")


@dataclass(frozen=True)
class Segment:
    """One object of a table.

    Attributes:
        table: `trials`, `reports` or `log`.
        run: who wrote it.
        first: its place in what that run wrote.
        last: of a whole that was compacted from segments, the place of the last of them.
    """

    table: str
    run: int
    first: int
    last: int | None = None

    @classmethod
    def of(cls, name: str) -> "Segment | None":
        """The segment of a name; none when it is the name of no segment."""
        match = _NAME.fullmatch(name)
        if match is None:
            return None
        return cls(
            match["table"], int(match["run"]), int(match["first"]), int(match["last"]) if match["last"] else None
        )

    @property
    def name(self) -> str:
        """In the study."""
        last = "" if self.last is None else f"-{self.last:06d}"
        return f"{self.table}/{self.run:04d}-{self.first:06d}{last}.parquet"

    def covers(self, other: "Segment") -> bool:
        """Whether all rows of another segment are in this one."""
        return (
            self.last is not None
            and other is not self
            and other.run == self.run
            and self.first <= other.first
            and (other.last or other.first) <= self.last
        )


def without_compacted(segments: Iterable[Segment]) -> list[Segment]:
    """Segments of one table, in the order of their rows, without those that lie in the range of a compacted one."""
    segments = list(segments)
    wholes = [segment for segment in segments if segment.last is not None]
    return sorted(
        (segment for segment in segments if not any(whole.covers(segment) for whole in wholes)),
        key=lambda segment: (segment.run, segment.first),
    )


def with_kind(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row with the `kind` of what it describes: a trial by number, or a baseline by name."""
    if isinstance(baseline := row["trial"], Baseline):
        return {**row, "kind": "baseline", "baseline": baseline.value, "trial": None}
    return {**row, "kind": "trial"}


def to_parquet(rows: Sequence[Mapping[str, Any]]) -> bytes:
    """Rows as Parquet. Numbers of parameters and metrics keep one type in every segment, so that segments merge."""
    names = dict.fromkeys(name for row in rows for name in row)
    columns = {name: [row.get(name) for row in rows] for name in names}
    buffer = io.BytesIO()
    pq.write_table(pa.table({name: pa.array(values, _column_type(values)) for name, values in columns.items()}), buffer)
    return buffer.getvalue()


def merge_segments(contents: Sequence[bytes]) -> bytes:
    """The contents of several segments as one.

    Raises:
        ArrowException, ValueError or OSError: when one of them is damaged.
    """
    buffer = io.BytesIO()
    pq.write_table(pa.concat_tables(map(checked_table, contents), promote_options="permissive"), buffer)
    return buffer.getvalue()


def read_segment(name: str, content: bytes) -> pa.Table:
    """What was written as the segment of a name, with the `run` that wrote it.

    Raises:
        ArrowException, ValueError or OSError: when it is damaged, or holds what nobody writes there.
    """
    segment = Segment.of(name)
    rows = checked_table(content)
    if segment is None or segment.table not in _REQUIRED or "run" in rows.column_names:
        raise ValueError("is no segment of a table")
    if missing := [column for column in _REQUIRED[segment.table] if column not in rows.column_names]:
        raise ValueError(f"is no segment of a table: it lacks {', '.join(missing)}")
    if "trial" in _REQUIRED[segment.table]:
        is_gap = pc.and_(pc.is_null(rows.column("trial")), pc.invert(_is_baseline(rows)))
        if pc.any(is_gap).as_py():
            raise ValueError("column 'trial' has gaps")
    for place, field in enumerate(rows.schema):
        is_required = field.name in _REQUIRED[segment.table] and field.name != "trial"
        values = _checked(field.name, rows.column(place), is_required)
        rows = rows.set_column(place, field.name, values)
    for column, kind in _EXPECTED[segment.table].items():
        if column not in rows.column_names:
            rows = rows.append_column(column, pa.nulls(len(rows), kind))
    return rows.append_column("run", pa.array([segment.run] * len(rows), pa.int64()))


def checked_table(content: bytes) -> pa.Table:
    """What Parquet holds, with nothing but its rows: no metadata that has a say in how they are understood.

    Raises:
        ArrowException, ValueError or OSError: when it is damaged, or more than memory should have to hold. That is
            looked up before it is read: some hundred bytes of Parquet may stand for billions of rows.
    """
    file = pq.ParquetFile(io.BytesIO(content))
    footer = file.metadata
    rows = max(footer.num_rows, sum(footer.row_group(group).num_rows for group in range(footer.num_row_groups)))
    if rows * max(1, footer.num_columns) > _MOST_CELLS or footer.num_columns > _MOST_COLUMNS:
        raise ValueError(f"says that it has {rows:,} rows of {footer.num_columns:,} columns")
    table = file.read().replace_schema_metadata(None)
    names = table.column_names
    if len(set(names)) < len(names) or not all(name.isprintable() and len(name) <= _LONGEST_NAME for name in names):
        raise ValueError("has columns of the same name, or of names that nobody gives")
    return table


def schema_conflicts(segments: Mapping[str, pa.Table]) -> dict[str, Exception]:
    """Segments whose columns cannot be merged with those of the segments before them, with the reason."""
    schema: pa.Schema | None = None
    known: set[pa.Schema] = set()
    misfits: dict[str, Exception] = {}
    for name, rows in segments.items():
        if rows.schema in known:
            continue
        try:
            schema = (
                rows.schema if schema is None else pa.unify_schemas([schema, rows.schema], promote_options="permissive")
            )
        except pa.ArrowException as error:
            misfits[name] = ValueError(f"does not fit the segments before it: {error}")
        else:
            known.add(rows.schema)
    return misfits


def _checked(name: str, values: pa.ChunkedArray, is_required: bool) -> pa.ChunkedArray:
    """A column as readers may rely on it."""
    kind = values.type
    if is_required and values.null_count:
        raise ValueError(f"column {name!r} has gaps")
    if pa.types.is_null(kind):
        return values.cast(pa.int64()) if name == "trial" else values
    if name in _WHOLE and pa.types.is_integer(kind):
        return values.cast(pa.int64())
    if name == "time" and pa.types.is_timestamp(kind) and kind.tz is not None:
        values = values.cast(_TIME)
        first, last = pc.min_max(values.cast(pa.int64())).as_py().values()
        if first is not None and not (first >= 0 and last < _LAST_TIME_US):
            raise ValueError("column 'time' holds times of other centuries")
        return values
    # Metrics are numbers. What a later version writes beside what is known here may be text as well.
    may_be_text = name not in _KNOWN and ("/" not in name or name.startswith("config/"))
    if (name in _TEXT or may_be_text) and pa.types.is_string(kind):
        return values
    if name not in _KNOWN and any(is_kind(kind) for is_kind in _NUMBERS):
        return values
    raise ValueError(f"column {name!r} holds {kind}")


def _is_baseline(rows: pa.Table) -> pa.ChunkedArray:
    if "kind" not in rows.column_names:
        return pa.chunked_array([pa.array([False] * len(rows), pa.bool_())])
    return pc.fill_null(pc.equal(rows.column("kind").cast(pa.string()), "baseline"), False)


def _column_type(values: list[Any]) -> pa.DataType | None:
    """Whole numbers and text as they are; a column that holds nothing yet takes its type from other segments."""
    kinds = {type(value) for value in values if value is not None}
    if kinds == {int, float}:
        return pa.float64()
    return None


SegmentId = tuple[str, str]
"""Name of a segment, and what the store said of it, which is another one when an object of that name is replaced."""


class TableRows:
    """All rows of a table, in the order in which they were written. It never changes.

    Args:
        segments: their rows by what they are known by, in order.
    """

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
            if "baseline" not in rows.column_names:
                return pc.and_(_is_baseline(rows), False)
            is_named = pc.equal(rows.column("baseline").cast(pa.string()), baseline.value)
            return pc.and_(_is_baseline(rows), pc.fill_null(is_named, False))

        return self._selected(is_wanted, ["kind", "baseline", "trial"])

    def _selected(self, is_wanted: Callable[[pa.Table], pa.ChunkedArray], dropped: Sequence[str]) -> "TableRows":
        """Return the rows of which a function is true, without some columns."""
        segments = {}
        for segment, rows in self.segments.items():
            mask = is_wanted(rows)
            chosen = rows if pc.all(mask).as_py() else rows.filter(mask)
            segments[segment] = chosen.drop_columns([name for name in dropped if name in chosen.column_names])
        return TableRows(segments)

    def frame(self, columns: Sequence[str] | None = None, is_wanted: np.ndarray | None = None) -> pd.DataFrame:
        """Rows as a data frame. Types are the same whichever rows are wanted, but whole numbers with gaps are floats.

        Args:
            columns: which; those that no segment has are left out. All by default.
            is_wanted: for each row whether it is; all by default.
        """
        if not self.segments:
            return pd.DataFrame()
        chosen, schemas, begin = [], set(), 0
        for segment in self.segments.values():
            found = (
                segment
                if columns is None
                else segment.select([name for name in columns if name in segment.column_names])
            )
            if is_wanted is not None:
                wanted = is_wanted[begin : begin + len(segment)]
                found = found if wanted.all() else found.filter(pa.array(wanted)) if wanted.any() else found.slice(0, 0)
            begin += len(segment)
            if len(found) or found.schema not in schemas:  # without rows it has a say in the types
                chosen.append(found)
                schemas.add(found.schema)
        # Merged before pandas sees them: a column that is empty in one segment has its type from the others.
        return pa.concat_tables(chosen, promote_options="permissive").to_pandas()
