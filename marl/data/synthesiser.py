"""Notes played on the instruments of a SoundFont by FluidSynth, as mono waveforms."""

import ctypes
import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["FAMILIES", "TIMGM", "Note", "digest_of_font", "preset_names", "render"]

TIMGM = "/usr/share/sounds/sf2/TimGM6mb.sf2"
"""Of Debian's package timgm6mb-soundfont: 128 sampled instruments in 6 MB."""

FAMILIES = (
    *("piano", "chromatic percussion", "organ", "guitar", "bass", "strings", "ensemble", "brass"),
    *("reed", "pipe", "synth lead", "synth pad", "synth effects", "ethnic", "percussive", "sound effects"),
)
"""Of General MIDI, eight programs each."""

_PROGRAMS = 128
# The loudest single note of the fonts of Debian, at full velocity, then reaches 0.7 of full scale (measured over keys
# 36 to 83); melodies, whose notes ring on, stay below it too.
_GAIN = 1.0
# FluidSynth looks for events once in so many samples.
_GRID = 64
_RATES_HZ = (8_000, 96_000)
_SETTINGS = {
    "synth.reverb.active": 0,  # of the player's room, not of the instrument
    "synth.chorus.active": 0,
    "synth.dynamic-sample-loading": 1,
    "synth.cpu-cores": 1,
}


class Note(NamedTuple):
    """A key that is held.

    Attributes:
        start_s: from when.
        length_s: for how long.
        key: MIDI number; 69 is 440 Hz.
        velocity: how hard it is struck, 1 to 127.
    """

    start_s: float
    length_s: float
    key: int
    velocity: int


def preset_names(font: str) -> dict[int, str]:
    """Names of a font's instruments by program, of its first bank; a name that comes twice has its program added.

    Raises:
        FileNotFoundError: when there is no such file, or no FluidSynth.
        ValueError: when it is no SoundFont.
    """
    with _synthesiser(font, _RATES_HZ[0]) as (synthesiser, number):
        found = {
            program: synthesiser.sfpreset_name(number, 0, program)
            for program in range(_PROGRAMS)
            if synthesiser.program_select(0, number, 0, program) == 0
        }
    names = [str(name or f"program {program}").strip() for program, name in found.items()]
    return {
        program: name if names.count(name) == 1 else f"{name} ({program})"
        for program, name in zip(found, names, strict=True)
    }


def render(font: str, program: int, notes: Sequence[Note], sample_rate: int, samples: int) -> NDArray[np.float32]:
    """What an instrument plays, [samples]; without reverb and chorus, the two channels averaged.

    Each time on a synthesiser of its own: what one has played before changes what it plays next, if only by some
    ten-thousandths.

    Raises:
        FileNotFoundError: when there is no such file, or no FluidSynth.
        ValueError: when it is no SoundFont, or has no such instrument, or FluidSynth knows no such sample rate.
    """
    least, most = _RATES_HZ
    if not least <= sample_rate <= most:
        raise ValueError(
            f"audio.sample_rate must lie between {least:,} and {most:,} Hz for a SoundFont; got {sample_rate}"
        )
    events: dict[int, list[tuple[bool, Note]]] = {}
    for note in notes:
        events.setdefault(_on_grid(note.start_s * sample_rate), []).append((True, note))
        events.setdefault(_on_grid((note.start_s + note.length_s) * sample_rate), []).append((False, note))
    whole = -(-samples // _GRID) * _GRID
    sound = np.zeros((whole, 2), np.float32)
    with _synthesiser(font, sample_rate) as (synthesiser, number):
        if synthesiser.program_select(0, number, 0, program):
            raise ValueError(f"instruments: {font} has no program {program}")
        done = 0
        for frame in sorted(events):
            _write(synthesiser, sound, done, min(frame, whole))
            done = min(frame, whole)
            # What ends here ends before the next begins, which may be on the same key.
            for begins, note in sorted(events[frame]):
                if begins:
                    synthesiser.noteon(0, note.key, note.velocity)
                else:
                    synthesiser.noteoff(0, note.key)
        _write(synthesiser, sound, done, whole)
    mono: NDArray[np.float32] = sound[:samples].mean(axis=1, dtype=np.float32)
    return mono


def digest_of_font(font: str) -> str:
    """SHA-256 of a font."""
    return hashlib.sha256(Path(font).read_bytes()).hexdigest()


def _on_grid(frame: float) -> int:
    return round(frame / _GRID) * _GRID


def _write(synthesiser: Any, sound_S2: NDArray[np.float32], first: int, end: int) -> None:
    """The next samples, into their place; both channels of a sample beside each other."""
    if first < end:
        place = sound_S2.ctypes.data + first * sound_S2.strides[0]
        _library().fluid_synth_write_float(synthesiser.synth, end - first, place, 0, 2, place, 1, 2)


@contextmanager
def _synthesiser(font: str, sample_rate: int) -> Iterator[tuple[Any, int]]:
    """A new synthesiser and the number that it has given the font."""
    if not Path(font).is_file():
        hint = "; it is in Debian's package timgm6mb-soundfont" if font == TIMGM else ""
        raise FileNotFoundError(f"path must be a SoundFont, .sf2 or .sf3; {font} is not there{hint}")
    _library()
    import fluidsynth

    synthesiser = fluidsynth.Synth(_GAIN, sample_rate, 16, **_SETTINGS)
    try:
        number = synthesiser.sfload(font)
        if number < 0:
            raise ValueError(f"path must be a SoundFont, .sf2 or .sf3; FluidSynth cannot read {font}")
        yield synthesiser, number
    finally:
        synthesiser.delete()


def _library() -> Any:
    """FluidSynth's own library, told to be quiet: what it says would be among our lines."""
    try:
        import fluidsynth
    except ImportError:
        raise FileNotFoundError("FluidSynth is not there; it is in Debian's package libfluidsynth3") from None
    library = fluidsynth._fl
    if not getattr(library, "is_quiet", False):
        for level in range(5):
            library.fluid_set_log_function(level, None, None)
        pointer, number = ctypes.c_void_p, ctypes.c_int
        library.fluid_synth_write_float.argtypes = [pointer, number, pointer, number, number, pointer, number, number]
        library.is_quiet = True
    return library
