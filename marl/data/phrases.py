"""Phrases of a few seconds: a melody in a rhythm at a tempo, played by an instrument of a SoundFont.

Their factors are the attributes that the papers speak of: timbre, pitch and rhythm. Which of them two views share is
for a study to say.
"""

import itertools
from collections.abc import Iterable, Sequence
from typing import Annotated, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, field_validator

from marl.data.fluidsynth import TIMGM, Note, digest_of_font, render
from marl.data.soundfont import Program, named_programs
from marl.data.source import AudioDatasetConfig, Entry, Source, UnusableClipError

__all__ = ["DATASET", "MELODIES", "RHYTHMS", "Phrases", "notes_of"]

MELODIES = {
    "scale up": (0, 1, 2, 3, 4, 5, 6, 7),
    "scale down": (7, 6, 5, 4, 3, 2, 1, 0),
    "arpeggio up": (0, 2, 4, 7, 9, 7, 4, 2),
    "arpeggio down": (9, 7, 4, 2, 0, 2, 4, 7),
    "thirds": (0, 2, 1, 3, 2, 4, 3, 5),
    "arch": (0, 2, 4, 5, 4, 3, 2, 1),
    "valley": (7, 5, 4, 2, 1, 2, 4, 5),
    "turn": (4, 5, 4, 3, 4, 6, 5, 4),
    "pedal": (0, 4, 0, 5, 0, 6, 0, 7),
    "leaps": (0, 7, 1, 6, 2, 5, 3, 4),
    "call": (0, 0, 4, 4, 5, 5, 4, 4),
    "lament": (7, 6, 5, 4, 4, 3, 2, 2),
}
"""Eight degrees of a major scale each, from 0, its lowest note."""

RHYTHMS = {
    "straight": "x...x...x...x...",
    "running": "x.x.x.x.x.x.x.x.",
    "dotted": "x..xx..xx..xx..x",
    "gallop": "x.xxx.xxx.xxx.xx",
    "tresillo": "x..x..x.x..x..x.",
    "habanera": "x..xx.x.x..xx.x.",
    "son clave": "x..x..x...x.x...",
    "off-beat": "..x...x...x...x.",
    "syncopated": "x..x.x..x..x.x..",
    "half": "x.......x.......",
}
"""Where notes begin in the sixteenths of a bar of four beats; bar after bar."""

_MAJOR = (0, 2, 4, 5, 7, 9, 11)
_SIXTEENTHS_PER_BEAT = 4
_HELD = 0.9  # of the time up to the next note
_VELOCITY, _ACCENT = 90, 112
_Tempo = Annotated[float, Field(ge=30, le=300)]


class Phrases(AudioDatasetConfig):
    """20 instruments x 12 melodies x 8 rhythms x 5 tempos by default, 9,600 phrases.

    A melody's notes come one after another where the rhythm has a note, from the beginning again when it is over. A
    phrase fills its clip, so `audio.clip_s` should hold a bar or two: four seconds are two bars at 120.

    Attributes:
        path: the font, .sf2 or .sf3.
        instruments: General MIDI programs, 0 to 127, that speak quickly.
        melodies: some of `MELODIES`.
        rhythms: some of `RHYTHMS`.
        tempos: beats per minute.
        key: of the scale's lowest note, MIDI number.
    """

    description: ClassVar[str] = "phrases played by sampled instruments, rendered from a SoundFont by FluidSynth"
    factor_names: ClassVar[tuple[str, ...]] = ("instrument", "melody", "rhythm", "tempo")

    kind: Literal["phrases"] = "phrases"
    path: str = TIMGM
    instruments: tuple[Program, ...] = Field(
        (0, 4, 6, 11, 12, 16, 21, 24, 25, 32, 40, 45, 46, 56, 60, 66, 68, 71, 73, 80), min_length=2
    )
    melodies: tuple[str, ...] = Field(tuple(MELODIES), min_length=2)
    rhythms: tuple[str, ...] = Field(tuple(RHYTHMS)[:8], min_length=2)
    tempos: tuple[_Tempo, ...] = Field((80.0, 95.0, 110.0, 125.0, 140.0), min_length=2)
    key: int = Field(60, ge=12, le=96)

    @field_validator("instruments", "melodies", "rhythms", "tempos")
    @classmethod
    def _are_different(cls, value: tuple[object, ...]) -> tuple[object, ...]:
        if len(set(value)) < len(value):
            raise ValueError(f"must not hold anything twice; got {list(value)}")
        return value

    @field_validator("melodies", "rhythms")
    @classmethod
    def _are_known(cls, value: tuple[str, ...], info: object) -> tuple[str, ...]:
        known = MELODIES if getattr(info, "field_name", "") == "melodies" else RHYTHMS
        if unknown := [name for name in value if name not in known]:
            raise ValueError(f"must be of {', '.join(known)}; got {', '.join(unknown)}")
        return value

    def source(self) -> Source:
        """Return the source of the clips."""
        return _PhraseSource(self)


DATASET = Phrases


def notes_of(melody: str, rhythm: str, tempo: float, key: int, seconds: float) -> list[Note]:
    """The notes that begin within some seconds.

    Args:
        melody: of `MELODIES`.
        rhythm: of `RHYTHMS`.
        tempo: beats per minute.
        key: of the scale's lowest note, MIDI number.
        seconds: how long the phrase is.
    """
    sixteenth_s = 60 / tempo / _SIXTEENTHS_PER_BEAT
    pattern, degrees = RHYTHMS[rhythm], MELODIES[melody]
    steps = [
        step for step in range(int(seconds / sixteenth_s) + 2 * len(pattern)) if pattern[step % len(pattern)] == "x"
    ]
    notes = []
    for number, (step, following) in enumerate(itertools.pairwise(steps)):
        if step * sixteenth_s >= seconds:
            break
        octave, degree = divmod(degrees[number % len(degrees)], len(_MAJOR))
        notes.append(
            Note(
                step * sixteenth_s,
                (following - step) * sixteenth_s * _HELD,
                key + 12 * octave + _MAJOR[degree],
                _ACCENT if step % len(pattern) == 0 else _VELOCITY,
            )
        )
    return notes


class _PhraseSource:
    """See `marl.data.source.Source`."""

    factor_names = Phrases.factor_names

    def __init__(self, config: Phrases) -> None:
        self._config = config

    def digest(self) -> str:
        return digest_of_font(self._config.path)

    def entries(self) -> list[Entry]:
        config = self._config
        names = named_programs(config.path, config.instruments)
        every = itertools.product(config.instruments, config.melodies, config.rhythms, config.tempos)
        return [
            Entry(
                f"program {program} ({names[program]}), {melody}, {rhythm}, {tempo:g} bpm",
                (names[program], melody, rhythm, tempo),
                names[program],
                (program, melody, rhythm, tempo),
            )
            for program, melody, rhythm, tempo in every
        ]

    def waveforms(
        self, entries: Sequence[Entry], sample_rate: int, samples: int
    ) -> Iterable[NDArray[np.float32] | UnusableClipError]:
        for entry in entries:
            program, melody, rhythm, tempo = entry.locator
            notes = notes_of(melody, rhythm, tempo, self._config.key, samples / sample_rate)
            yield render(self._config.path, program, notes, sample_rate, samples)
