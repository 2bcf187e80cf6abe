"""NSynth (Engel et al., "Neural Audio Synthesis of Musical Notes with WaveNet Autoencoders", 2017), as it is published.

A folder with `examples.json` and `audio/<note>.wav`: single notes of 1,006 instruments, four seconds at 16 kHz each.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from marl.data.folder import digest_of
from marl.data.recording import read_mono
from marl.data.source import Entry, Sounds, Source, Unusable, Value

__all__ = ["NSynth", "source"]

_EXAMPLES = "examples.json"
_NOTE = re.compile(r"[A-Za-z0-9_.-]+")
# Each factor, and what `examples.json` calls it.
_FIELDS = {
    "instrument": "instrument_str",
    "family": "instrument_family_str",
    "pitch": "pitch",
    "velocity": "velocity",
    "source": "instrument_source_str",
}


class NSynth(Sounds):
    """A part of NSynth, such as its `nsynth-valid`.

    Attributes:
        path: the folder of one part, with `examples.json` in it.
        at_most: so many notes of it, a sample that is fair and always the same; by default all.
    """

    factor_names: ClassVar[tuple[str, ...]] = tuple(_FIELDS)

    kind: Literal["nsynth"] = "nsynth"
    path: str
    at_most: int | None = Field(None, ge=1)


def source(config: NSynth) -> Source:
    """Where the clips come from."""
    return _NSynthSource(config)


class _NSynthSource:
    """See `marl.data.source.Source`."""

    factor_names = NSynth.factor_names

    def __init__(self, config: NSynth) -> None:
        self._root = Path(config.path)
        self._at_most = config.at_most

    def digest(self) -> str:
        return digest_of(self._root, [_EXAMPLES, *(f"audio/{note}.wav" for note in self._notes())])

    def entries(self) -> list[Entry]:
        found = []
        for note, example in self._notes().items():
            values = tuple(_value(example.get(field)) for field in _FIELDS.values())
            found.append(Entry(note, values, str(values[0]), (note,)))
        return found

    def waveforms(
        self, entries: Sequence[Entry], sample_rate: int, samples: int
    ) -> Iterable[NDArray[np.float32] | Unusable]:
        for entry in entries:
            try:
                found = read_mono(
                    self._root / "audio" / f"{entry.place[0]}.wav", sample_rate, 0.0, samples / sample_rate
                )
                yield np.pad(found, (0, samples - len(found)))
            except Unusable as reason:
                yield reason

    def _notes(self) -> dict[str, dict[str, Any]]:
        """The notes that are used, sorted.

        Raises:
            ValueError: when there is no `examples.json`, or it is not what it is in NSynth.
        """
        path = self._root / _EXAMPLES
        try:
            examples = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise ValueError(f"path must be a folder of NSynth with {_EXAMPLES} in it; {path} is not there") from None
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{path} is no JSON: {error}") from None
        if not isinstance(examples, dict) or not all(isinstance(example, dict) for example in examples.values()):
            raise ValueError(f"{path} must hold an object for each note by its name")
        for note in examples:
            if not _NOTE.fullmatch(note):
                raise ValueError(f"{path}: a note's name has letters, digits, '_', '.' and '-'; got {note!r}")
        notes = sorted(examples, key=_score)[: self._at_most]
        return {note: examples[note] for note in sorted(notes)}


def _score(note: str) -> bytes:
    """What is random and fixed."""
    return hashlib.sha256(note.encode()).digest()


def _value(field: object) -> Value:
    if isinstance(field, bool) or not isinstance(field, str | int | float):
        return None
    return field if isinstance(field, str) else float(field)
