"""What the store knows of a study's launches: who claims it, who runs it, and who asked them to stop."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import AwareDatetime, BaseModel, Field, StringConstraints, ValidationError

from study.spec import explain
from study.store.study_objects import StudyObjects, json_object

__all__ = ["Launches"]

_LAUNCH = re.compile(r"launches/(?P<number>\d{4})\.json")
_STOP = re.compile(r"launches/(?P<number>\d{4})\.stop\.json")
_CLAIM = re.compile(r"claims/(?P<number>\d{4})-(?P<token>[0-9a-f]{16})\.json")
_LIMIT = 1 << 20
_Text = Annotated[str, StringConstraints(max_length=300, pattern=r"^[^\x00-\x1f\x7f-\x9f]*$")]


class _Launch(BaseModel, strict=True):
    """What every launch says of itself, and others rely on. It says more."""

    trials: int = Field(ge=0, le=10**9)
    started: AwareDatetime
    heartbeat: AwareDatetime
    finished: AwareDatetime | None = None
    host: _Text = ""
    process: int = -1
    process_started: float | None = None
    trainers: float = Field(0, ge=0, le=1e6, allow_inf_nan=False)
    token: _Text = ""


class Launches(StudyObjects):
    """Launches of a study, by number. Each is an object that only its own launch writes."""

    def write_launch(self, number: int, content: Mapping[str, Any]) -> None:
        """Renew the object of a launch."""
        self._write(_launch(number), _json(content))

    def create_launch(self, number: int, content: Mapping[str, Any]) -> bool:
        """Write the object of a launch if there is none of that number; whether this is it."""
        return self.objects.create(f"{self.name}/{_launch(number)}", _json(content))

    def launches(self) -> dict[int, dict[str, Any]]:
        """The launches so far, by number."""
        return {int(Path(name).stem): launch for name, launch in self._said("launches", _LAUNCH).items()}

    def launch(self, number: int) -> dict[str, Any] | None:
        """What one launch says of itself; none when it is not there, or damaged."""
        try:
            return _checked("", self._read(_launch(number), _LIMIT))
        except (ValueError, FileNotFoundError):
            return None

    def launch_numbers(self) -> tuple[set[int], set[int]]:
        """Numbers of the launches so far, and of those that were asked to stop, from one request."""
        names = self._names("launches/")
        matches = ([pattern.fullmatch(name) for name in names] for pattern in (_LAUNCH, _STOP))
        begun, asked = ({int(match["number"]) for match in some if match} for some in matches)
        return begun, asked

    def ask_to_stop(self, launch: int) -> None:
        """Ask a launch to write checkpoints and end; it looks every few seconds."""
        self._write(f"launches/{launch:04d}.stop.json", _json({"asked": self.objects.now().isoformat()}))

    def write_claim(self, number: int, token: str, content: Mapping[str, Any]) -> None:
        """Say that somebody is about to begin the launch of a number."""
        self._write(_claim(number, token), _json(content))

    def claims(self, number: int) -> dict[str, dict[str, Any]]:
        """Those who are about to begin the launch of a number, by their tokens."""
        found = {_CLAIM.fullmatch(name): claim for name, claim in self._said("claims", _CLAIM).items()}
        return {match["token"]: claim for match, claim in found.items() if match and int(match["number"]) == number}

    def delete_claim(self, number: int, token: str) -> None:
        """Take a claim back."""
        self.objects.delete(f"{self.name}/{_claim(number, token)}")

    def delete_claims(self) -> None:
        """Take all claims back: a launch has begun."""
        for name in self._names("claims/"):
            self.objects.delete(f"{self.name}/{name}")

    def _said(self, folder: str, pattern: re.Pattern[str]) -> dict[str, dict[str, Any]]:
        entries = {name: entry for name, entry in self._entries(folder).items() if pattern.fullmatch(name)}
        return dict(self._readable(self._kept(folder, entries, _LIMIT, _checked)))


def _checked(_: str, content: bytes) -> dict[str, Any]:
    said = json_object(content)
    try:
        _Launch.model_validate_json(content)
    except ValidationError as error:
        raise ValueError(explain(error, _Launch)) from None
    return said


def _launch(number: int) -> str:
    return f"launches/{number:04d}.json"


def _claim(number: int, token: str) -> str:
    return f"claims/{number:04d}-{token}.json"


def _json(content: Mapping[str, Any]) -> bytes:
    return json.dumps(content, indent=1).encode()
