"""Notes played on the instruments of a SoundFont by FluidSynth, as mono waveforms."""

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

__all__ = ["FAMILIES", "TIMGM", "Note", "Preset", "digest_of_font", "preset_names", "presets", "render"]

TIMGM = "/usr/share/sounds/sf2/TimGM6mb.sf2"
"""Of Debian's package timgm6mb-soundfont: 128 sampled instruments in 6 MB."""

FAMILIES = (
    *("piano", "chromatic percussion", "organ", "guitar", "bass", "strings", "ensemble", "brass"),
    *("reed", "pipe", "synth lead", "synth pad", "synth effects", "ethnic", "percussive", "sound effects"),
)
"""Of General MIDI, eight programs each."""

_PROGRAMS = 128
# At full velocity, over keys 36 to 83 of all 128 programs, the loudest single note then reaches 0.71 of full scale in
# TimGM6mb and 0.86 in FluidR3_GM; phrases, whose notes ring on, reach 0.59.
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
_CHANNELS = 16

_CHUNK = struct.Struct("<4sI")
_PRESET = struct.Struct("<20sHHHIII")
# Far more than any font has, so that a crafted one takes neither time nor memory.
_MOST_CHUNKS = 256
_MOST_PRESETS = 1 << 15

_lock = threading.Lock()
_open_fonts: "dict[tuple[object, ...], _Font]" = {}


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


class Preset(NamedTuple):
    """An instrument of a font.

    Attributes:
        bank: 0 has the instruments of General MIDI, 128 the drums.
        program: its number in the bank.
        name: what the font calls it; may be empty.
    """

    bank: int
    program: int
    name: str


def presets(font: str) -> list[Preset]:
    """All instruments of a font, in the order of its file. FluidSynth is not needed.

    Raises:
        FileNotFoundError: when there is no such file.
        ValueError: when it is no SoundFont, or is cut short.
    """
    _check_is_there(font)
    try:
        with Path(font).open("rb") as file:
            records = _preset_records(file)
    except ValueError as error:
        raise ValueError(f"path must be a SoundFont, .sf2 or .sf3; {font} is none: {error}") from None
    found = []
    for name, program, bank, *_ in _PRESET.iter_unpack(records[: -_PRESET.size]):  # the last one only ends the list
        text = name.split(b"\0")[0].decode("latin-1")
        found.append(Preset(bank, program, "".join(filter(str.isprintable, text)).strip()))
    return found


def preset_names(font: str) -> dict[int, str]:
    """Names of a font's instruments by program, of its first bank; a name that comes twice has its program added.

    Raises:
        FileNotFoundError: when there is no such file, or no FluidSynth.
        ValueError: when it is no SoundFont.
    """
    with _lock:
        _opened(font)  # what FluidSynth cannot read is known before anything is rendered
    names = dict[int, str]()
    for preset in presets(font):
        if preset.bank == 0 and preset.program < _PROGRAMS:
            names.setdefault(preset.program, preset.name or f"program {preset.program}")
    while len(set(names.values())) < len(names):
        taken = list(names.values())
        names = {program: name if taken.count(name) == 1 else f"{name} ({program})" for program, name in names.items()}
    return dict(sorted(names.items()))


def render(font: str, program: int, notes: Sequence[Note], sample_rate: int, samples: int) -> NDArray[np.float32]:
    """What an instrument plays, [samples]; without reverb and chorus, the two channels averaged.

    Each time on a synthesiser of its own, with the font that is open already: what one has played before changes what
    it plays next, after a reset too, by up to a tenth of full scale. Notes begin and end on a grid of 64 samples.

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
    with _lock, _opened(font).synthesiser(program, sample_rate) as synthesiser:
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
    """SHA-256 of a font.

    Raises:
        FileNotFoundError: when there is no such file.
    """
    _check_is_there(font)
    with Path(font).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class _Font:
    """A font that stays open, since to open it takes longer than to render a note.

    A synthesiser that never plays holds it, and the samples of the instrument that was asked for last.
    """

    def __init__(self, font: str) -> None:
        self._path = font
        self._holder = _new_synthesiser(_RATES_HZ[0])
        # With the instruments that each synthesiser begins with selected, whose samples are then not read again.
        self._number = self._holder.sfload(font, 1)
        if self._number < 0:
            self.close()
            raise ValueError(f"path must be a SoundFont, .sf2 or .sf3; FluidSynth cannot read {font}")
        self._font = _library().fluid_synth_get_sfont_by_id(self._holder.synth, self._number)

    @contextlib.contextmanager
    def synthesiser(self, program: int, sample_rate: int) -> Iterator[Any]:
        """A new one, with an instrument on its first channel."""
        if self._holder.program_select(0, self._number, 0, program):
            raise ValueError(f"instruments: {self._path} has no program {program}")
        synthesiser = _new_synthesiser(sample_rate)
        try:
            number = _library().fluid_synth_add_sfont(synthesiser.synth, self._font)
            synthesiser.program_select(0, number, 0, program)
            yield synthesiser
        finally:
            _library().fluid_synth_remove_sfont(synthesiser.synth, self._font)  # or it would be closed as well
            synthesiser.delete()

    def close(self) -> None:
        """Give back its memory."""
        self._holder.delete()


def _opened(font: str) -> _Font:
    """The font; one at a time is kept, and opened anew when its file has changed."""
    _check_is_there(font)
    status = Path(font).stat()
    key = (font, status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)
    if key not in _open_fonts:
        presets(font)  # FluidSynth says less of what is wrong with a file
        for other in list(_open_fonts):
            _open_fonts.pop(other).close()
        _open_fonts[key] = _Font(font)
    return _open_fonts[key]


def _check_is_there(font: str) -> None:
    if not Path(font).is_file():
        hint = "; apt-get install timgm6mb-soundfont" if font == TIMGM else ""
        raise FileNotFoundError(f"path must be a SoundFont, .sf2 or .sf3; {font} is not there{hint}")


def _preset_records(file: BinaryIO) -> bytes:
    """The chunk `phdr`, which is the same in .sf2 and .sf3.

    Raises:
        ValueError: when it is not where and what it must be.
    """
    size = file.seek(0, io.SEEK_END)
    file.seek(0)
    begins = file.read(12)
    if begins[:4] != b"RIFF" or begins[8:] != b"sfbk":
        raise ValueError("it does not begin as one")
    first, end = _inner(file, 0, size, b"RIFF", b"sfbk")
    first, end = _inner(file, first, end, b"LIST", b"pdta")
    first, end = _inner(file, first, end, b"phdr")
    count, rest = divmod(end - first, _PRESET.size)
    if rest or not 2 <= count <= _MOST_PRESETS:
        raise ValueError(f"its list of instruments has {end - first:,} bytes")
    file.seek(first)
    return file.read(end - first)


def _inner(file: BinaryIO, first: int, end: int, wanted: bytes, kind: bytes = b"") -> tuple[int, int]:
    """Where a chunk's content begins and ends, among those between two places."""
    for _ in range(_MOST_CHUNKS):
        if first >= end:
            break
        file.seek(first)
        name, inner, inner_end = _chunk(file, end)
        if name == wanted and file.read(len(kind)) == kind and inner + len(kind) <= inner_end:
            return inner + len(kind), inner_end
        first = inner_end + inner_end % 2  # chunks begin at even places
    raise ValueError(f"it has no chunk {(kind or wanted).decode()!r}")


def _chunk(file: BinaryIO, end: int) -> tuple[bytes, int, int]:
    """Name of the chunk that begins here, and where its content begins and ends."""
    header = file.read(_CHUNK.size)
    if len(header) < _CHUNK.size:
        raise ValueError("it is cut short")
    name, length = _CHUNK.unpack(header)
    first = file.tell()
    if first + length > end:
        raise ValueError("it is cut short")
    return name, first, first + length


def _on_grid(frame: float) -> int:
    return round(frame / _GRID) * _GRID


def _write(synthesiser: Any, sound_S2: NDArray[np.float32], first: int, end: int) -> None:
    """The next samples, into their place; both channels of a sample beside each other."""
    if first < end:
        place = sound_S2.ctypes.data + first * sound_S2.strides[0]
        _library().fluid_synth_write_float(synthesiser.synth, end - first, place, 0, 2, place, 1, 2)


def _new_synthesiser(sample_rate: int) -> Any:
    _library()
    import fluidsynth

    return fluidsynth.Synth(_GAIN, sample_rate, _CHANNELS, **_SETTINGS)


_Handler = ctypes.CFUNCTYPE(None, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)
_say_nothing = _Handler(lambda *_: None)  # kept here as long as GLib may call it


@lru_cache(maxsize=1)
def _library() -> Any:
    """FluidSynth's own library, told to be quiet: what it says would be among our lines."""
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # where CI is set, it prints where the library is
            import fluidsynth
    except (ImportError, OSError):
        raise FileNotFoundError("FluidSynth is not there; apt-get install libfluidsynth3") from None
    library = fluidsynth._fl
    for level in range(5):
        library.fluid_set_log_function(level, None, None)
    if hasattr(library, "g_log_set_default_handler"):  # what FluidSynth reads unknown files by speaks through GLib
        library.g_log_set_default_handler(_say_nothing, None)
    pointer, number = ctypes.c_void_p, ctypes.c_int
    library.fluid_synth_write_float.argtypes = [pointer, number, pointer, number, number, pointer, number, number]
    library.fluid_synth_get_sfont_by_id.argtypes = [pointer, number]
    library.fluid_synth_get_sfont_by_id.restype = pointer
    library.fluid_synth_add_sfont.argtypes = [pointer, pointer]
    library.fluid_synth_remove_sfont.argtypes = [pointer, pointer]
    return library
