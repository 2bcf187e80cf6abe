"""Synthesis of notes with the instruments of a SoundFont by FluidSynth."""

import contextlib
import ctypes
import hashlib
import io
import struct
import threading
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["FAMILIES", "TIMGM", "Note", "Preset", "font_digest", "preset_names", "presets", "render"]

TIMGM = "/usr/share/sounds/sf2/TimGM6mb.sf2"
"""Font of Debian's package timgm6mb-soundfont, 128 sampled instruments in 6 MB."""

FAMILIES = (
    *("piano", "chromatic percussion", "organ", "guitar", "bass", "strings", "ensemble", "brass"),
    *("reed", "pipe", "synth lead", "synth pad", "synth effects", "ethnic", "percussive", "sound effects"),
)
"""Families of General MIDI, eight programs each."""

_PROGRAMS = 128
# With this gain, the loudest note at full velocity over keys 36 to 83 of all programs reaches 0.71 of full scale in
# TimGM6mb and 0.86 in FluidR3_GM. Phrases, whose notes overlap, reach 0.59.
_GAIN = 1.0
# Number of samples between the times at which FluidSynth processes events.
_GRID = 64
_MIN_RATE_HZ, _MAX_RATE_HZ = 8_000, 96_000
_SETTINGS = {
    "synth.reverb.active": 0,  # a property of the room, not of the instrument
    "synth.chorus.active": 0,
    "synth.dynamic-sample-loading": 1,
    "synth.cpu-cores": 1,
}
_CHANNELS = 16

_CHUNK = struct.Struct("<4sI")
_PRESET = struct.Struct("<20sHHHIII")
# Far more than any font has; they bound time and memory for a crafted file.
_MAX_CHUNKS = 256
_MAX_PRESETS = 1 << 15

_lock = threading.Lock()
_open_fonts: "dict[tuple[object, ...], _Font]" = {}


class Note(NamedTuple):
    """A note.

    Attributes:
        length_s: Time from the press to the release of the key, seconds.
        key: MIDI number; 69 is 440 Hz.
        velocity: MIDI velocity, 1 to 127.
    """

    start_s: float
    length_s: float
    key: int
    velocity: int


class Preset(NamedTuple):
    """An instrument of a font.

    Attributes:
        bank: 0 for the instruments of General MIDI, 128 for drums.
        program: Number in the bank.
        name: Name in the font; can be empty.
    """

    bank: int
    program: int
    name: str


def presets(font: str) -> list[Preset]:
    """Return all instruments of a font, in the order of the file. FluidSynth is not needed.

    Raises:
        FileNotFoundError: If the font is missing.
        ValueError: If the file is not a SoundFont, or is truncated.
    """
    try:
        with _path(font).open("rb") as file:
            records = _preset_records(file)
    except ValueError as error:
        raise ValueError(f"path must be a SoundFont, .sf2 or .sf3; {font} is not valid: {error}") from None
    return [
        Preset(bank, program, "".join(filter(str.isprintable, name.split(b"\0")[0].decode("latin-1"))).strip())
        for name, program, bank, *_ in _PRESET.iter_unpack(records[: -_PRESET.size])  # the last record ends the list
    ]


def preset_names(font: str) -> dict[int, str]:
    """Return the name of each instrument of bank 0 by program. Equal names get their programs, as in `Piano (3)`.

    Raises:
        FileNotFoundError: If the font or FluidSynth is missing.
        ValueError: If the file is not a SoundFont.
    """
    with _lock:
        _open_font(font)  # fails early if FluidSynth cannot read the font
    names = dict[int, str]()
    for bank, program, name in presets(font):
        if bank == 0 and program < _PROGRAMS:
            names.setdefault(program, name or f"program {program}")
    while len(set(taken := list(names.values()))) < len(names):
        names = {program: name if taken.count(name) == 1 else f"{name} ({program})" for program, name in names.items()}
    return dict(sorted(names.items()))


def render(font: str, program: int, notes: Sequence[Note], sample_rate: int, samples: int) -> NDArray[np.float32]:
    """Return the waveform [samples] of notes on an instrument, without reverb and chorus, both channels averaged.

    Every call creates a synthesiser, because previous notes change the next ones by up to a tenth of full scale, even
    after a reset. Notes start and end on a grid of 64 samples.

    Raises:
        FileNotFoundError: If the font or FluidSynth is missing.
        ValueError: If the file is not a SoundFont or has no such instrument, or FluidSynth does not support the rate.
    """
    if not _MIN_RATE_HZ <= sample_rate <= _MAX_RATE_HZ:
        raise ValueError(
            f"audio.sample_rate must be from {_MIN_RATE_HZ:,} to {_MAX_RATE_HZ:,} Hz for a SoundFont; got {sample_rate}"
        )
    whole = -(-samples // _GRID) * _GRID
    events = []
    for note in notes:
        times = (note.start_s * sample_rate, (note.start_s + note.length_s) * sample_rate)
        start, end = (min(round(time / _GRID) * _GRID, whole) for time in times)
        events += [(start, True, note), (end, False, note)]
    sound = np.zeros((whole, 2), np.float32)
    with _lock, _open_font(font).synthesiser(program, sample_rate) as synthesiser:
        done = 0
        # At one time, notes end before others start, which can have the same key.
        for frame, is_start, note in sorted(events):
            _write(synthesiser, sound, done, frame)
            done = frame
            if is_start:
                synthesiser.noteon(0, note.key, note.velocity)
            else:
                synthesiser.noteoff(0, note.key)
        _write(synthesiser, sound, done, whole)
    mono: NDArray[np.float32] = sound[:samples].mean(axis=1, dtype=np.float32)
    return mono


def font_digest(font: str) -> str:
    """Return the SHA-256 of a font."""
    with _path(font).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class _Font:
    """A font that stays open, because opening it takes longer than rendering a note.

    A synthesiser that never plays holds the font, and the samples of the last instrument.
    """

    def __init__(self, font: str) -> None:
        self._path, self.holder = font, _new_synthesiser(_MIN_RATE_HZ)
        # Selecting the default instruments here keeps their samples loaded for the other synthesisers.
        self._number = self.holder.sfload(font, 1)
        if self._number < 0:
            self.holder.delete()
            raise ValueError(f"path must be a SoundFont, .sf2 or .sf3; FluidSynth cannot read {font}")
        self._font = _library().fluid_synth_get_sfont_by_id(self.holder.synth, self._number)

    @contextlib.contextmanager
    def synthesiser(self, program: int, sample_rate: int) -> Iterator[Any]:
        """Create a synthesiser with an instrument on its first channel."""
        if self.holder.program_select(0, self._number, 0, program):
            raise ValueError(f"instruments: {self._path} has no program {program}")
        synthesiser = _new_synthesiser(sample_rate)
        try:
            number = _library().fluid_synth_add_sfont(synthesiser.synth, self._font)
            synthesiser.program_select(0, number, 0, program)
            yield synthesiser
        finally:
            _library().fluid_synth_remove_sfont(synthesiser.synth, self._font)  # delete() would close the font
            synthesiser.delete()


def _open_font(font: str) -> _Font:
    """Return the open font. One font stays open; it is opened again if its file has changed."""
    status = _path(font).stat()
    key = (font, status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)
    if key not in _open_fonts:
        presets(font)  # has more informative errors than FluidSynth
        while _open_fonts:
            _open_fonts.popitem()[1].holder.delete()
        _open_fonts[key] = _Font(font)
    return _open_fonts[key]


def _path(font: str) -> Path:
    if not Path(font).is_file():
        hint = "; apt-get install timgm6mb-soundfont" if font == TIMGM else ""
        raise FileNotFoundError(f"path must be a SoundFont, .sf2 or .sf3; {font} does not exist{hint}")
    return Path(font)


def _preset_records(file: BinaryIO) -> bytes:
    """Return the chunk `phdr`, the list of presets, whose format is the same in .sf2 and .sf3."""
    size = file.seek(0, io.SEEK_END)
    file.seek(0)
    header = file.read(12)
    if header[:4] != b"RIFF" or header[8:] != b"sfbk":
        raise ValueError("it does not start with the header of a SoundFont")
    first, end = _inner(file, 0, size, b"RIFF", b"sfbk")
    first, end = _inner(file, first, end, b"LIST", b"pdta")
    first, end = _inner(file, first, end, b"phdr")
    count, rest = divmod(end - first, _PRESET.size)
    if rest or not 2 <= count <= _MAX_PRESETS:
        raise ValueError(f"its list of instruments has an invalid size of {end - first:,} bytes")
    file.seek(first)
    return file.read(end - first)


def _inner(file: BinaryIO, first: int, end: int, wanted: bytes, kind: bytes = b"") -> tuple[int, int]:
    """Return start and end of the content of a chunk, which is searched for between two positions."""
    for _ in range(_MAX_CHUNKS):
        if first >= end:
            break
        file.seek(first)
        header = file.read(_CHUNK.size)
        name, length = _CHUNK.unpack(header) if len(header) == _CHUNK.size else (b"", end)
        inner = first + _CHUNK.size
        if inner + length > end:
            raise ValueError("it is truncated")
        if name == wanted and file.read(len(kind)) == kind and len(kind) <= length:
            return inner + len(kind), inner + length
        first = inner + length + length % 2  # chunks start at even positions
    raise ValueError(f"it has no chunk {(kind or wanted).decode()!r}")


def _write(synthesiser: Any, sound_S2: NDArray[np.float32], first: int, end: int) -> None:
    """Render samples from `first` to `end` with interleaved channels."""
    if first < end:
        address = sound_S2.ctypes.data + first * sound_S2.strides[0]
        _library().fluid_synth_write_float(synthesiser.synth, end - first, address, 0, 2, address, 1, 2)


def _new_synthesiser(sample_rate: int) -> Any:
    _library()
    import fluidsynth

    return fluidsynth.Synth(_GAIN, sample_rate, _CHANNELS, **_SETTINGS)


_Handler = ctypes.CFUNCTYPE(None, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)
_ignore = _Handler(lambda *_: None)  # GLib can call it until the process ends


@lru_cache(maxsize=1)
def _library() -> Any:
    """Return the library of FluidSynth, with its log switched off."""
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # if CI is set, the import prints the path of the library
            import fluidsynth
    except ModuleNotFoundError:
        raise FileNotFoundError("FluidSynth needs pyfluidsynth; pip install 'marl-study[soundfont]'") from None
    except (ImportError, OSError):
        raise FileNotFoundError("FluidSynth is not installed; apt-get install libfluidsynth3") from None
    library = fluidsynth._fl
    for level in range(5):
        library.fluid_set_log_function(level, None, None)
    if hasattr(library, "g_log_set_default_handler"):  # the decoders of FluidSynth log through GLib
        library.g_log_set_default_handler(_ignore, None)
    pointer, number = ctypes.c_void_p, ctypes.c_int
    library.fluid_synth_write_float.argtypes = [pointer, number, pointer, number, number, pointer, number, number]
    library.fluid_synth_get_sfont_by_id.argtypes = [pointer, number]
    library.fluid_synth_get_sfont_by_id.restype = pointer
    library.fluid_synth_add_sfont.argtypes = [pointer, pointer]
    library.fluid_synth_remove_sfont.argtypes = [pointer, pointer]
    return library
