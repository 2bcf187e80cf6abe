"""Models of a study in the store: checkpoints of replicates, and samples of their latents."""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pandas as pd
import pyarrow as pa

from study.spec import Baseline, TrialId
from study.store.study_objects import StudyObjects
from study.store.tables import read_parquet, write_parquet

__all__ = ["Checkpoint", "Checkpoints"]

_RECORD = "replicate.json"
_TRIAL = rf"(?:\d+|{'|'.join(Baseline)})"
_RECORD_NAME = re.compile(rf"checkpoints/{_TRIAL}/\d+/(\d{{1,12}})/{re.escape(_RECORD)}")
_OBJECT_NAME = re.compile(rf"checkpoints/{_TRIAL}/\d+/(\d{{1,12}})/[^/]+")
_MODEL_LIMIT = 1 << 30
_MAX_FILES = 16
_LATENTS_LIMIT = 256 << 20


@dataclass(frozen=True)
class Checkpoint:
    """A replicate at one step: contents of files, verified by their SHA-256, and a record with its reports so far."""

    step: int
    files: dict[str, bytes]
    record: dict[str, Any]


class Checkpoints(StudyObjects):
    """Checkpoints, samples of latents, and records of deleted weights."""

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


def _latents_name(trial: TrialId, seed: int) -> str:
    return f"latents/{trial}-{seed}.parquet"
