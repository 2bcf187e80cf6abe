"""Recordings in files, folders and buckets."""

import io
from collections.abc import Callable, Sequence
from pathlib import Path, PurePath
from typing import NamedTuple

from marl.data.audio_dataset import UnusableClipError
from marl.data.audio_file import SUFFIXES
from study.errors import TooLargeError, UserError
from study.storage import ObjectStore

# Longer than at the start of a command, because hours of work may be done already.
_RETRY_TIMEOUT_S = 60.0


class Recording(NamedTuple):
    """A recording to embed.

    Attributes:
        open: Returns the path or the content, as `marl.data.audio_file.windows` takes it.
        held_bytes: Memory that the content takes, in bytes; 0 for a path.
    """

    name: str
    open: Callable[[], str | io.BytesIO]
    held_bytes: int = 0


def find_recordings(sources: Sequence[str]) -> list[Recording]:
    """Return the recordings of files, folders and buckets: in the order of the sources, within each by name, each once.

    A source is a file of any name, a folder, or an address `s3://bucket/prefix`. Folders and buckets are searched for
    files with a suffix in `marl.data.audio_file.SUFFIXES` that are not hidden.
    """
    recordings = (
        recording for source in sources for recording in (_in_bucket(source) if "://" in source else _in_path(source))
    )
    return list({recording.name: recording for recording in recordings}.values())


def _in_path(source: str) -> list[Recording]:
    path = Path(source)
    if not path.is_dir():
        if not path.exists():
            raise UserError(f"{source}: must be a sound file, a folder or s3://bucket/prefix; it does not exist")
        return [_from_file(source)]
    files = [file for file in sorted(path.rglob("*")) if _is_sound(file.relative_to(path)) and file.is_file()]
    if not files:
        raise UserError(f"{source}: the folder has no sound file; their names end in {', '.join(sorted(SUFFIXES))}")
    return [_from_file(str(file)) for file in files]


def _in_bucket(source: str) -> list[Recording]:
    source = source.rstrip("/")
    parent, _, last = source.rpartition("/")
    # A single object is looked up in the list of its parent.
    root, prefix = (parent, last) if _is_sound(PurePath(last)) and parent.count("/") > 1 else (source, "")
    entries = ObjectStore(root).entries(prefix)
    objects = ObjectStore(root, _RETRY_TIMEOUT_S)
    sizes = {name: entry.size for name, entry in entries.items() if _is_sound(PurePath(name))}
    if not sizes:
        raise UserError(f"{source}: has no sound file; their names end in {', '.join(sorted(SUFFIXES))}")
    return [_from_object(objects, name, size) for name, size in sizes.items()]


def _is_sound(name: PurePath) -> bool:
    return name.suffix.lower() in SUFFIXES and not any(part.startswith(".") for part in name.parts)


def _from_file(path: str) -> Recording:
    # Parquet stores names as UTF-8.
    return Recording(path.encode("utf-8", "surrogateescape").decode("utf-8", "replace"), lambda: path)


def _from_object(objects: ObjectStore, name: str, size: int) -> Recording:
    def open_object() -> io.BytesIO:
        try:
            return io.BytesIO(objects.read(name))
        except FileNotFoundError:
            raise UnusableClipError("does not exist") from None
        except TooLargeError as reason:
            raise UnusableClipError(str(reason)) from None

    return Recording(f"{objects.uri}/{name}", open_object, max(1, size))
