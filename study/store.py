"""The layout of a study in the store: what is written where, and how it is read back.

Objects are written whole and never changed, except a launch's own heartbeat. A row of `trials/` is the commit: what it
names was written before it. Whatever cannot be read is named in a warning and left out; nothing that is read is
executed.
"""

import hashlib
import io
import json
import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel, ValidationError

from study.errors import UserError
from study.objects import Objects
from study.spec import Spec, explain

__all__ = ["Checkpoint", "Document", "StudyStore", "Table", "UnreadableObject", "list_studies"]

Table = Literal["trials", "reports"]

_DOCUMENT = "study.json"
_RECORD = "replicate.json"
_PART = re.compile(r"(?P<launch>\d{4})-(?P<first>\d{6})(?:-(?P<last>\d{6}))?\.parquet")
_STEP = re.compile(rf"/(\d+)/{re.escape(_RECORD)}$")
_COMPACT_FROM = 64  # parts of one launch
_READ_ATTEMPTS = 3


class UnreadableObject(UserWarning):
    """Something in the store is half-written or corrupt; it was left out."""


class Document(BaseModel, frozen=True):
    """`study.json`: written once, when the study begins.

    Attributes:
        format: of the store.
        spec: resolved, every default filled in.
        stack: how wide stacks are, as `study.configuration.StackPlan`.
        factors: names of the data's factors.
        created: when.
    """

    format: Literal[1] = 1
    spec: Spec
    stack: dict[str, Any]
    factors: tuple[str, ...]
    created: datetime


@dataclass(frozen=True)
class Checkpoint:
    """A replicate at one step.

    Attributes:
        step: steps trained.
        files: content by name, verified against their SHA-256.
        record: what else the store knows of it: the trial's parameters and the replicate's reports so far.
    """

    step: int
    files: dict[str, bytes]
    record: dict[str, Any]


class StudyStore:
    """One study in the store.

    Args:
        objects: the store.
        name: of the study.
    """

    def __init__(self, objects: Objects, name: str) -> None:
        self.objects = objects
        self.name = name

    @property
    def uri(self) -> str:
        """Where the study is."""
        return f"{self.objects.uri}/{self.name}"

    def exists(self) -> bool:
        """Whether there is a study of this name."""
        return bool(self.objects.names(f"{self.name}/{_DOCUMENT}"))

    def create(self, document: Document) -> None:
        """Begin the study."""
        self._write(_DOCUMENT, document.model_dump_json(indent=1, exclude_none=True).encode())

    def document(self) -> Document:
        """How the study began.

        Raises:
            UserError: when there is no such study, or its document is damaged.
        """
        try:
            content = self._read(_DOCUMENT)
        except FileNotFoundError:
            known = ", ".join(list_studies(self.objects)) or "none"
            raise UserError(f"no study {self.name!r} in {self.objects.uri}; there are: {known}") from None
        try:
            return Document.model_validate_json(content)
        except ValidationError as error:
            raise UserError(f"{self.uri}/{_DOCUMENT} is damaged: {explain(error, Document)}") from None

    def delete(self) -> None:
        """Delete everything of the study."""
        self.objects.delete(self.name)

    def write_launch(self, number: int, content: Mapping[str, Any]) -> None:
        """Write or renew the object of a launch."""
        self._write(f"launches/{number:04d}.json", json.dumps(content, indent=1).encode())

    def launches(self) -> dict[int, dict[str, Any]]:
        """The launches so far, by number."""
        found = {}
        for name in self._names("launches/"):
            match = re.fullmatch(r"launches/(\d{4})\.json", name)
            if not match:
                continue
            try:
                found[int(match[1])] = _json_object(self._read(name))
            except (ValueError, FileNotFoundError) as error:
                self._warn(name, error)
        return found

    def append(self, table: Table, launch: int, sequence: int, rows: Sequence[Mapping[str, Any]]) -> None:
        """Write rows as one part of a table."""
        self._write(f"{table}/{launch:04d}-{sequence:06d}.parquet", _parquet(rows))

    def compact(self, table: Table, launch: int) -> None:
        """Put the parts of one launch into one, when they have become many.

        A reader that sees the whole and a part of it counts nothing twice, because the whole names the range it holds.
        """
        parts = [part for part in self._parts(table) if part.launch == launch and part.last is None]
        if len(parts) < _COMPACT_FROM:
            return
        try:
            tables = [pq.read_table(io.BytesIO(self._read(part.name))) for part in parts]
        except (pa.ArrowException, ValueError, OSError):
            return  # a damaged part stays as it is, to be named by whoever reads
        buffer = io.BytesIO()
        pq.write_table(pa.concat_tables(tables, promote_options="permissive"), buffer)
        self._write(f"{table}/{launch:04d}-{parts[0].first:06d}-{parts[-1].first:06d}.parquet", buffer.getvalue())
        for part in parts:
            self.objects.delete(f"{self.name}/{part.name}")

    def read(self, table: Table) -> pd.DataFrame:
        """All rows of a table, in the order in which they were written; `launch` says by whom."""
        for _ in range(_READ_ATTEMPTS):
            try:
                parts = [rows for part in self._parts(table) if (rows := self._rows(part)) is not None]
            except FileNotFoundError:  # compacted between listing and reading: list again
                continue
            # Merged before pandas sees them: a column that is empty in one part has its type from the others.
            return pa.concat_tables(parts, promote_options="permissive").to_pandas() if parts else pd.DataFrame()
        raise UserError(f"{self.uri}/{table} changes faster than it can be read; try again")

    def write_checkpoint(
        self, trial: int, seed: int, step: int, files: Mapping[str, bytes], record: Mapping[str, Any]
    ) -> None:
        """Write a checkpoint, the record last, without which it is none; then delete the replicate's earlier ones."""
        folder = f"checkpoints/{trial}/{seed}/{step}"
        for name, content in files.items():
            self._write(f"{folder}/{name}", content)
        hashes = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
        self._write(f"{folder}/{_RECORD}", json.dumps({**record, "sha256": hashes}).encode())
        self.delete_earlier_checkpoints(trial, seed, step)

    def delete_earlier_checkpoints(self, trial: int, seed: int, step: int) -> None:
        """Delete a replicate's checkpoints before a step. Later ones are a newer launch's."""
        for name in self._names(f"checkpoints/{trial}/{seed}/"):
            if int(name.split("/")[3]) < step:
                self.objects.delete(f"{self.name}/{name}")

    def latest_checkpoint(self, trial: int, seed: int) -> Checkpoint | None:
        """The newest whole checkpoint of a replicate; damaged ones are named in a warning and passed over."""
        folder = f"checkpoints/{trial}/{seed}"
        steps = {int(match[1]) for name in self._names(f"{folder}/") if (match := _STEP.search(name))}
        for step in sorted(steps, reverse=True):
            try:
                return self._checkpoint(f"{folder}/{step}", step)
            except (ValueError, KeyError, FileNotFoundError) as error:
                self._warn(f"{folder}/{step}", error)
        return None

    def write_latents(self, trial: int, seed: int, columns: Mapping[str, Any]) -> None:
        """Write a sample of a replicate's latents, with the factors of the clips."""
        buffer = io.BytesIO()
        pq.write_table(pa.table(dict(columns)), buffer)
        self._write(f"latents/{trial}-{seed}.parquet", buffer.getvalue())

    def _checkpoint(self, folder: str, step: int) -> Checkpoint:
        record = _json_object(self._read(f"{folder}/{_RECORD}"))
        files = {}
        for name, expected in record["sha256"].items():
            if "/" in name:
                raise ValueError(f"{name!r} is no name of a file")
            files[name] = self._read(f"{folder}/{name}")
            if hashlib.sha256(files[name]).hexdigest() != expected:
                raise ValueError(f"{name} is not what was written: its SHA-256 differs")
        return Checkpoint(step, files, record)

    def _parts(self, table: Table) -> list["_Part"]:
        """The parts that count, in order: those that lie in the range of a compacted one do not."""
        parts = []
        for name in self._names(f"{table}/"):
            match = _PART.fullmatch(name.removeprefix(f"{table}/"))
            if match is None:
                self._warn(name, ValueError("is no part of a table"))
                continue
            last = match["last"]
            parts.append(_Part(name, int(match["launch"]), int(match["first"]), int(last) if last else None))
        wholes = [part for part in parts if part.last is not None]
        return sorted(
            (part for part in parts if not any(whole.covers(part) for whole in wholes)),
            key=lambda part: (part.launch, part.first),
        )

    def _rows(self, part: "_Part") -> pa.Table | None:
        content = self._read(part.name)
        try:
            rows = pq.read_table(io.BytesIO(content))
            return rows.append_column("launch", pa.array([part.launch] * len(rows), pa.int64()))
        except (pa.ArrowException, ValueError, OSError) as error:
            self._warn(part.name, error)
            return None

    def _names(self, prefix: str) -> list[str]:
        return [name.removeprefix(f"{self.name}/") for name in self.objects.names(f"{self.name}/{prefix}".rstrip("/"))]

    def _read(self, name: str) -> bytes:
        return self.objects.read(f"{self.name}/{name}")

    def _write(self, name: str, content: bytes) -> None:
        self.objects.write(f"{self.name}/{name}", content)

    def _warn(self, name: str, error: Exception) -> None:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        warnings.warn(f"{self.uri}/{name} was left out: {reason}", UnreadableObject, stacklevel=3)


def list_studies(objects: Objects) -> list[str]:
    """Names of the studies in a store."""
    return [name for name in objects.folders() if objects.names(f"{name}/{_DOCUMENT}")]


@dataclass(frozen=True)
class _Part:
    name: str
    launch: int
    first: int
    last: int | None

    def covers(self, other: "_Part") -> bool:
        return (
            self.last is not None
            and other is not self
            and other.launch == self.launch
            and self.first <= other.first
            and (other.last or other.first) <= self.last
        )


def _json_object(content: bytes) -> dict[str, Any]:
    value = json.loads(content)
    if not isinstance(value, dict):
        raise ValueError("is no JSON object")
    return value


def _parquet(rows: Sequence[Mapping[str, Any]]) -> bytes:
    """Rows as Parquet. Numbers of parameters and metrics keep one type in every part, so that parts merge."""
    names = dict.fromkeys(name for row in rows for name in row)
    columns = {name: [row.get(name) for row in rows] for name in names}
    buffer = io.BytesIO()
    pq.write_table(pa.table({name: pa.array(values, _column_type(values)) for name, values in columns.items()}), buffer)
    return buffer.getvalue()


def _column_type(values: list[Any]) -> pa.DataType | None:
    """Whole numbers and text as they are; a column that holds nothing yet takes its type from other parts."""
    kinds = {type(value) for value in values if value is not None}
    if kinds == {int, float}:
        return pa.float64()
    return None
