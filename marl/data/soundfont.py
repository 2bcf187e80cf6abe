"""Single notes of sampled instruments: every one of some instruments, pitches and velocities, from a SoundFont.

With Debian's packages `libfluidsynth3` and `timgm6mb-soundfont`, or any other font, anybody can make a set of realistic
instruments without downloading sounds.
"""

import itertools
from collections.abc import Iterable, Sequence
from typing import Annotated, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, field_validator, model_validator

from marl.data.fluidsynth import FAMILIES, TIMGM, Note, digest_of_font, preset_names, render
from marl.data.source import AudioDatasetConfig, Entry, Source, UnusableClipError

__all__ = ["DATASET", "Program", "SoundFont", "named_programs"]

Program = Annotated[int, Field(ge=0, le=127)]
_Velocity = Annotated[int, Field(ge=1, le=127)]

# Of each family of General MIDI that plays melodies, in the order of its programs.
_INSTRUMENTS = (
    *(0, 4, 6, 8, 11, 12, 16, 19, 21, 24, 25, 27, 30, 32, 33, 38, 40, 42, 45, 46),
    *(48, 52, 56, 57, 60, 61, 64, 66, 68, 70, 71, 72, 73, 75, 79, 80, 81, 89, 104, 105),
)


class SoundFont(AudioDatasetConfig):
    """40 instruments x 48 pitches x 5 velocities by default, 9,600 notes.

    Attributes:
        path: the font, .sf2 or .sf3.
        instruments: General MIDI programs, 0 to 127.
        lowest: key, MIDI number.
        highest: key, included.
        velocities: how hard keys are struck, 1 to 127.
        hold_s: for how long a key is held, seconds; then the note dies away.
    """

    description: ClassVar[str] = "single notes of sampled instruments, rendered from a SoundFont by FluidSynth"
    factor_names: ClassVar[tuple[str, ...]] = ("instrument", "family", "pitch", "velocity")

    kind: Literal["soundfont"] = "soundfont"
    path: str = TIMGM
    instruments: tuple[Program, ...] = Field(_INSTRUMENTS, min_length=2)
    lowest: int = Field(36, ge=0, le=127)
    highest: int = Field(83, ge=0, le=127)
    velocities: tuple[_Velocity, ...] = Field((25, 50, 75, 100, 127), min_length=2)
    hold_s: float = Field(0.75, gt=0)

    @field_validator("instruments", "velocities")
    @classmethod
    def _are_different(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if len(set(value)) < len(value):
            raise ValueError(f"must not hold a number twice; got {list(value)}")
        return value

    @model_validator(mode="after")
    def _has_pitches(self) -> "SoundFont":
        if not self.lowest < self.highest:
            raise ValueError(f"lowest must be below highest; got {self.lowest} and {self.highest}")
        return self

    def source(self) -> Source:
        """Return the source of the clips."""
        return _SoundFontSource(self)


DATASET = SoundFont


def named_programs(font: str, instruments: Sequence[int]) -> dict[int, str]:
    """Names of instruments by program.

    Raises:
        ValueError: when the font has not all of them.
    """
    names = preset_names(font)
    if missing := [program for program in instruments if program not in names]:
        raise ValueError(f"instruments: {font} has no program {', '.join(map(str, missing))}")
    return {program: names[program] for program in instruments}


class _SoundFontSource:
    """See `marl.data.source.Source`."""

    factor_names = SoundFont.factor_names

    def __init__(self, config: SoundFont) -> None:
        self._config = config

    def digest(self) -> str:
        return digest_of_font(self._config.path)

    def entries(self) -> list[Entry]:
        config = self._config
        names = named_programs(config.path, config.instruments)
        keys = range(config.lowest, config.highest + 1)
        return [
            Entry(
                f"program {program} ({names[program]}), key {key}, velocity {velocity}",
                (names[program], FAMILIES[program // 8], float(key), float(velocity)),
                names[program],
                (program, key, velocity),
            )
            for program, key, velocity in itertools.product(config.instruments, keys, config.velocities)
        ]

    def waveforms(
        self, entries: Sequence[Entry], sample_rate: int, samples: int
    ) -> Iterable[NDArray[np.float32] | UnusableClipError]:
        for entry in entries:
            program, key, velocity = entry.locator
            note = Note(0.0, self._config.hold_s, key, velocity)
            yield render(self._config.path, program, [note], sample_rate, samples)
