"""Models of a study in the store: checkpoints of replicates, samples of their latents, and which were deleted."""

import hashlib
import io
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from study.spec import Baseline, TrialId
from study.store.study_objects import StudyObjects
from study.store.tables import checked_table

__all__ = ["Checkpoint", "Checkpoints"]

_RECORD = "replicate.json"
_TRIAL = rf"(?:\d+|{'|'.join(Baseline)})"
_STEP = re.compile(rf"checkpoints/{_TRIAL}/\d+/(\d{{1,12}})/{re.escape(_RECORD)}")
_OBJECT = re.compile(rf"checkpoints/{_TRIAL}/\d+/(\d{{1,12}})/[^/]+")
_MODEL_LIMIT = 1 << 30
_MOST_FILES = 16
_LATENTS_LIMIT = 256 << 20


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


class Checkpoints(StudyObjects):
    """Checkpoints, latents and what is known of those that are not there any more."""

    def write_checkpoint(
        self, trial: TrialId, seed: int, step: int, files: Mapping[str, bytes], record: Mapping[str, Any]
    ) -> None:
        """Write a checkpoint, the record last, without which it is none; then delete the replicate's earlier ones."""
        folder = f"checkpoints/{trial}/{seed}/{step}"
        for name, content in files.items():
            self._write(f"{folder}/{name}", content)
        hashes = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
        self._write(f"{folder}/{_RECORD}", json.dumps({**record, "sha256": hashes}).encode())
        self.delete_earlier_checkpoints(trial, seed, step)

    def delete_earlier_checkpoints(self, trial: TrialId, seed: int, step: int) -> None:
        """Delete a replicate's checkpoints before a step. Later ones are a newer run's."""
        for name in self._names(f"checkpoints/{trial}/{seed}/"):
            match = _OBJECT.fullmatch(name)
            if match and int(match[1]) < step:
                self.objects.delete(f"{self.name}/{name}")

    def delete_checkpoints(self, trial: TrialId) -> None:
        """Delete all checkpoints of a trial."""
        self.objects.delete(f"{self.name}/checkpoints/{trial}")

    def latest_checkpoint(self, trial: TrialId, seed: int) -> Checkpoint | None:
        """The newest whole checkpoint of a replicate; damaged ones are named in a warning and passed over."""
        folder = f"checkpoints/{trial}/{seed}"
        steps = {int(match[1]) for name in self._names(f"{folder}/") if (match := _STEP.fullmatch(name))}
        for step in sorted(steps, reverse=True):
            try:
                return self._checkpoint(f"{folder}/{step}", step)
            except (ValueError, KeyError, TypeError, AttributeError, FileNotFoundError) as error:
                self._warn(f"{folder}/{step}", error)
        return None

    def checkpoint_files(self, trial: TrialId, seed: int, step: int) -> set[str] | None:
        """Names of the files of a whole checkpoint; none when there is no record of it."""
        try:
            return set(self._read_json(f"checkpoints/{trial}/{seed}/{step}/{_RECORD}")["sha256"])
        except (ValueError, KeyError, TypeError, FileNotFoundError):
            return None

    def checkpoint_sizes(self) -> dict[str, int]:
        """Bytes of each object of all checkpoints, whole or not, by its name in the study."""
        sizes = self.objects.sizes(f"{self.name}/checkpoints")
        return {name.removeprefix(f"{self.name}/"): size for name, size in sizes.items()}

    def write_discarded(self, trial: TrialId) -> None:
        """Note that the weights of a complete trial are deleted on purpose."""
        self._write(f"discarded/{trial}.json", json.dumps({"time": datetime.now(UTC).isoformat()}).encode())

    def discarded(self, trial: TrialId) -> str | None:
        """When the weights of a trial were deleted on purpose, ISO 8601; none when they were not."""
        try:
            return str(self._read_json(f"discarded/{trial}.json")["time"])
        except (ValueError, KeyError, FileNotFoundError):
            return None

    def write_latents(self, trial: TrialId, seed: int, columns: Mapping[str, Any]) -> None:
        """Write a sample of a replicate's latents, with the factors of the clips."""
        buffer = io.BytesIO()
        pq.write_table(pa.table(dict(columns)), buffer)
        self._write(_latents(trial, seed), buffer.getvalue())

    def read_latents(self, trial: TrialId, seed: int) -> pd.DataFrame | None:
        """The same as it was written; none when there is none, or it is damaged."""
        name = _latents(trial, seed)
        try:
            return _sample(self._read(name, _LATENTS_LIMIT))
        except FileNotFoundError:
            return None
        except (pa.ArrowException, ValueError, OSError) as error:
            self._warn(name, error)
            return None

    def _checkpoint(self, folder: str, step: int) -> Checkpoint:
        record = self._read_json(f"{folder}/{_RECORD}")
        files = {}
        if len(record["sha256"]) > _MOST_FILES:
            raise ValueError(f"names {len(record['sha256'])} files")
        for name, expected in record["sha256"].items():
            if "/" in name:
                raise ValueError(f"{name!r} is no name of a file")
            files[name] = self._read(f"{folder}/{name}", _MODEL_LIMIT)
            if hashlib.sha256(files[name]).hexdigest() != expected:
                raise ValueError(f"{name} is not what was written: its SHA-256 differs")
        return Checkpoint(step, files, record)


def _latents(trial: TrialId, seed: int) -> str:
    return f"latents/{trial}-{seed}.parquet"


def _sample(content: bytes) -> pd.DataFrame:
    """A sample of latents; raises ValueError or ArrowException where it is none."""
    table = checked_table(content)
    for name, kind in zip(table.column_names, table.schema.types, strict=True):
        if name.startswith(("private/", "shared/")) and not pa.types.is_floating(kind):
            raise ValueError(f"column {name!r} holds {kind} instead of numbers")
    return table.to_pandas()
