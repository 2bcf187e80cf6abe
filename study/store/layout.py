"""The layout of a study in the store: what is written where, and how it is read back.

Objects are written whole and never changed, except a launch's own heartbeat. A row of `trials/` is the commit: what it
names was written before it. Whatever cannot be read is named in a warning and left out; nothing that is read is
executed.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import pandas as pd
import pyarrow as pa
from pydantic import ValidationError

from study.errors import UserError
from study.formatting import printable
from study.spec import STUDY_NAME, explain
from study.storage import Objects
from study.storage.backend import TooLarge
from study.store.checkpoints import Checkpoint, Checkpoints
from study.store.metadata import Document
from study.store.run_records import Launches
from study.store.study_objects import UnreadableObject
from study.store.tables import COMPACT_FROM, Part, TableRows, compacted, fitting, parquet_of, rows_of, that_count

__all__ = ["Checkpoint", "Document", "StudyStore", "Table", "UnreadableObject", "list_studies"]

Table = Literal["trials", "reports", "log"]

_DOCUMENT = "study.json"
_BASELINES = "baselines.json"
_DOCUMENT_LIMIT = 16 << 20
_PART_LIMIT = 256 << 20
_READ_ATTEMPTS = 3


class StudyStore(Launches, Checkpoints):
    """One study in the store.

    Args:
        objects: the store.
        name: of the study.
        cache: for a process that reads the study again and again. Looking at launches and tables then takes a request
            for each of these three folders (or for each thousand objects in one; a table has one more for every 64
            parts, which is what comes in five minutes at most), and one for each object that is new, replaced or
            damaged, however many trials there are.

    Attributes:
        objects, name, cache: the same.
    """

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
            content = self._read(_DOCUMENT, _DOCUMENT_LIMIT)
        except FileNotFoundError:
            known = ", ".join(list_studies(self.objects)) or "none"
            raise UserError(f"no study {self.name!r} in {self.objects.uri}; there are: {known}") from None
        except TooLarge as error:
            raise UserError(f"{self.uri}/{_DOCUMENT} is damaged: it {error}") from None
        try:
            return Document.model_validate_json(content)
        except ValidationError as error:
            raise UserError(f"{self.uri}/{_DOCUMENT} is damaged: {printable(explain(error, Document))}") from None

    def delete(self) -> None:
        """Delete everything of the study."""
        self.objects.delete(self.name)

    def write_baselines(self, content: Mapping[str, Any]) -> None:
        """Write what models score that a study compares its trials with; `study.training.evaluation` says what."""
        self._write(_BASELINES, json.dumps(content, indent=1, allow_nan=False).encode())

    def baselines(self) -> dict[str, Any] | None:
        """What was written of baselines; none when nothing was, or it is damaged."""
        try:
            found = self._read_json(_BASELINES)
            values = [found["replicates"], *found["untrained"].values()]
            if not all(type(value) in (int, float) for value in values):
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
            entries = self._entries(table)
            parts = that_count(part for part in map(Part.of, entries) if part)
            found = self._kept(table, {part.name: entries[part.name] for part in parts}, _PART_LIMIT, rows_of)
            if any(isinstance(rows, FileNotFoundError) for rows in found.values()):
                continue  # compacted between listing and reading: list again
            for name in entries:
                if Part.of(name) is None:
                    self._warn(name, ValueError("is no part of a table"))
            readable = dict(self._readable(found))
            for name, error in fitting(readable).items():
                self._warn(name, error)
                del readable[name]
            return TableRows({(name, entries[name].stamp): rows for name, rows in readable.items()})
        raise UserError(f"{self.uri}/{table} changes faster than it can be read; try again")


def list_studies(objects: Objects) -> list[str]:
    """Names of the studies in a store."""
    names = [name for name in objects.folders() if STUDY_NAME.fullmatch(name)]
    return [name for name in names if objects.names(f"{name}/{_DOCUMENT}")]
