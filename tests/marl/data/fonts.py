"""SoundFonts for tests: a written one with a known sound, and the one of Debian."""

import os
import struct
from collections.abc import Sequence
from ctypes.util import find_library
from pathlib import Path

import numpy as np
import pytest

from marl.data.fluidsynth import TIMGM

SINE_HZ = 440.0
"""Frequency of key 69 in a font of `font_of`."""

_RATE, _PERIOD, _PERIODS = 44_000, 100, 40


def _missing(*there: tuple[bool, str]) -> pytest.MarkDecorator:
    packages = [package for is_there, package in there if not is_there]
    lacks = bool(packages) and not os.environ.get("CI")  # in CI the test fails instead
    return pytest.mark.skipif(lacks, reason=f"no {' and no '.join(packages)} (Debian's packages)")


_LIBRARY = (find_library("fluidsynth") is not None, "libfluidsynth3")
needs_fluidsynth = _missing(_LIBRARY)
needs_timgm = _missing(_LIBRARY, (Path(TIMGM).exists(), "timgm6mb-soundfont"))


def chunk(name: bytes, content: bytes) -> bytes:
    """Return a chunk of a RIFF file."""
    return name + struct.pack("<I", len(content)) + content + b"\0" * (len(content) % 2)


def preset_list(presets: Sequence[tuple[int, int, bytes]]) -> bytes:
    """Return the chunk `phdr` of presets (bank, program, name)."""
    records = [
        struct.pack("<20sHHHIII", name, program, bank, number, 0, 0, 0)
        for number, (bank, program, name) in enumerate([*presets, (0, 0, b"EOP")])
    ]
    return chunk(b"phdr", b"".join(records))


def font_of(*presets: tuple[int, int, bytes]) -> bytes:
    """Return a .sf2 file whose presets (bank, program, name) all play one sine at constant level that ends at once."""
    sine = np.sin(2 * np.pi * np.arange(_PERIOD * _PERIODS) / _PERIOD)
    samples = np.concatenate([np.round(16_000 * sine), np.zeros(46)]).astype("<i2").tobytes()
    count = len(presets)
    bags = b"".join(struct.pack("<HH", number, 0) for number in range(count + 1))
    generators = struct.pack("<HH", 41, 0) * count + bytes(4)  # instrument 0
    loop = (0, _PERIOD * _PERIODS, 10 * _PERIOD, 30 * _PERIOD)
    parts = [
        preset_list(presets),
        chunk(b"pbag", bags),
        chunk(b"pmod", bytes(10)),
        chunk(b"pgen", generators),
        chunk(b"inst", struct.pack("<20sH", b"sine", 0) + struct.pack("<20sH", b"EOI", 1)),
        chunk(b"ibag", struct.pack("<HHHH", 0, 0, 4, 0)),
        chunk(b"imod", bytes(10)),
        # Half sent to chorus and reverb; looped; sample 0.
        chunk(b"igen", struct.pack("<HHHHHHHH", 15, 500, 16, 500, 54, 1, 53, 0) + bytes(4)),
        chunk(
            b"shdr",
            struct.pack("<20sIIIIIBbHH", b"sine", *loop, _RATE, 69, 0, 0, 1)
            + struct.pack("<20sIIIIIBbHH", b"EOS", 0, 0, 0, 0, 0, 0, 0, 0, 0),
        ),
    ]
    information = chunk(b"ifil", struct.pack("<HH", 2, 1)) + chunk(b"isng", b"EMU8000\0") + chunk(b"INAM", b"test\0\0")
    lists = [b"INFO" + information, b"sdta" + chunk(b"smpl", samples), b"pdta" + b"".join(parts)]
    return chunk(b"RIFF", b"sfbk" + b"".join(chunk(b"LIST", content) for content in lists))


def pitch_hz(waveform: np.ndarray, sample_rate: int, near_hz: float) -> float:
    """Return the frequency of the strongest partial within a semitone of a frequency."""
    padded = 1 << 20
    spectrum = np.abs(np.fft.rfft(waveform * np.hanning(len(waveform)), padded))
    hz = np.fft.rfftfreq(padded, 1 / sample_rate)
    near = np.abs(np.log2(hz[1:] / near_hz)) < 1 / 12
    return float(hz[1:][near][spectrum[1:][near].argmax()])


def cents(hz: float, expected_hz: float) -> float:
    """Return the interval between two frequencies in cents."""
    return 1200 * float(np.log2(hz / expected_hz))
