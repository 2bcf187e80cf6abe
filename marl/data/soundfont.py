"""Single notes of sampled instruments, rendered from a SoundFont.

Every combination of the configured instruments, pitches and velocities is a clip. Debian's packages `libfluidsynth3`
and `timgm6mb-soundfont` suffice; any other font can be used.
"""

import itertools
from abc import abstractmethod
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from marl.base_config import Distinct
from marl.data.audio_dataset import AudioDatasetConfig, Entry
from marl.data.fluidsynth import FAMILIES, TIMGM, Note, font_digest, preset_names, render

__all__ = ["DATASET", "FontConfig", "Program", "SoundFont"]

Program = Annotated[int, Field(ge=0, le=127)]
_Velocity = Annotated[int, Field(ge=1, le=127)]

# Programs of all families of General MIDI that play melodies.
_INSTRUMENTS = (
    *(0, 4, 6, 8, 11, 12, 16, 19, 21, 24, 25, 27, 30, 32, 33, 38, 40, 42, 45, 46),
    *(48, 52, 56, 57, 60, 61, 64, 66, 68, 70, 71, 72, 73, 75, 79, 80, 81, 89, 104, 105),
)


class FontConfig(AudioDatasetConfig):
    """Configuration of a data set whose clips are rendered from a SoundFont."""

    path: str = TIMGM
    """File of the font, .sf2 or .sf3."""
    instruments: Annotated[tuple[Program, ...], Distinct] = Field(min_length=2)
    """General MIDI programs, 0 to 127."""

    def digest(self) -> str:
        """Return the SHA-256 of the font."""
        return font_digest(self.path)

    def instrument_names(self) -> dict[int, str]:
        """Return the names of the instruments by program."""
        names = preset_names(self.path)
        if missing := [program for program in self.instruments if program not in names]:
            raise ValueError(f"instruments: {self.path} has no program {', '.join(map(str, missing))}")
        return {program: names[program] for program in self.instruments}

    @abstractmethod
    def notes(self, locator: tuple[Any, ...], seconds: float) -> list[Note]:
        """Return the notes of an entry, given its locator without the program."""

    def waveform(self, entry: Entry, sample_rate: int, samples: int) -> NDArray[np.float32]:
        """Return the waveform [samples] of the notes of an entry."""
        program, *locator = entry.locator
        return render(self.path, program, self.notes(tuple(locator), samples / sample_rate), sample_rate, samples)


class SoundFont(FontConfig):
    """Configuration of notes. By default 40 instruments x 48 pitches x 5 velocities, 9,600 clips."""

    description: ClassVar[str] = "single notes of sampled instruments, rendered from a SoundFont by FluidSynth"
    factor_names: ClassVar[tuple[str, ...]] = ("instrument", "family", "pitch", "velocity")

    kind: Literal["soundfont"] = "soundfont"
    """Single notes of sampled instruments."""
    instruments: Annotated[tuple[Program, ...], Distinct] = Field(_INSTRUMENTS, min_length=2)
    """General MIDI programs, 0 to 127. By default 40 programs of all families that play melodies."""
    lowest: int = Field(36, ge=0, le=127)
    """Lowest key, MIDI number."""
    highest: int = Field(83, ge=0, le=127)
    """Highest key, MIDI number, inclusive."""
    velocities: Annotated[tuple[_Velocity, ...], Distinct] = Field((25, 50, 75, 100, 127), min_length=2)
    """MIDI velocities, 1 to 127."""
    hold_s: float = Field(0.75, gt=0)
    """Time until a key is released, seconds."""

    @model_validator(mode="after")
    def _has_pitches(self) -> "SoundFont":
        if not self.lowest < self.highest:
            raise ValueError(f"lowest must be below highest; got {self.lowest} and {self.highest}")
        return self

    def entries(self) -> list[Entry]:
        """Return an entry for each combination of instrument, pitch and velocity."""
        names, keys = self.instrument_names(), range(self.lowest, self.highest + 1)
        return [
            Entry(
                f"program {program} ({names[program]}), key {key}, velocity {velocity}",
                (names[program], FAMILIES[program // 8], float(key), float(velocity)),
                names[program],
                (program, key, velocity),
            )
            for program, key, velocity in itertools.product(self.instruments, keys, self.velocities)
        ]

    def notes(self, locator: tuple[Any, ...], seconds: float) -> list[Note]:
        """Return the note of an entry."""
        key, velocity = locator
        return [Note(0.0, self.hold_s, key, velocity)]


DATASET = SoundFont
