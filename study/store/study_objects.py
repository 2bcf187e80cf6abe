"""The objects of one study, by their names in it. What cannot be read is named in a warning and left out."""

import json
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from study.errors import UnreadableObject
from study.formatting import printable
from study.storage import Entry, ObjectStore, TooLargeError
from study.store.cache import StudyCache

__all__ = ["StudyObjects", "json_object"]

_Value = TypeVar("_Value")

_JSON_LIMIT = 64 << 20


class StudyObjects:
    """One study's objects.

    Args:
        objects: the store.
        name: of the study.
        cache: for a process that reads the study again and again.

    Attributes:
        objects, name, cache: the same.
    """

    def __init__(self, objects: ObjectStore, name: str, cache: StudyCache | None = None) -> None:
        self.objects = objects
        self.name = name
        self.cache = cache

    @property
    def uri(self) -> str:
        """Where the study is."""
        return f"{self.objects.uri}/{self.name}"

    def _kept(
        self, folder: str, entries: Mapping[str, Entry], limit: int, decode: Callable[[str, bytes], _Value]
    ) -> dict[str, _Value | Exception]:
        """What objects of a folder hold, by name, or why that cannot be said; read where no cache has them."""
        etags = {name: entry.etag for name, entry in entries.items() if entry.size <= limit}
        found = (self.cache or StudyCache()).read(folder, etags, self._read_all, decode)
        return {name: found[name] if name in found else TooLargeError(entries[name].size, limit) for name in entries}

    def _readable(self, found: Mapping[str, _Value | Exception]) -> Iterator[tuple[str, _Value]]:
        """What could be read; the rest is named in a warning each."""
        for name, value in found.items():
            if isinstance(value, Exception):
                self._warn(name, value)
            else:
                yield name, value

    def _entries(self, folder: str) -> dict[str, Entry]:
        entries = self.objects.entries(f"{self.name}/{folder}")
        return {name.removeprefix(f"{self.name}/"): entry for name, entry in entries.items()}

    def _read_all(self, names: Sequence[str]) -> dict[str, bytes]:
        contents = self.objects.read_all([f"{self.name}/{name}" for name in names])
        return {name.removeprefix(f"{self.name}/"): content for name, content in contents.items()}

    def _names(self, prefix: str) -> list[str]:
        return [name.removeprefix(f"{self.name}/") for name in self.objects.names(f"{self.name}/{prefix}".rstrip("/"))]

    def _read(self, name: str, limit: int) -> bytes:
        return self.objects.read(f"{self.name}/{name}", limit)

    def _read_json(self, name: str) -> dict[str, Any]:
        """A JSON object; raises ValueError where it is none, and FileNotFoundError."""
        return json_object(self._read(name, _JSON_LIMIT))

    def _write(self, name: str, content: bytes) -> None:
        self.objects.write(f"{self.name}/{name}", content)

    def _warn(self, name: str, error: Exception) -> None:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        where = printable(f"{self.uri}/{name}")
        warnings.warn(f"{where} was left out: {printable(reason)}", UnreadableObject, stacklevel=3)


def json_object(content: bytes) -> dict[str, Any]:
    """What a JSON object holds.

    Raises:
        ValueError: when it is none.
    """
    try:
        value = json.loads(content)
    except RecursionError:
        raise ValueError("is nested too deeply") from None
    if not isinstance(value, dict):
        raise ValueError("is no JSON object")
    return value
