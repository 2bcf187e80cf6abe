"""Records of a study's runs, lease requests, and requests to stop a run."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import AwareDatetime, BaseModel, Field, StringConstraints, ValidationError

from study.spec import explain
from study.store.study_objects import StudyObjects, json_object

__all__ = ["RunRecords"]

_RUN = re.compile(r"runs/(?P<number>\d{4})\.json")
_STOP = re.compile(r"runs/(?P<number>\d{4})\.stop\.json")
_LEASE = re.compile(r"leases/(?P<number>\d{4})-(?P<token>[0-9a-f]{16})\.json")
_LIMIT = 1 << 20
_Text = Annotated[str, StringConstraints(max_length=300, pattern=r"^[^\x00-\x1f\x7f-\x9f]*$")]


class _RunRecord(BaseModel, strict=True):
    """What every run says of itself, and others rely on. It says more."""

    trials: int = Field(ge=0, le=10**9)
    started: AwareDatetime
    heartbeat: AwareDatetime
    finished: AwareDatetime | None = None
    host: _Text = ""
    process: int = -1
    process_started: float | None = None
    trainers: float = Field(0, ge=0, le=1e6, allow_inf_nan=False)
    token: _Text = ""


class RunRecords(StudyObjects):
    """Runs of a study, by number. Each is an object that only its own run writes."""

    def write_run(self, number: int, content: Mapping[str, Any]) -> None:
        """Renew the object of a run."""
        self._write(_run_name(number), _json(content))

    def create_run(self, number: int, content: Mapping[str, Any]) -> bool:
        """Write the object of a run if there is none of that number; whether this is it."""
        return self.objects.create(f"{self.name}/{_run_name(number)}", _json(content))

    def runs(self) -> dict[int, dict[str, Any]]:
        """The runs so far, by number."""
        return {int(Path(name).stem): run for name, run in self._said("runs", _RUN).items()}

    def run(self, number: int) -> dict[str, Any] | None:
        """What one run says of itself; none when it is not there, or damaged."""
        try:
            return _checked("", self._read(_run_name(number), _LIMIT))
        except (ValueError, FileNotFoundError):
            return None

    def run_numbers(self) -> tuple[set[int], set[int]]:
        """Numbers of the runs so far, and of those that were asked to stop, from one request."""
        names = self._names("runs/")
        matches = ([pattern.fullmatch(name) for name in names] for pattern in (_RUN, _STOP))
        begun, asked = ({int(match["number"]) for match in some if match} for some in matches)
        return begun, asked

    def ask_to_stop(self, run: int) -> None:
        """Ask a run to write checkpoints and end; it looks every few seconds."""
        self._write(f"runs/{run:04d}.stop.json", _json({"asked": self.objects.now().isoformat()}))

    def write_lease(self, number: int, token: str, content: Mapping[str, Any]) -> None:
        """Write the request of a process for the lease of run `number`."""
        self._write(_lease_name(number, token), _json(content))

    def leases(self, number: int) -> dict[str, dict[str, Any]]:
        """Return the lease requests for run `number`, by token."""
        found = {_LEASE.fullmatch(name): lease for name, lease in self._said("leases", _LEASE).items()}
        return {match["token"]: lease for match, lease in found.items() if match and int(match["number"]) == number}

    def delete_lease(self, number: int, token: str) -> None:
        """Delete a lease request."""
        self.objects.delete(f"{self.name}/{_lease_name(number, token)}")

    def delete_leases(self) -> None:
        """Delete all lease requests, after a run has started."""
        for name in self._names("leases/"):
            self.objects.delete(f"{self.name}/{name}")

    def _said(self, folder: str, pattern: re.Pattern[str]) -> dict[str, dict[str, Any]]:
        entries = {name: entry for name, entry in self._entries(folder).items() if pattern.fullmatch(name)}
        return dict(self._readable(self._kept(folder, entries, _LIMIT, _checked)))


def _checked(_: str, content: bytes) -> dict[str, Any]:
    said = json_object(content)
    try:
        _RunRecord.model_validate_json(content)
    except ValidationError as error:
        raise ValueError(explain(error, _RunRecord)) from None
    return said


def _run_name(number: int) -> str:
    return f"runs/{number:04d}.json"


def _lease_name(number: int, token: str) -> str:
    return f"leases/{number:04d}-{token}.json"


def _json(content: Mapping[str, Any]) -> bytes:
    return json.dumps(content, indent=1).encode()
