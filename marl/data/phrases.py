"""Phrases: a melody in a rhythm at a tempo, played by an instrument of a SoundFont.

The factors are timbre, pitch and rhythm; a study chooses which of them the two views of a pair share.
"""

from itertools import pairwise, product
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, ValidationInfo, field_validator

from marl.base_config import Distinct
from marl.data.audio_dataset import Entry
from marl.data.fluidsynth import Note
from marl.data.soundfont import FontConfig, Program

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
"""Melodies of eight degrees of a major scale; 0 is the lowest note."""

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
"""Rhythms of one bar of four beats, in sixteenths; `x` starts a note."""

_MAJOR = (0, 2, 4, 5, 7, 9, 11)
_SIXTEENTHS_PER_BEAT = 4
# Share of the time until the next note for which a key is held.
_HELD = 0.9
_VELOCITY, _ACCENT = 90, 112
_Tempo = Annotated[float, Field(ge=30, le=300)]
_Melody = Annotated[str, Field(json_schema_extra={"enum": [*MELODIES]})]
_Rhythm = Annotated[str, Field(json_schema_extra={"enum": [*RHYTHMS]})]


class Phrases(FontConfig):
    """Configuration of phrases. By default 20 instruments x 12 melodies x 8 rhythms x 5 tempos, 9,600 clips.

    Each note of the rhythm plays the next note of the melody, which repeats. A phrase fills its clip, so `audio.clip_s`
    should be at least one bar: four seconds are two bars at 120 beats per minute.
    """

    description: ClassVar[str] = "phrases played by sampled instruments, rendered from a SoundFont by FluidSynth"
    factor_names: ClassVar[tuple[str, ...]] = ("instrument", "melody", "rhythm", "tempo")

    kind: Literal["phrases"] = "phrases"
    """Phrases of sampled instruments: a melody in a rhythm at a tempo."""
    instruments: Annotated[tuple[Program, ...], Distinct] = Field(
        (0, 4, 6, 11, 12, 16, 21, 24, 25, 32, 40, 45, 46, 56, 60, 66, 68, 71, 73, 80), min_length=2
    )
    """General MIDI programs, 0 to 127, whose notes start quickly."""
    melodies: Annotated[tuple[_Melody, ...], Distinct] = Field(tuple(MELODIES), min_length=2)
    """Names of melodies."""
    rhythms: Annotated[tuple[_Rhythm, ...], Distinct] = Field(tuple(RHYTHMS)[:8], min_length=2)
    """Names of rhythms. By default eight of the ten: not `syncopated` and `half`."""
    tempos: Annotated[tuple[_Tempo, ...], Distinct] = Field((80.0, 95.0, 110.0, 125.0, 140.0), min_length=2)
    """Tempos, beats per minute."""
    key: int = Field(60, ge=12, le=96)
    """Lowest note of the scale, MIDI number."""

    @field_validator("melodies", "rhythms")
    @classmethod
    def _exist(cls, value: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        names = MELODIES if info.field_name == "melodies" else RHYTHMS
        if unknown := [name for name in value if name not in names]:
            raise ValueError(f"must be of {', '.join(names)}; got {', '.join(unknown)}")
        return value

    def entries(self) -> list[Entry]:
        """Return an entry for each combination of instrument, melody, rhythm and tempo."""
        names = self.instrument_names()
        return [
            Entry(
                f"program {program} ({names[program]}), {melody}, {rhythm}, {tempo:g} bpm",
                (names[program], melody, rhythm, tempo),
                names[program],
                (program, melody, rhythm, tempo),
            )
            for program, melody, rhythm, tempo in product(self.instruments, self.melodies, self.rhythms, self.tempos)
        ]

    def notes(self, locator: tuple[Any, ...], seconds: float) -> list[Note]:
        """Return the notes of a phrase that start within some seconds."""
        melody, rhythm, tempo = locator
        return notes_of(melody, rhythm, tempo, self.key, seconds)


DATASET = Phrases


def notes_of(melody: str, rhythm: str, tempo: float, key: int, seconds: float) -> list[Note]:
    """Return the notes of a phrase that start within some seconds; `Phrases` describes the other arguments."""
    sixteenth_s = 60 / tempo / _SIXTEENTHS_PER_BEAT
    pattern, degrees = RHYTHMS[rhythm], MELODIES[melody]
    max_steps = int(seconds / sixteenth_s) + 2 * len(pattern)
    steps = [step for step in range(max_steps) if pattern[step % len(pattern)] == "x"]
    notes = []
    for number, (step, next_step) in enumerate(pairwise(steps)):
        if step * sixteenth_s >= seconds:
            break
        octave, degree = divmod(degrees[number % len(degrees)], len(_MAJOR))
        length_s = (next_step - step) * sixteenth_s * _HELD
        velocity = _ACCENT if step % len(pattern) == 0 else _VELOCITY
        notes.append(Note(step * sixteenth_s, length_s, key + 12 * octave + _MAJOR[degree], velocity))
    return notes
