"""What people think of trials: stars, and notes in words. Each is an event, an object of its own that never changes.

So nothing is lost when two people write at once. Whoever takes a star or a note back names the events that she saw: a
star that somebody else gave meanwhile stays, and no clock has to be right.
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
from study.store import StudyStore

__all__ = ["MAX_AUTHOR", "MAX_TEXT", "Marks", "Note", "Notes"]

MAX_TEXT = 4000
MAX_AUTHOR = 100

_FOLDER = "notes"
_NAME = re.compile(rf"{_FOLDER}/[0-9]+-[0-9]{{8}}T[0-9]{{12}}Z-[0-9a-f]{{32}}\.json")
_NAME_TIME = "%Y%m%dT%H%M%S%fZ"
# The longest text as JSON has 12 bytes for a character, where it is escaped as a surrogate pair.
_MAX_BYTES = 65_536
_MAX_REASON = 200

_Kind = Literal["star", "unstar", "note", "removed"]
_TAKES_BACK = {"unstar": "star", "removed": "note"}


def _in_utc(time: datetime) -> datetime:
    try:
        return time.astimezone(UTC)
    except OverflowError:
        raise ValueError("is out of range") from None


class _Event(BaseModel, frozen=True, strict=True):
    """The content of an object.

    Attributes:
        trial: it is about.
        kind: of event.
        text: of a note.
        author: who says it; may be empty.
        time: when, in UTC.
        of: names of the events that an `unstar` or `removed` takes back.
    """

    trial: int = Field(ge=0)
    kind: _Kind
    text: str = Field("", max_length=MAX_TEXT)
    author: str = Field("", max_length=MAX_AUTHOR)
    time: Annotated[AwareDatetime, AfterValidator(_in_utc)]
    of: tuple[str, ...] = ()


class Note(NamedTuple):
    """What somebody wrote about a trial.

    Attributes:
        name: of the note, in the study.
        trial: it is about.
        text: at most `MAX_TEXT` characters, of any kind, with line breaks.
        author: who wrote it; may be empty.
        time: when, in UTC.
    """

    name: str
    trial: int
    text: str
    author: str
    time: datetime


class Marks(NamedTuple):
    """All that people think of a study's trials.

    Attributes:
        starred: trials with a star.
        notes: that were not removed, oldest first.
    """

    starred: frozenset[int]
    notes: list[Note]


class Notes:
    """Stars and notes of one study. Reading lists them once, and reads those that were not read before.

    Several threads may share one. What cannot be read is named in a warning, `UnreadableObject`, and left out.

    Args:
        store: of the study.
    """

    def __init__(self, store: StudyStore) -> None:
        self._store = store
        self._known: dict[str, _Event | str] = {}  # by name; of what is damaged, the reason

    def read(self) -> Marks:
        """All stars and notes that hold.

        Raises:
            UserError: when the store cannot be reached.
        """
        holding = _holding(self._events())
        notes = [
            Note(name, event.trial, event.text, event.author, event.time)
            for name, event in holding.items()
            if event.kind == "note"
        ]
        starred = frozenset(event.trial for event in holding.values() if event.kind == "star")
        return Marks(starred, sorted(notes, key=lambda note: (note.time, note.name)))

    def starred(self) -> frozenset[int]:
        """Trials with a star."""
        return self.read().starred

    def of(self, trial: int) -> list[Note]:
        """Notes on a trial, oldest first."""
        return [note for note in self.all() if note.trial == trial]

    def all(self) -> list[Note]:
        """Notes on all trials, oldest first."""
        return self.read().notes

    def star(self, trial: int) -> None:
        """Give a trial a star, if it has none.

        Raises:
            UserError: when there is no such study, or the trial is no number from 0 on.
        """
        if _checked(trial) not in self.starred():
            self._append(trial, "star")

    def unstar(self, trial: int) -> None:
        """Take a trial's stars back.

        Raises:
            UserError: when there is no such study, or the trial is no number from 0 on.
        """
        self._take_back(_checked(trial), "unstar")

    def write(self, trial: int, text: str, author: str = "") -> Note:
        """Write a note on a trial.

        Raises:
            UserError: when the text is empty or too long, the author's name is too long, the trial is no number from
                0 on, or there is no such study.
        """
        text = "\n".join(text.strip().splitlines())
        author = " ".join(author.split())
        if not text:
            raise UserError("the note is empty; write what it shall say")
        for what, value, limit in (("note", text, MAX_TEXT), ("author's name", author, MAX_AUTHOR)):
            if len(value) > limit:
                raise UserError(f"the {what} has {len(value):,} characters; {limit:,} at most, so shorten it")
        return self._append(trial, "note", text=text, author=author)

    def remove(self, note: Note) -> None:
        """Show a note no more. Its text stays in the store.

        Raises:
            UserError: when there is no such study.
        """
        self._take_back(note.trial, "removed", note.name)

    def _take_back(self, trial: int, kind: Literal["unstar", "removed"], only: str | None = None) -> None:
        """Take back what holds of a trial: all stars, or one note."""
        whole = (trial, _TAKES_BACK[kind])
        holding = _holding(self._events())
        names = [name for name, event in holding.items() if (event.trial, event.kind) == whole and only in (None, name)]
        if names:
            self._append(trial, kind, of=tuple(names))

    def _append(self, trial: int, kind: _Kind, **fields: Any) -> Note:
        if not self._store.exists():  # else the next study of this name would begin with notes of an earlier one
            raise UserError(f"no study {self._store.name!r} in {self._store.objects.uri}; it may have been deleted")
        try:
            event = _Event(trial=_checked(trial), kind=kind, time=datetime.now(UTC), **fields)
            content = event.model_dump_json(exclude_defaults=True).encode()
        except ValueError:  # half of a surrogate pair
            raise UserError("the note holds characters that are none of Unicode; write it anew") from None
        name = f"{_FOLDER}/{event.trial}-{event.time.strftime(_NAME_TIME)}-{uuid.uuid4().hex}.json"
        self._store.objects.write(f"{self._store.name}/{name}", content)
        self._known[name] = event
        return Note(name, event.trial, event.text, event.author, event.time)

    def _events(self) -> dict[str, _Event]:
        """All readable events, by name."""
        prefix = f"{self._store.name}/"
        sizes = {
            path.removeprefix(prefix): size for path, size in self._store.objects.sizes(f"{prefix}{_FOLDER}").items()
        }
        new = {name: size for name, size in sizes.items() if name not in self._known}
        refused = {name: reason for name, size in new.items() if (reason := _refusal(name, size))}
        contents = self._store.objects.read_all([f"{prefix}{name}" for name in new if name not in refused])
        read = {path.removeprefix(prefix): content for path, content in contents.items()}
        self._known |= refused | {name: _parsed(name, content) for name, content in read.items()}
        found = {}
        for name in sizes:
            event = self._known.get(name)  # none of what was deleted meanwhile
            if isinstance(event, _Event):
                found[name] = event
            elif event is not None:
                warnings.warn(f"{self._store.uri}/{name} was left out: {event}", UnreadableObject, stacklevel=4)
        return found


def _refusal(name: str, size: int) -> str | None:
    """Why an object is not even read."""
    if not _NAME.fullmatch(name):
        return "is no event of a trial"
    if size > _MAX_BYTES:
        return f"has {size:,} bytes, where {_MAX_BYTES:,} are the most that a note needs"
    return None


def _parsed(name: str, content: bytes) -> _Event | str:
    """An event, or why it is none."""
    try:
        event = _Event.model_validate_json(content)
    except ValidationError as error:
        return explain(error, _Event)[:_MAX_REASON]
    if not name.startswith(f"{_FOLDER}/{event.trial}-"):
        return f"is about trial {event.trial} and named after another one"
    return event


def _holding(events: Mapping[str, _Event]) -> dict[str, _Event]:
    """Events that nobody took back, by name."""
    taken_back = {(_TAKES_BACK.get(event.kind), event.trial, name) for event in events.values() for name in event.of}
    return {name: event for name, event in events.items() if (event.kind, event.trial, name) not in taken_back}


def _checked(trial: int) -> int:
    try:
        number = -1 if isinstance(trial, bool) else operator.index(trial)
    except TypeError:
        number = -1
    if number < 0:
        raise UserError(f"trial {trial!r}: must be a whole number from 0 on, as the table of trials shows them")
    return number
