"""Objects of one study, by their names in the study, and a cache for processes that read them again and again."""

import json
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, TypeVar

import pyarrow as pa

from study.errors import TooLargeError, UnreadableObject
from study.formatting import printable
from study.spec import study_name
from study.storage import Entry, ObjectStore

_Value = TypeVar("_Value")

_JSON_LIMIT = 64 << 20
# Maximum number of undecoded objects in memory; an S3 client has fewer connections.
_BATCH_SIZE = 32


class StudyCache:
    """Decoded objects of one study, and what a reader derived from them. Threads may share it.

    An object is decoded again when its etag changes. Damaged objects are not cached, so every reading tries them again.
    """

    def __init__(self) -> None:
        self.derived: Any = None
        """A value that a reader computed from the objects and updates when they change."""
        self._decoded: dict[str, dict[str, tuple[str, Any]]] = {}
        # One thread reads new objects, the others wait and find them decoded.
        self._lock = threading.Lock()

    def read(
        self,
        folder: str,
        etags: Mapping[str, str],
        read_all: Callable[[Sequence[str]], Mapping[str, bytes]],
        decode: Callable[[str, bytes], _Value],
    ) -> dict[str, _Value | Exception]:
        """Return the decoded objects of a folder, in the order of `etags`, and forget all others of the folder.

        `read_all` leaves out objects that do not exist; their value is FileNotFoundError. The value of a damaged object
        is the ArrowException, OSError or ValueError that `decode` raises.
        """
        with self._lock:
            cached = self._decoded.get(folder, {})
            values: dict[str, Any] = {
                name: cached[name][1] for name, etag in etags.items() if name in cached and cached[name][0] == etag
            }
            errors: dict[str, Exception] = {}
            missing = (name for name in etags if name not in values)
            while batch := list(islice(missing, _BATCH_SIZE)):
                contents = read_all(batch)
                for name in batch:
                    try:
                        if name not in contents:
                            raise FileNotFoundError(f"{name} no longer exists")
                        values[name] = decode(name, contents[name])
                    except (pa.ArrowException, ValueError, OSError) as error:
                        errors[name] = error
            self._decoded[folder] = {name: (etags[name], value) for name, value in values.items()}
        return {name: values[name] if name in values else errors[name] for name in etags}


class StudyObjects:
    """Objects of one study. A damaged object is named in a warning and left out.

    Raises:
        UserError: If the name cannot be that of a study, such as a path.
    """

    def __init__(self, objects: ObjectStore, name: str, cache: StudyCache | None = None) -> None:
        self.objects = objects
        self.name = study_name(name)
        self.cache = cache

    @property
    def uri(self) -> str:
        """Address of the study."""
        return f"{self.objects.uri}/{self.name}"

    def _decoded(
        self, folder: str, entries: Mapping[str, Entry], limit: int, decode: Callable[[str, bytes], _Value]
    ) -> dict[str, _Value | Exception]:
        """Return decoded objects of a folder by name, or why they cannot be read; cached ones are not read again."""
        etags = {name: entry.etag for name, entry in entries.items() if entry.size <= limit}
        values = (self.cache or StudyCache()).read(folder, etags, self._read_all, decode)
        return {name: values[name] if name in values else TooLargeError(limit, entries[name].size) for name in entries}

    def _readable(self, values: Mapping[str, _Value | Exception]) -> Iterator[tuple[str, _Value]]:
        """Yield the values that are not errors, and name each error in a warning."""
        for name, value in values.items():
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
        """Return a JSON object; raise FileNotFoundError if there is none, or ValueError if it is damaged."""
        return json_object(self._read(name, _JSON_LIMIT))

    def _write(self, name: str, content: bytes) -> None:
        self.objects.write(f"{self.name}/{name}", content)

    def _warn(self, name: str, error: Exception) -> None:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        warnings.warn(
            f"{printable(f'{self.uri}/{name}')} was left out: {printable(reason)}", UnreadableObject, stacklevel=3
        )


def json_object(content: bytes) -> dict[str, Any]:
    """Decode a JSON object; raise a ValueError for anything else."""
    try:
        value = json.loads(content)
    except RecursionError:
        raise ValueError("is nested too deeply") from None
    if not isinstance(value, dict):
        raise ValueError("is not a JSON object")
    return value
