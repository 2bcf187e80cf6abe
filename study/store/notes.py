"""Stars and notes on trials.

Each star or note, and each removal of one, is an event in a separate object that is never changed, so that nothing is
lost when two people write at the same time. A removal names the events that its author had read. A star that someone
else gives at the same time stays, and clocks need not agree.
"""

import operator
import re
import uuid
import warnings
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import AfterValidator, AwareDatetime, BaseModel, Field, ValidationError

from study.errors import UnreadableObject, UserError
from study.spec import explain
from study.store.layout import StudyStore

MAX_TEXT = 4000  # characters
MAX_AUTHOR = 100

_FOLDER = "notes"
_NAME = re.compile(rf"{_FOLDER}/[0-9]+-[0-9]{{8}}T[0-9]{{12}}Z-[0-9a-f]{{32}}\.json")
_NAME_TIME = "%Y%m%dT%H%M%S%fZ"
# JSON needs at most 12 bytes for a character, as an escaped surrogate pair.
_MAX_BYTES = 65_536
_MAX_REASON = 200

_Kind = Literal["star", "unstar", "note", "removed"]
_REVOKED_KIND = {"unstar": "star", "removed": "note"}


def _in_utc(time: datetime) -> datetime:
    try:
        return time.astimezone(UTC)
    except OverflowError:
        raise ValueError("is out of range") from None


class _Event(BaseModel, frozen=True, strict=True):
    """Event of one object. An `unstar` or `removed` revokes the events whose names are in `of`."""

    trial: int = Field(ge=0)
    kind: _Kind
    text: str = Field("", max_length=MAX_TEXT)
    author: str = Field("", max_length=MAX_AUTHOR)
    time: Annotated[AwareDatetime, AfterValidator(_in_utc)]
    of: tuple[str, ...] = ()

    def as_note(self, name: str) -> "Note":
        return Note(name, self.trial, self.text, self.author, self.time)


class Note(NamedTuple):
    """A note on a trial, by an author whose name may be empty. `name` is that of its object in the study."""

    name: str
    trial: int
    text: str
    author: str
    time: datetime


class Marks(NamedTuple):
    """Numbers of the trials with a star, and all notes, oldest first."""

    starred: frozenset[int]
    notes: list[Note]


class Notes:
    """Reads and writes the stars and notes of one study.

    A reading lists all events with one request, and reads only the objects of new events. Threads may share it. A
    damaged event is left out and named in a warning, `UnreadableObject`.
    """

    def __init__(self, store: StudyStore) -> None:
        self._store = store
        self._cached: dict[str, _Event | str] = {}  # by name; the reason for a damaged event

    def read(self) -> Marks:
        """Return all stars and notes that were not removed."""
        events = _valid_events(self._events())
        notes = [event.as_note(name) for name, event in events.items() if event.kind == "note"]
        starred = frozenset(event.trial for event in events.values() if event.kind == "star")
        return Marks(starred, sorted(notes, key=lambda note: (note.time, note.name)))

    def star(self, trial: int) -> None:
        """Give a trial a star, unless it has one; raise a UserError if there is no such study or trial number."""
        if _checked_trial(trial) not in self.read().starred:
            self._append(trial, "star")

    def unstar(self, trial: int) -> None:
        """Remove the stars of a trial; raise the same errors as `star`."""
        self._revoke(_checked_trial(trial), "unstar")

    def write(self, trial: int, text: str, author: str = "") -> Note:
        """Write a note on a trial.

        Raises:
            UserError: If the text is empty, text or author's name are too long, or there is no such study or trial.
        """
        text = "\n".join(text.strip().splitlines())
        author = " ".join(author.split())
        if not text:
            raise UserError("the note must not be empty")
        for name, value, limit in (("note", text, MAX_TEXT), ("author's name", author, MAX_AUTHOR)):
            if len(value) > limit:
                raise UserError(f"the {name} must have at most {limit:,} characters; got {len(value):,}")
        return self._append(trial, "note", text=text, author=author)

    def remove(self, note: Note) -> None:
        """Hide a note. Its text stays in the store."""
        self._revoke(note.trial, "removed", note.name)

    def _revoke(self, trial: int, kind: Literal["unstar", "removed"], only: str | None = None) -> None:
        """Revoke all stars of a trial, or one note."""
        target = (trial, _REVOKED_KIND[kind])
        events = _valid_events(self._events())
        names = [name for name, event in events.items() if (event.trial, event.kind) == target and only in (None, name)]
        if names:
            self._append(trial, kind, of=tuple(names))

    def _append(self, trial: int, kind: _Kind, **fields: Any) -> Note:
        if not self._store.exists():  # otherwise a later study of this name would start with the notes of a deleted one
            raise UserError(f"no study {self._store.name!r} in {self._store.objects.uri}; it may have been deleted")
        try:
            event = _Event(trial=_checked_trial(trial), kind=kind, time=datetime.now(UTC), **fields)
            content = event.model_dump_json(exclude_defaults=True).encode()
        except ValueError:  # half of a surrogate pair
            raise UserError("the note must hold Unicode characters only; remove half surrogate pairs") from None
        name = f"{_FOLDER}/{event.trial}-{event.time.strftime(_NAME_TIME)}-{uuid.uuid4().hex}.json"
        self._store.objects.write(f"{self._store.name}/{name}", content)
        self._cached[name] = event
        return event.as_note(name)

    def _events(self) -> dict[str, _Event]:
        """Return all readable events, by name."""
        prefix = f"{self._store.name}/"
        sizes = {
            path.removeprefix(prefix): entry.size
            for path, entry in self._store.objects.entries(f"{prefix}{_FOLDER}").items()
        }
        new = {name: size for name, size in sizes.items() if name not in self._cached}
        refused = {name: "is not an event of a trial" for name in new if not _NAME.fullmatch(name)} | {
            name: f"has {size:,} bytes; the limit is {_MAX_BYTES:,}" for name, size in new.items() if size > _MAX_BYTES
        }
        contents = self._store.objects.read_all([f"{prefix}{name}" for name in new if name not in refused])
        read = {path.removeprefix(prefix): content for path, content in contents.items()}
        self._cached |= refused | {name: _decoded_event(name, content) for name, content in read.items()}
        events = {}
        for name in sizes:
            event = self._cached.get(name)  # None for an event that was deleted after the listing
            if isinstance(event, _Event):
                events[name] = event
            elif event is not None:
                warnings.warn(f"{self._store.uri}/{name} was left out: {event}", UnreadableObject, stacklevel=4)
        return events


def _decoded_event(name: str, content: bytes) -> _Event | str:
    """Return an event, or why the content is not one."""
    try:
        event = _Event.model_validate_json(content)
    except ValidationError as error:
        return explain(error, _Event)[:_MAX_REASON]
    if not name.startswith(f"{_FOLDER}/{event.trial}-"):
        return f"must be named after its trial {event.trial}"
    return event


def _valid_events(events: Mapping[str, _Event]) -> dict[str, _Event]:
    """Return the events that no other event revokes, by name."""
    revoked = {(_REVOKED_KIND.get(event.kind), event.trial, name) for event in events.values() for name in event.of}
    return {name: event for name, event in events.items() if (event.kind, event.trial, name) not in revoked}


def _checked_trial(trial: int) -> int:
    try:
        number = -1 if isinstance(trial, bool) else operator.index(trial)
    except TypeError:
        number = -1
    if number < 0:
        raise UserError(f"trial must be a number from 0, as in the table of trials; got {trial!r}")
    return number
