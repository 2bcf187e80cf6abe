"""The parts of a table in the store: how they are named, which of them count, and rows as the content of one."""

import io
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

__all__ = [
    "COMPACT_FROM",
    "Part",
    "PartId",
    "TableRows",
    "checked_table",
    "compacted",
    "fitting",
    "parquet_of",
    "rows_of",
    "that_count",
]

COMPACT_FROM = 64
"""So many parts of one launch become one."""

_REQUIRED = {"trials": ("trial",), "reports": ("trial", "seed", "step"), "log": ("line",)}
# Not known where they are missing.
_TIME = pa.timestamp("us", "UTC")
_EXPECTED = {"trials": {"state": pa.string(), "time": _TIME}, "reports": {"time": _TIME}, "log": {"time": _TIME}}
_WHOLE = ("trial", "seed", "step", "metric_version")
_TEXT = ("state", "error", "sampler", "line")
_KNOWN = (*_WHOLE, *_TEXT, "time")
_NUMBERS = (pa.types.is_integer, pa.types.is_floating, pa.types.is_boolean)
_LAST_TIME_US = 253_000_000_000_000_000  # in the year 9987
_MOST_CELLS = 100_000_000
_MOST_COLUMNS = 10_000
_LONGEST_NAME = 300
_NAME = re.compile(r"(?P<table>[a-z]+)/(?P<launch>\d{4})-(?P<first>\d{6})(?:-(?P<last>\d{6}))?\.parquet")


@dataclass(frozen=True)
class Part:
    """One object of a table.

    Attributes:
        table: `trials`, `reports` or `log`.
        launch: who wrote it.
        first: its place in what that launch wrote.
        last: of a whole that was compacted from parts, the place of the last of them.
    """

    table: str
    launch: int
    first: int
    last: int | None = None

    @classmethod
    def of(cls, name: str) -> "Part | None":
        """The part of a name; none when it is the name of no part."""
        match = _NAME.fullmatch(name)
        if match is None:
            return None
        return cls(
            match["table"], int(match["launch"]), int(match["first"]), int(match["last"]) if match["last"] else None
        )

    @property
    def name(self) -> str:
        """In the study."""
        last = "" if self.last is None else f"-{self.last:06d}"
        return f"{self.table}/{self.launch:04d}-{self.first:06d}{last}.parquet"

    def covers(self, other: "Part") -> bool:
        """Whether all rows of another part are in this one."""
        return (
            self.last is not None
            and other is not self
            and other.launch == self.launch
            and self.first <= other.first
            and (other.last or other.first) <= self.last
        )


def that_count(parts: Iterable[Part]) -> list[Part]:
    """Parts of one table, in the order of their rows, without those that lie in the range of a compacted one."""
    parts = list(parts)
    wholes = [part for part in parts if part.last is not None]
    return sorted(
        (part for part in parts if not any(whole.covers(part) for whole in wholes)),
        key=lambda part: (part.launch, part.first),
    )


def parquet_of(rows: Sequence[Mapping[str, Any]]) -> bytes:
    """Rows as Parquet. Numbers of parameters and metrics keep one type in every part, so that parts merge."""
    names = dict.fromkeys(name for row in rows for name in row)
    columns = {name: [row.get(name) for row in rows] for name in names}
    buffer = io.BytesIO()
    pq.write_table(pa.table({name: pa.array(values, _column_type(values)) for name, values in columns.items()}), buffer)
    return buffer.getvalue()


def compacted(contents: Sequence[bytes]) -> bytes:
    """The contents of several parts as one.

    Raises:
        ArrowException, ValueError or OSError: when one of them is damaged.
    """
    buffer = io.BytesIO()
    pq.write_table(pa.concat_tables(map(checked_table, contents), promote_options="permissive"), buffer)
    return buffer.getvalue()


def rows_of(name: str, content: bytes) -> pa.Table:
    """What was written as the part of a name, with the `launch` that wrote it.

    Raises:
        ArrowException, ValueError or OSError: when it is damaged, or holds what nobody writes there.
    """
    part = Part.of(name)
    rows = checked_table(content)
    if part is None or part.table not in _REQUIRED or "launch" in rows.column_names:
        raise ValueError("is no part of a table")
    if missing := [column for column in _REQUIRED[part.table] if column not in rows.column_names]:
        raise ValueError(f"is no part of a table: it lacks {', '.join(missing)}")
    for place, field in enumerate(rows.schema):
        values = _checked(field.name, rows.column(place), is_required=field.name in _REQUIRED[part.table])
        rows = rows.set_column(place, field.name, values)
    for column, kind in _EXPECTED[part.table].items():
        if column not in rows.column_names:
            rows = rows.append_column(column, pa.nulls(len(rows), kind))
    return rows.append_column("launch", pa.array([part.launch] * len(rows), pa.int64()))


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


def fitting(parts: Mapping[str, pa.Table]) -> dict[str, Exception]:
    """Parts whose columns cannot be merged with those of the parts before them, with the reason."""
    schema: pa.Schema | None = None
    known: set[pa.Schema] = set()
    misfits: dict[str, Exception] = {}
    for name, rows in parts.items():
        if rows.schema in known:
            continue
        try:
            schema = (
                rows.schema if schema is None else pa.unify_schemas([schema, rows.schema], promote_options="permissive")
            )
        except pa.ArrowException as error:
            misfits[name] = ValueError(f"does not fit the parts before it: {error}")
        else:
            known.add(rows.schema)
    return misfits


def _checked(name: str, values: pa.ChunkedArray, is_required: bool) -> pa.ChunkedArray:
    """A column as readers may rely on it."""
    kind = values.type
    if is_required and values.null_count:
        raise ValueError(f"column {name!r} has gaps")
    if pa.types.is_null(kind):
        return values
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


def _column_type(values: list[Any]) -> pa.DataType | None:
    """Whole numbers and text as they are; a column that holds nothing yet takes its type from other parts."""
    kinds = {type(value) for value in values if value is not None}
    if kinds == {int, float}:
        return pa.float64()
    return None


PartId = tuple[str, str]
"""Name of a part, and what the store said of it, which is another one when an object of that name is replaced."""


class TableRows:
    """All rows of a table, in the order in which they were written. It never changes.

    Args:
        parts: their rows by what they are known by, in order.
    """

    def __init__(self, parts: Mapping[PartId, pa.Table]) -> None:
        self.parts = dict(parts)

    def __len__(self) -> int:
        return sum(map(len, self.parts.values()))

    def frame(self, columns: Sequence[str] | None = None, is_wanted: np.ndarray | None = None) -> pd.DataFrame:
        """Rows as a data frame. Types are the same whichever rows are wanted, but whole numbers with gaps are floats.

        Args:
            columns: which; those that no part has are left out. All by default.
            is_wanted: for each row whether it is; all by default.
        """
        if not self.parts:
            return pd.DataFrame()
        chosen, schemas, begin = [], set(), 0
        for part in self.parts.values():
            found = part if columns is None else part.select([name for name in columns if name in part.column_names])
            if is_wanted is not None:
                wanted = is_wanted[begin : begin + len(part)]
                found = found if wanted.all() else found.filter(pa.array(wanted)) if wanted.any() else found.slice(0, 0)
            begin += len(part)
            if len(found) or found.schema not in schemas:  # without rows it has a say in the types
                chosen.append(found)
                schemas.add(found.schema)
        # Merged before pandas sees them: a column that is empty in one part has its type from the others.
        return pa.concat_tables(chosen, promote_options="permissive").to_pandas()
