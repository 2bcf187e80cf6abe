"""The parts of a table in the store: how they are named, which of them count, and rows as the content of one."""

import io
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

__all__ = ["COMPACT_FROM", "Part", "compacted", "parquet_of", "rows_of", "that_count"]

COMPACT_FROM = 64
"""So many parts of one launch become one."""

_NAME = re.compile(r"(?P<table>[a-z]+)/(?P<launch>\d{4})-(?P<first>\d{6})(?:-(?P<last>\d{6}))?\.parquet")


@dataclass(frozen=True)
class Part:
    """One object of a table.

    Attributes:
        table: `trials` or `reports`.
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
    tables = [pq.read_table(io.BytesIO(content)) for content in contents]
    buffer = io.BytesIO()
    pq.write_table(pa.concat_tables(tables, promote_options="permissive"), buffer)
    return buffer.getvalue()


def rows_of(name: str, content: bytes) -> pa.Table:
    """What was written as the part of a name, with the `launch` that wrote it.

    Raises:
        ArrowException, ValueError or OSError: when it is damaged.
    """
    rows = pq.read_table(io.BytesIO(content))
    part = Part.of(name)
    if part is None or "trial" not in rows.column_names:
        raise ValueError("is no part of a table")
    return rows.append_column("launch", pa.array([part.launch] * len(rows), pa.int64()))


def _column_type(values: list[Any]) -> pa.DataType | None:
    """Whole numbers and text as they are; a column that holds nothing yet takes its type from other parts."""
    kinds = {type(value) for value in values if value is not None}
    if kinds == {int, float}:
        return pa.float64()
    return None
