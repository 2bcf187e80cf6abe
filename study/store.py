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
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, TypeVar

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import ValidationError

from study.cache import StudyCache
from study.document import Document
from study.errors import UserError
from study.objects import Objects
from study.parts import COMPACT_FROM, Part, compacted, parquet_of, rows_of, that_count
from study.spec import explain
from study.table_rows import TableRows

__all__ = ["Checkpoint", "Document", "StudyStore", "Table", "UnreadableObject", "list_studies"]

Table = Literal["trials", "reports"]
_Value = TypeVar("_Value")

_DOCUMENT = "study.json"
_BASELINES = "baselines.json"
_RECORD = "replicate.json"
_STEP = re.compile(rf"/(\d+)/{re.escape(_RECORD)}$")
_LAUNCH = re.compile(r"launches/\d{4}\.json")
_READ_ATTEMPTS = 3


class UnreadableObject(UserWarning):
    """Something in the store is half-written or corrupt; it was left out."""


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
        cache: for a process that reads the study again and again. Looking at launches and tables then takes a request
            for each of these three folders (or for each thousand objects in one; a table has one more for every 64
            parts, which is what comes in five minutes at most), and one for each object that is new, replaced or
            damaged, however many trials there are.

    Attributes:
        cache: the same.
    """

    def __init__(self, objects: Objects, name: str, cache: StudyCache | None = None) -> None:
        self.objects = objects
        self.name = name
        self.cache = cache

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
        stamps = {name: stamp for name, stamp in self._stamps("launches").items() if _LAUNCH.fullmatch(name)}
        found = self._kept("launches", stamps, lambda _, content: _json_object(content))
        return {int(Path(name).stem): launch for name, launch in self._readable(found)}

    def write_baselines(self, content: Mapping[str, Any]) -> None:
        """Write what models score that a study compares its trials with; `study.baselines` says what."""
        self._write(_BASELINES, json.dumps(content, indent=1, allow_nan=False).encode())

    def baselines(self) -> dict[str, Any] | None:
        """What was written of baselines; none when nothing was, or it is damaged."""
        try:
            found = _json_object(self._read(_BASELINES))
            if not all(isinstance(value, int | float) for value in found["untrained"].values()):
                raise ValueError("holds values that are no numbers")
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, AttributeError) as error:
            self._warn(_BASELINES, error)
            return None
        return found

    def append(self, table: Table, launch: int, sequence: int, rows: Sequence[Mapping[str, Any]]) -> None:
        """Write rows as one part of a table."""
        self._write(Part(table, launch, sequence).name, parquet_of(rows))

    def compact(self, table: Table, launch: int) -> None:
        """Put the parts of one launch into one, when they have become many.

        A reader that sees the whole and a part of it counts nothing twice, because the whole names the range it holds.
        """
        known = that_count(part for part in map(Part.of, self._names(f"{table}/")) if part)
        parts = [part for part in known if part.launch == launch and part.last is None]
        if len(parts) < COMPACT_FROM:
            return
        contents = self._read_all([part.name for part in parts])
        try:
            content = compacted([contents[part.name] for part in parts])
        except (pa.ArrowException, ValueError, OSError, KeyError):
            return  # a damaged part stays as it is, to be named by whoever reads
        self._write(Part(table, launch, parts[0].first, parts[-1].first).name, content)
        for part in parts:
            self.objects.delete(f"{self.name}/{part.name}")

    def read(self, table: Table) -> pd.DataFrame:
        """All rows of a table, in the order in which they were written; `launch` says by whom."""
        return self.rows(table).frame()

    def rows(self, table: Table) -> TableRows:
        """The same, not yet as a data frame."""
        for _ in range(_READ_ATTEMPTS):
            stamps = self._stamps(table)
            parts = that_count(part for part in map(Part.of, stamps) if part)
            found = self._kept(table, {part.name: stamps[part.name] for part in parts}, rows_of)
            if any(isinstance(rows, FileNotFoundError) for rows in found.values()):
                continue  # compacted between listing and reading: list again
            for name in stamps:
                if Part.of(name) is None:
                    self._warn(name, ValueError("is no part of a table"))
            return TableRows({(name, stamps[name]): rows for name, rows in self._readable(found)})
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

    def delete_checkpoints(self, trial: int) -> None:
        """Delete all checkpoints of a trial."""
        self.objects.delete(f"{self.name}/checkpoints/{trial}")

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

    def checkpoint_files(self, trial: int, seed: int, step: int) -> set[str] | None:
        """Names of the files of a whole checkpoint; none when there is no record of it."""
        try:
            return set(_json_object(self._read(f"checkpoints/{trial}/{seed}/{step}/{_RECORD}"))["sha256"])
        except (ValueError, KeyError, TypeError, FileNotFoundError):
            return None

    def checkpoint_sizes(self) -> dict[str, int]:
        """Bytes of each object of all checkpoints, whole or not, by its name in the study."""
        sizes = self.objects.sizes(f"{self.name}/checkpoints")
        return {name.removeprefix(f"{self.name}/"): size for name, size in sizes.items()}

    def write_discarded(self, trial: int) -> None:
        """Note that the weights of a complete trial are deleted on purpose."""
        self._write(f"discarded/{trial}.json", json.dumps({"time": datetime.now(UTC).isoformat()}).encode())

    def discarded(self, trial: int) -> str | None:
        """When the weights of a trial were deleted on purpose, ISO 8601; none when they were not."""
        try:
            return str(_json_object(self._read(f"discarded/{trial}.json"))["time"])
        except (ValueError, KeyError, FileNotFoundError):
            return None

    def write_latents(self, trial: int, seed: int, columns: Mapping[str, Any]) -> None:
        """Write a sample of a replicate's latents, with the factors of the clips."""
        buffer = io.BytesIO()
        pq.write_table(pa.table(dict(columns)), buffer)
        self._write(_latents(trial, seed), buffer.getvalue())

    def read_latents(self, trial: int, seed: int) -> pd.DataFrame | None:
        """The same as it was written; none when there is none, or it is damaged."""
        name = _latents(trial, seed)
        try:
            return pq.read_table(io.BytesIO(self._read(name))).to_pandas()
        except FileNotFoundError:
            return None
        except (pa.ArrowException, ValueError, OSError) as error:
            self._warn(name, error)
            return None

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

    def _kept(
        self, folder: str, stamps: Mapping[str, str], decode: Callable[[str, bytes], _Value]
    ) -> dict[str, _Value | Exception]:
        """What objects of a folder hold, by name, or why that cannot be said; read where no cache has them."""
        return (self.cache or StudyCache()).read(folder, stamps, self._read_all, decode)

    def _readable(self, found: Mapping[str, _Value | Exception]) -> Iterator[tuple[str, _Value]]:
        """What could be read; the rest is named in a warning each."""
        for name, value in found.items():
            if isinstance(value, Exception):
                self._warn(name, value)
            else:
                yield name, value

    def _stamps(self, folder: str) -> dict[str, str]:
        stamps = self.objects.stamps(f"{self.name}/{folder}")
        return {name.removeprefix(f"{self.name}/"): stamp for name, stamp in stamps.items()}

    def _read_all(self, names: Sequence[str]) -> dict[str, bytes]:
        contents = self.objects.read_all([f"{self.name}/{name}" for name in names])
        return {name.removeprefix(f"{self.name}/"): content for name, content in contents.items()}

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


def _latents(trial: int, seed: int) -> str:
    return f"latents/{trial}-{seed}.parquet"


def _json_object(content: bytes) -> dict[str, Any]:
    value = json.loads(content)
    if not isinstance(value, dict):
        raise ValueError("is no JSON object")
    return value
