"""The layout of a study in the store: metadata, tables, checkpoints of replicates, and samples of their latents.

Objects are written whole and never changed, except the record of a run, which has a heartbeat. A row of `trials/` is
the commit of a trial: the objects that it refers to were written before. Damaged objects are named in a warning and
left out. Nothing that is read is executed.
"""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any, Literal

import pandas as pd
import pyarrow as pa
from pydantic import BaseModel, ModelWrapValidatorHandler, ValidationError, model_validator

from study.errors import TooLargeError, UserError
from study.formatting import printable, suggestion
from study.spec import Baseline, Spec, TrialId, explain, is_study_name
from study.storage import ObjectStore
from study.store.lease import RunRecords
from study.store.tables import (
    MIN_SEGMENTS_TO_COMPACT,
    Segment,
    Table,
    TableRows,
    merge_segments,
    read_parquet,
    read_segment,
    schema_conflicts,
    to_parquet,
    with_kind,
    without_compacted,
    write_parquet,
)

_METADATA = "study.json"
_BASELINES = "baselines.json"
_METADATA_LIMIT = 16 << 20
_SEGMENT_LIMIT = 256 << 20
_READ_ATTEMPTS = 3
_RECORD = "replicate.json"
_TRIAL = rf"(?:\d+|{'|'.join(Baseline)})"
_RECORD_NAME = re.compile(rf"checkpoints/{_TRIAL}/\d+/(\d{{1,12}})/{re.escape(_RECORD)}")
_OBJECT_NAME = re.compile(rf"checkpoints/{_TRIAL}/\d+/(\d{{1,12}})/[^/]+")
_MODEL_LIMIT = 1 << 30
_MAX_FILES = 16
_LATENTS_LIMIT = 256 << 20


class StudyMetadata(BaseModel, frozen=True):
    """Content of `study.json`, written once when the study is created.

    Attributes:
        format: Version of the store's layout.
        spec: The resolved spec. A field that a later version added is absent and means what code without the field did.
        stack: Stack plan, as `study.spec.resolved_spec.StackPlan`.
        writer: Version of marl-study that created the study, with its commit where that is known.
        plugins: Sources of the plug-ins that the spec names, as `marl.registry.PluginSource`.
    """

    format: Literal[2] = 2
    spec: Spec
    stack: dict[str, Any]
    factors: tuple[str, ...]
    created: datetime
    writer: str
    plugins: tuple[dict[str, Any], ...] = ()

    @model_validator(mode="wrap")
    @classmethod
    def _check_compatible(cls, content: Any, handler: ModelWrapValidatorHandler["StudyMetadata"]) -> "StudyMetadata":
        """Raise a UserError for metadata of another version; damaged metadata stays a ValidationError."""
        try:
            return handler(content)
        except ValidationError as error:
            writer = content.get("writer") if isinstance(content, Mapping) else None
            if not isinstance(writer, str):
                raise
            raise incompatible(content.get("spec"), writer, explain(error, cls)) from None


def incompatible(spec: Any, writer: str, reason: str) -> UserError:
    """Return the error for metadata that this version cannot read; `reason` is the field and the rule it breaks."""
    name = spec.get("name") if isinstance(spec, Mapping) else getattr(spec, "name", None)
    return UserError(
        f"study {name!r} was created by marl-study {writer}, and this is marl-study {version('marl-study')}: {reason}; "
        "use the version that created the study, or a later one"
    )


@dataclass(frozen=True)
class Checkpoint:
    """A replicate at one step: contents of files, verified by their SHA-256, and a record with its reports so far."""

    step: int
    files: dict[str, bytes]
    record: dict[str, Any]


class StudyStore(RunRecords):
    """One study in the store.

    With a cache, reading runs and tables takes one request to list each of their folders, and one for each object that
    is new, replaced or damaged, however many trials there are. S3 lists a thousand objects a request; a table has one
    object for every 64 segments that a run wrote, about five minutes of a study.
    """

    def exists(self) -> bool:
        """Return whether the study was created."""
        return bool(self.objects.names(f"{self.name}/{_METADATA}"))

    def create(self, metadata: StudyMetadata) -> None:
        """Write the metadata of a new study."""
        self._write(_METADATA, metadata.model_dump_json(indent=1, exclude_none=True).encode())

    def metadata(self) -> StudyMetadata:
        """Return the metadata; raise a UserError if there is none, it is damaged, or another version wrote it."""
        try:
            content = self._read(_METADATA, _METADATA_LIMIT)
        except FileNotFoundError:
            known = suggestion(self.name, list_studies(self.objects))
            raise UserError(f"no study {self.name!r} in {self.objects.uri}; {known}") from None
        except TooLargeError as error:
            raise UserError(f"{self.uri}/{_METADATA} is damaged: {error}") from None
        try:
            return StudyMetadata.model_validate_json(content)
        except ValidationError as error:
            raise UserError(f"{self.uri}/{_METADATA} is damaged: {printable(explain(error, StudyMetadata))}") from None

    def delete(self) -> None:
        """Delete all objects of the study."""
        self.objects.delete(self.name)

    def write_baselines(self, content: Mapping[str, Any]) -> None:
        """Write the metrics of the untrained network, in the format of `update_baselines`."""
        self._write(_BASELINES, json.dumps(content, indent=1, allow_nan=False).encode())

    def baselines(self) -> dict[str, Any] | None:
        """Return the content of `write_baselines`, or None if there is none or it is damaged."""
        try:
            content = self._read_json(_BASELINES)
            values = [content["replicates"], *content["untrained"].values()]
            if not all(type(value) in (int, float) for value in values):
                raise ValueError("must hold numbers only")
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, AttributeError) as error:
            self._warn(_BASELINES, error)
            return None
        return content

    def append(self, table: Table, run: int, sequence: int, rows: Sequence[Mapping[str, Any]]) -> None:
        """Write rows as segment `sequence` of a run. Rows of trials and reports have the key `trial`."""
        content = to_parquet(rows if table == "log" else [with_kind(row) for row in rows])
        self._write(Segment(table, run, sequence).name, content)

    def compact(self, table: Table, run: int) -> None:
        """Merge the segments of one run into one, once there are `MIN_SEGMENTS_TO_COMPACT`.

        The merged segment names its range, so a reader that also lists the merged ones counts no row twice.
        """
        listed = filter(None, map(Segment.parse, self._names(f"{table}/")))
        segments = [segment for segment in without_compacted(listed) if segment.run == run and segment.last is None]
        if len(segments) < MIN_SEGMENTS_TO_COMPACT:
            return
        contents = self._read_all([segment.name for segment in segments])
        try:
            content = merge_segments([contents[segment.name] for segment in segments])
        except (pa.ArrowException, ValueError, OSError, KeyError):
            return  # a damaged segment is not merged, so that readers name it
        self._write(Segment(table, run, segments[0].first, segments[-1].first).name, content)
        for segment in segments:
            self.objects.delete(f"{self.name}/{segment.name}")

    def read(self, table: Table) -> pd.DataFrame:
        """Return the rows of trials, or of the log, in the order of writing. `run` is the run that wrote a row."""
        return self.rows(table).of_trials().frame()

    def rows(self, table: Table) -> TableRows:
        """Return the rows of trials and of baselines."""
        for _ in range(_READ_ATTEMPTS):
            entries = self._entries(table)
            segments = without_compacted(filter(None, map(Segment.parse, entries)))
            names = {segment.name: entries[segment.name] for segment in segments}
            contents = self._decoded(table, names, _SEGMENT_LIMIT, read_segment)
            if any(isinstance(rows, FileNotFoundError) for rows in contents.values()):
                continue  # compacted between listing and reading: list again
            for name in entries:
                if Segment.parse(name) is None:
                    self._warn(name, ValueError("is not a segment of a table"))
            readable = dict(self._readable(contents))
            for name, error in schema_conflicts(readable).items():
                self._warn(name, error)
                del readable[name]
            return TableRows({(name, entries[name].etag): rows for name, rows in readable.items()})
        raise UserError(f"{self.uri}/{table} changes faster than it can be read; try again")

    def write_checkpoint(
        self, trial: TrialId, seed: int, step: int, files: Mapping[str, bytes], record: Mapping[str, Any]
    ) -> None:
        """Write a checkpoint, and delete earlier ones of the replicate. The record is written last and completes it."""
        folder = f"checkpoints/{trial}/{seed}/{step}"
        for name, content in files.items():
            self._write(f"{folder}/{name}", content)
        hashes = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
        self._write(f"{folder}/{_RECORD}", json.dumps({**record, "sha256": hashes}).encode())
        self.delete_earlier_checkpoints(trial, seed, step)

    def delete_earlier_checkpoints(self, trial: TrialId, seed: int, step: int) -> None:
        """Delete the checkpoints of a replicate before a step; a later run may have written later ones."""
        for name in self._names(f"checkpoints/{trial}/{seed}/"):
            match = _OBJECT_NAME.fullmatch(name)
            if match and int(match[1]) < step:
                self.objects.delete(f"{self.name}/{name}")

    def delete_checkpoints(self, trial: TrialId) -> None:
        """Delete all checkpoints of a trial."""
        self.objects.delete(f"{self.name}/checkpoints/{trial}")

    def latest_checkpoint(self, trial: TrialId, seed: int) -> Checkpoint | None:
        """Return the latest whole checkpoint of a replicate, and name damaged ones in a warning."""
        folder = f"checkpoints/{trial}/{seed}"
        steps = {int(match[1]) for name in self._names(f"{folder}/") if (match := _RECORD_NAME.fullmatch(name))}
        for step in sorted(steps, reverse=True):
            try:
                return self._checkpoint(f"{folder}/{step}", step)
            except (ValueError, KeyError, TypeError, AttributeError, FileNotFoundError) as error:
                self._warn(f"{folder}/{step}", error)
        return None

    def checkpoint_files(self, trial: TrialId, seed: int, step: int) -> set[str] | None:
        """Return the file names of a checkpoint, or None if it has no readable record."""
        try:
            return set(self._read_json(f"checkpoints/{trial}/{seed}/{step}/{_RECORD}")["sha256"])
        except (ValueError, KeyError, TypeError, FileNotFoundError):
            return None

    def checkpoint_sizes(self) -> dict[str, int]:
        """Return the sizes in bytes of the objects of all checkpoints, whole or not, by name."""
        return {name: entry.size for name, entry in self._entries("checkpoints").items()}

    def write_discarded(self, trial: TrialId) -> None:
        """Record that the weights of a complete trial are deleted on purpose."""
        self._write(f"discarded/{trial}.json", json.dumps({"time": datetime.now(UTC).isoformat()}).encode())

    def discarded(self, trial: TrialId) -> str | None:
        """Return when the weights of a trial were deleted on purpose (ISO 8601), or None if they were not."""
        try:
            return str(self._read_json(f"discarded/{trial}.json")["time"])
        except (ValueError, KeyError, FileNotFoundError):
            return None

    def write_latents(self, trial: TrialId, seed: int, columns: Mapping[str, Any]) -> None:
        """Write a sample of a replicate's latents, with the factors of the clips."""
        self._write(_latents_name(trial, seed), write_parquet(pa.table(dict(columns))))

    def read_latents(self, trial: TrialId, seed: int) -> pd.DataFrame | None:
        """Return the sample of `write_latents`, or None if there is none or it is damaged."""
        name = _latents_name(trial, seed)
        try:
            table = read_parquet(self._read(name, _LATENTS_LIMIT))
            for field in table.schema:
                if field.name.startswith(("private/", "shared/")) and not pa.types.is_floating(field.type):
                    raise ValueError(f"column {field.name!r} must hold numbers; got {field.type}")
            return table.to_pandas()
        except FileNotFoundError:
            return None
        except (pa.ArrowException, ValueError, OSError) as error:
            self._warn(name, error)
            return None

    def _checkpoint(self, folder: str, step: int) -> Checkpoint:
        record = self._read_json(f"{folder}/{_RECORD}")
        files = {}
        if len(record["sha256"]) > _MAX_FILES:
            raise ValueError(f"must list at most {_MAX_FILES} files; got {len(record['sha256'])}")
        for name, sha256 in record["sha256"].items():
            if "/" in name:
                raise ValueError(f"{name!r} is not a file name")
            files[name] = self._read(f"{folder}/{name}", _MODEL_LIMIT)
            if hashlib.sha256(files[name]).hexdigest() != sha256:
                raise ValueError(f"{name} was changed: its SHA-256 differs from the record")
        return Checkpoint(step, files, record)


def list_studies(objects: ObjectStore) -> list[str]:
    """Return the names of the studies in a store."""
    names = [name for name in objects.folders() if is_study_name(name)]
    return [name for name in names if objects.names(f"{name}/{_METADATA}")]


def _latents_name(trial: TrialId, seed: int) -> str:
    return f"latents/{trial}-{seed}.parquet"
