"""The layout of a study in the store: what is written where, and how it is read back.

Objects are written whole and never changed, except a run's own heartbeat. A row of `trials/` is the commit: what it
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
from study.storage import ObjectStore, TooLargeError
from study.store.checkpoints import Checkpoint, Checkpoints
from study.store.metadata import StudyMetadata
from study.store.run_records import RunRecords
from study.store.tables import (
    MIN_SEGMENTS_TO_COMPACT,
    Segment,
    TableRows,
    merge_segments,
    read_segment,
    schema_conflicts,
    to_parquet,
    with_kind,
    without_compacted,
)

__all__ = ["Checkpoint", "StudyMetadata", "StudyStore", "Table", "list_studies"]

Table = Literal["trials", "reports", "log"]

_METADATA = "study.json"
_BASELINES = "baselines.json"
_METADATA_LIMIT = 16 << 20
_SEGMENT_LIMIT = 256 << 20
_READ_ATTEMPTS = 3


class StudyStore(RunRecords, Checkpoints):
    """One study in the store.

    Args:
        objects: the store.
        name: of the study.
        cache: for a process that reads the study again and again. Looking at runs and tables then takes a request
            for each of these three folders (or for each thousand objects in one; a table has one more for every 64
            segments, which is what comes in five minutes at most), and one for each object that is new, replaced or
            damaged, however many trials there are.

    Attributes:
        objects, name, cache: the same.
    """

    def exists(self) -> bool:
        """Whether there is a study of this name."""
        return bool(self.objects.names(f"{self.name}/{_METADATA}"))

    def create(self, metadata: StudyMetadata) -> None:
        """Begin the study."""
        self._write(_METADATA, metadata.model_dump_json(indent=1, exclude_none=True).encode())

    def metadata(self) -> StudyMetadata:
        """How the study began.

        Raises:
            UserError: when there is no such study, or its document is damaged.
        """
        try:
            content = self._read(_METADATA, _METADATA_LIMIT)
        except FileNotFoundError:
            known = ", ".join(list_studies(self.objects)) or "none"
            raise UserError(f"no study {self.name!r} in {self.objects.uri}; there are: {known}") from None
        except TooLargeError as error:
            raise UserError(f"{self.uri}/{_METADATA} is damaged: it {error}") from None
        try:
            return StudyMetadata.model_validate_json(content)
        except ValidationError as error:
            raise UserError(f"{self.uri}/{_METADATA} is damaged: {printable(explain(error, StudyMetadata))}") from None

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

    def append(self, table: Table, run: int, sequence: int, rows: Sequence[Mapping[str, Any]]) -> None:
        """Write rows as one segment of a table."""
        self._write(
            Segment(table, run, sequence).name, to_parquet(rows if table == "log" else list(map(with_kind, rows)))
        )

    def compact(self, table: Table, run: int) -> None:
        """Merge the segments of one run into one, once there are `MIN_SEGMENTS_TO_COMPACT`.

        The merged segment names its range, so a reader that also lists its parts counts no row twice.
        """
        known = without_compacted(segment for segment in map(Segment.of, self._names(f"{table}/")) if segment)
        segments = [segment for segment in known if segment.run == run and segment.last is None]
        if len(segments) < MIN_SEGMENTS_TO_COMPACT:
            return
        contents = self._read_all([segment.name for segment in segments])
        try:
            content = merge_segments([contents[segment.name] for segment in segments])
        except (pa.ArrowException, ValueError, OSError, KeyError):
            return  # a damaged segment stays as it is, to be named by whoever reads
        self._write(Segment(table, run, segments[0].first, segments[-1].first).name, content)
        for segment in segments:
            self.objects.delete(f"{self.name}/{segment.name}")

    def read(self, table: Table) -> pd.DataFrame:
        """Return the rows of trials, or of the log, in the order in which they were written by each `run`."""
        return self.rows(table).of_trials().frame()

    def rows(self, table: Table) -> TableRows:
        """Return all rows of a table, also those of baselines."""
        for _ in range(_READ_ATTEMPTS):
            entries = self._entries(table)
            segments = without_compacted(segment for segment in map(Segment.of, entries) if segment)
            found = self._kept(
                table, {segment.name: entries[segment.name] for segment in segments}, _SEGMENT_LIMIT, read_segment
            )
            if any(isinstance(rows, FileNotFoundError) for rows in found.values()):
                continue  # compacted between listing and reading: list again
            for name in entries:
                if Segment.of(name) is None:
                    self._warn(name, ValueError("is no segment of a table"))
            readable = dict(self._readable(found))
            for name, error in schema_conflicts(readable).items():
                self._warn(name, error)
                del readable[name]
            return TableRows({(name, entries[name].etag): rows for name, rows in readable.items()})
        raise UserError(f"{self.uri}/{table} changes faster than it can be read; try again")


def list_studies(objects: ObjectStore) -> list[str]:
    """Names of the studies in a store."""
    names = [name for name in objects.folders() if STUDY_NAME.fullmatch(name)]
    return [name for name in names if objects.names(f"{name}/{_METADATA}")]
