"""Single notes of sampled instruments, rendered from a SoundFont.

Every combination of the configured instruments, pitches and velocities is a clip. Debian's packages `libfluidsynth3`
and `timgm6mb-soundfont` suffice; any other font can be used.
"""

import itertools
from collections.abc import Iterable, Sequence
from typing import Annotated, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from marl.base_config import Distinct
from marl.data.fluidsynth import FAMILIES, TIMGM, Note, font_digest, preset_names, render
from marl.data.source import AudioDatasetConfig, Entry, Source, UnusableClipError

__all__ = ["DATASET", "Program", "SoundFont", "named_programs"]

Program = Annotated[int, Field(ge=0, le=127)]
_Velocity = Annotated[int, Field(ge=1, le=127)]

# Programs of all families of General MIDI that play melodies.
_INSTRUMENTS = (
    *(0, 4, 6, 8, 11, 12, 16, 19, 21, 24, 25, 27, 30, 32, 33, 38, 40, 42, 45, 46),
    *(48, 52, 56, 57, 60, 61, 64, 66, 68, 70, 71, 72, 73, 75, 79, 80, 81, 89, 104, 105),
)


class SoundFont(AudioDatasetConfig):
    """Configuration of notes. By default 40 instruments x 48 pitches x 5 velocities, 9,600 clips.

    Attributes:
        path: Font, .sf2 or .sf3.
        instruments: General MIDI programs, 0 to 127.
        lowest: Lowest key, MIDI number.
        highest: Highest key, MIDI number, inclusive.
        velocities: MIDI velocities, 1 to 127.
        hold_s: Time until a key is released, seconds.
    """

    description: ClassVar[str] = "single notes of sampled instruments, rendered from a SoundFont by FluidSynth"
    factor_names: ClassVar[tuple[str, ...]] = ("instrument", "family", "pitch", "velocity")

    kind: Literal["soundfont"] = "soundfont"
    path: str = TIMGM
    instruments: Annotated[tuple[Program, ...], Distinct] = Field(_INSTRUMENTS, min_length=2)
    lowest: int = Field(36, ge=0, le=127)
    highest: int = Field(83, ge=0, le=127)
    velocities: Annotated[tuple[_Velocity, ...], Distinct] = Field((25, 50, 75, 100, 127), min_length=2)
    hold_s: float = Field(0.75, gt=0)

    @model_validator(mode="after")
    def _has_pitches(self) -> "SoundFont":
        if not self.lowest < self.highest:
            raise ValueError(f"lowest must be below highest; got {self.lowest} and {self.highest}")
        return self

    def source(self) -> Source:
        """Return the source of the notes."""
        return _SoundFontSource(self)


DATASET = SoundFont


def named_programs(font: str, instruments: Sequence[int]) -> dict[int, str]:
    """Return the names of instruments by program.

    Raises:
        ValueError: If the font does not have all instruments.
    """
    names = preset_names(font)
    if missing := [program for program in instruments if program not in names]:
        raise ValueError(f"instruments: {font} has no program {', '.join(map(str, missing))}")
    return {program: names[program] for program in instruments}


class _SoundFontSource:
    """Implementation of `marl.data.source.Source`."""

    factor_names = SoundFont.factor_names

    def __init__(self, config: SoundFont) -> None:
        self._config = config

    def digest(self) -> str:
        return font_digest(self._config.path)

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
