"""Sounds in files, folders and buckets."""

import io
from collections.abc import Callable, Sequence
from pathlib import Path, PurePath
from typing import NamedTuple

from marl.data.audio_file import SUFFIXES
from marl.data.source import UnusableClipError
from study.errors import UserError
from study.storage import ObjectStore, TooLargeError

__all__ = ["Recording", "recordings"]

# Longer than a command waits at its beginning: hours of work may be behind it.
_PATIENCE_S = 60.0


class Recording(NamedTuple):
    """A sound to be embedded.

    Attributes:
        name: what the table calls it.
        opened: gives what `marl.data.audio_file.windows` takes.
        held_bytes: memory that it takes when it is opened.
    """

    name: str
    opened: Callable[[], str | io.BytesIO]
    held_bytes: int = 0


def recordings(places: Sequence[str]) -> list[Recording]:
    """Sounds in files, folders and buckets, in this order, those of each by name; none of them twice.

    Of a folder or bucket, all files with a suffix of `marl.data.audio_file.SUFFIXES`, hidden ones left out;
    a file that is named is taken, whatever its name.

    Raises:
        UserError: when there is nothing at a place.
    """
    found = (one for place in places for one in (_of_bucket(place) if "://" in place else _of_path(place)))
    return list({one.name: one for one in found}.values())


def _of_path(place: str) -> list[Recording]:
    path = Path(place)
    if not path.is_dir():
        if not path.exists():
            raise UserError(f"{place}: must be a sound file, a folder of them or s3://bucket/prefix; it is not there")
        return [_of_file(place)]
    found = [one for one in sorted(path.rglob("*")) if _is_sound(one.relative_to(path)) and one.is_file()]
    if not found:
        raise UserError(f"{place}: no sound file is in this folder; their names end in {', '.join(sorted(SUFFIXES))}")
    return [_of_file(str(one)) for one in found]


def _of_bucket(place: str) -> list[Recording]:
    place = place.rstrip("/")
    parent, _, last = place.rpartition("/")
    # An object is found in the list of what lies above it.
    root, prefix = (parent, last) if _is_sound(PurePath(last)) and parent.count("/") > 1 else (place, "")
    entries = ObjectStore(root).entries(prefix)
    objects = ObjectStore(root, _PATIENCE_S)
    found = [_of_object(objects, name, entry.size) for name, entry in entries.items() if _is_sound(PurePath(name))]
    if not found:
        raise UserError(f"{place}: no sound is there; names of sounds end in {', '.join(sorted(SUFFIXES))}")
    return found


def _is_sound(name: PurePath) -> bool:
    return name.suffix.lower() in SUFFIXES and not any(part.startswith(".") for part in name.parts)


def _of_file(path: str) -> Recording:
    # A table has no place for a name that is not UTF-8.
    return Recording(path.encode("utf-8", "surrogateescape").decode("utf-8", "replace"), lambda: path)


def _of_object(objects: ObjectStore, name: str, size: int) -> Recording:
    def opened() -> io.BytesIO:
        try:
            return io.BytesIO(objects.read(name))
        except FileNotFoundError:
            raise UnusableClipError("is not there") from None
        except TooLargeError as reason:
            raise UnusableClipError(str(reason)) from None

    return Recording(f"{objects.uri}/{name}", opened, max(1, size))
