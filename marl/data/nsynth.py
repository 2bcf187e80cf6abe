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

from marl.data.audio_file import read_mono
from marl.data.folder import digest_of
from marl.data.source import AudioDatasetConfig, Entry, Source, UnusableClipError, Value

__all__ = ["DATASET", "NSynth"]

_EXAMPLES = "examples.json"
_NOTE = re.compile(r"[A-Za-z0-9_.-]+")
_MIDI_MOST = 127
_LONGEST_SHOWN = 60
# Each factor, and what `examples.json` calls it.
_FIELDS = {
    "instrument": "instrument_str",
    "family": "instrument_family_str",
    "pitch": "pitch",
    "velocity": "velocity",
    "source": "instrument_source_str",
}
_REFERENCE = """@inproceedings{engel2017neural,
  title = {Neural Audio Synthesis of Musical Notes with {WaveNet} Autoencoders},
  author = {Engel, Jesse and Resnick, Cinjon and Roberts, Adam and Dieleman, Sander and Norouzi, Mohammad and
            Eck, Douglas and Simonyan, Karen},
  year = {2017}, eprint = {1704.01279}, archivePrefix = {arXiv}
}"""


class NSynth(AudioDatasetConfig):
    """A part of NSynth, such as its `nsynth-valid`.

    Attributes:
        path: the folder of one part, with `examples.json` in it.
        at_most: so many notes of it, a sample that is fair and always the same; by default all.
    """

    description: ClassVar[str] = "NSynth: notes of acoustic, electronic and synthetic instruments"
    reference: ClassVar[str] = _REFERENCE
    factor_names: ClassVar[tuple[str, ...]] = tuple(_FIELDS)

    kind: Literal["nsynth"] = "nsynth"
    path: str
    at_most: int | None = Field(None, ge=1)

    def source(self) -> Source:
        """Return the source of the clips."""
        return _NSynthSource(self)


DATASET = NSynth


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
            try:
                values = tuple(_value(example, field) for field in _FIELDS.values())
            except ValueError as error:
                raise ValueError(f"{self._root / _EXAMPLES}: note {note!r}: {error}") from None
            found.append(Entry(note, values, str(values[0]), (note,)))
        return found

    def waveforms(
        self, entries: Sequence[Entry], sample_rate: int, samples: int
    ) -> Iterable[NDArray[np.float32] | UnusableClipError]:
        for entry in entries:
            try:
                found = read_mono(
                    self._root / "audio" / f"{entry.locator[0]}.wav", sample_rate, 0.0, samples / sample_rate
                )
                yield np.pad(found, (0, samples - len(found)))
            except UnusableClipError as reason:
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
            raise ValueError(f"{path} must be JSON; it is not: {error}; fetch it anew") from None
        if not isinstance(examples, dict) or not examples:
            raise ValueError(f"{path} must hold an object for each note by its name; it holds {_short(examples)}")
        for note, example in examples.items():
            if not _NOTE.fullmatch(note):
                raise ValueError(
                    f"{path}: a note's name has letters, digits, '_', '.' and '-' alone, since it names a file; "
                    f"got {_short(note)}"
                )
            if not isinstance(example, dict):
                raise ValueError(f"{path}: note {note!r} must be an object; it is {_short(example)}")
        notes = sorted(examples, key=_score)[: self._at_most]
        return {note: examples[note] for note in sorted(notes)}


def _score(note: str) -> bytes:
    """What is random and fixed."""
    return hashlib.sha256(note.encode()).digest()


def _value(example: dict[str, Any], field: str) -> Value:
    found = example.get(field)
    if field.endswith("_str"):
        if not isinstance(found, str) or not found or not found.isprintable():
            raise ValueError(f"{field} must be a word; it is {_short(found)}")
        return found
    if isinstance(found, bool) or not isinstance(found, int | float) or not 0 <= found <= _MIDI_MOST:
        raise ValueError(f"{field} must be a number of MIDI, from 0 to {_MIDI_MOST}; it is {_short(found)}")
    return float(found)


def _short(value: object) -> str:
    return repr(value)[:_LONGEST_SHOWN]
