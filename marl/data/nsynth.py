"""NSynth: single notes of 1,006 instruments, four seconds at 16 kHz each.

Engel et al., "Neural Audio Synthesis of Musical Notes with WaveNet Autoencoders", 2017. The folder is read as it is
published, with `examples.json` and `audio/<note>.wav`.
"""

import json
import re
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from marl.data.audio_dataset import AudioDatasetConfig, Entry, Value
from marl.data.audio_file import read_mono
from marl.data.dataset import random_order
from marl.data.folder import digest_of

__all__ = ["DATASET", "NSynth"]

_EXAMPLES = "examples.json"
_NOTE = re.compile(r"[A-Za-z0-9_.-]+")
_MAX_MIDI = 127
_MAX_SHOWN_CHARS = 60
# Name of each factor in `examples.json`.
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
    """Configuration of a part of NSynth, such as `nsynth-valid`."""

    description: ClassVar[str] = "NSynth: notes of acoustic, electronic and synthetic instruments"
    reference: ClassVar[str] = _REFERENCE
    factor_names: ClassVar[tuple[str, ...]] = tuple(_FIELDS)

    kind: Literal["nsynth"] = "nsynth"
    """Notes of the data set NSynth."""
    path: str
    """Folder of the part, with `examples.json`."""
    at_most: int | None = Field(None, ge=1)
    """Maximum number of notes, a random sample that is always the same; by default all."""

    def digest(self) -> str:
        """Return the SHA-256 of the notes in use and of `examples.json`."""
        return digest_of(Path(self.path), [_EXAMPLES, *(f"audio/{note}.wav" for note in self._notes())])

    def entries(self) -> list[Entry]:
        """Return an entry for each note."""
        entries = []
        for note, example in self._notes().items():
            try:
                values = tuple(_value(example, field) for field in _FIELDS.values())
            except ValueError as error:
                raise ValueError(f"{Path(self.path, _EXAMPLES)}: note {note!r}: {error}") from None
            entries.append(Entry(note, values, str(values[0]), (note,)))
        return entries

    def waveform(self, entry: Entry, sample_rate: int, samples: int) -> NDArray[np.float32]:
        """Return the waveform of a note."""
        path = Path(self.path, "audio", f"{entry.locator[0]}.wav")
        waveform = read_mono(path, sample_rate, 0.0, samples / sample_rate)
        return np.pad(waveform, (0, samples - len(waveform)))

    def _notes(self) -> dict[str, dict[str, Any]]:
        """Return the notes in use, sorted by name."""
        path = Path(self.path, _EXAMPLES)
        try:
            examples = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise ValueError(f"path must be a folder of NSynth with {_EXAMPLES}; {path} does not exist") from None
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{path} must be JSON: {error}; download it again") from None
        if not isinstance(examples, dict) or not examples:
            raise ValueError(f"{path} must have an object for each note; got {_short(examples)}")
        for note, example in examples.items():
            if not _NOTE.fullmatch(note):  # it is also the name of a file
                raise ValueError(
                    f"{path}: the name of a note must have only letters, digits, '_', '.' and '-'; got {_short(note)}"
                )
            if not isinstance(example, dict):
                raise ValueError(f"{path}: note {note!r} must be an object; got {_short(example)}")
        return {note: examples[note] for note in sorted(sorted(examples, key=random_order)[: self.at_most])}


DATASET = NSynth


def _value(example: dict[str, Any], field: str) -> Value:
    value = example.get(field)
    if field.endswith("_str"):
        if not isinstance(value, str) or not value or not value.isprintable():
            raise ValueError(f"{field} must be a word; got {_short(value)}")
        return value
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= _MAX_MIDI:
        raise ValueError(f"{field} must be a MIDI number from 0 to {_MAX_MIDI}; got {_short(value)}")
    return float(value)


def _short(value: object) -> str:
    return repr(value)[:_MAX_SHOWN_CHARS]
