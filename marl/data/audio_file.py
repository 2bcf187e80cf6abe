"""Sound files of any kind that libsndfile decodes, as mono waveforms at any rate, in bounded memory.

What a header says is never believed: samples are read block by block for as long as there are any.
"""

import contextlib
import math
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
import soundfile
import torch
from numpy.typing import NDArray

from marl.audio import Resampler
from marl.data.source import UnusableClipError

__all__ = ["SUFFIXES", "duration_s", "read_mono", "windows"]

SUFFIXES = frozenset(
    {".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff", ".au", ".caf", ".w64", ".rf64"}
)
"""What names of sound files end with."""

_BLOCK_VALUES = 1 << 19
_BLOCK_FRAMES = 1 << 16
_LONGEST_REASON = 120
# The power of anything less fits into float32.
_LOUDEST = 1e12
# What libsndfile says of a stream whose header leaves the length open is close to the largest whole number.
_UNKNOWN_FRAMES = 1 << 62
# Of music and of what measures it; a header that says otherwise is damaged.
_RATES_HZ = (1_000, 768_000)


def duration_s(file: str | Path | BinaryIO) -> float:
    """How long a file is by its header, in seconds; a stream of which the header does not tell is decoded to know.

    Raises:
        UnusableClipError: when it is no sound file.
    """
    with _opened(file) as sound:
        frames = sound.frames if sound.frames < _UNKNOWN_FRAMES else sum(map(len, _blocks(sound, math.inf)))
        return float(frames / sound.samplerate)


def read_mono(
    file: str | Path | BinaryIO, sample_rate: int, start_s: float = 0.0, seconds: float = math.inf
) -> NDArray[np.float32]:
    """A part of a file, its channels averaged, resampled; shorter where the file ends. No more of it is decoded.

    It is, to rounding, that part of the whole file resampled at once: what lies before it is heard by the resampler.

    Raises:
        UnusableClipError: when it cannot be decoded, or nothing is there, or a sample is not finite.
    """
    first, wanted = round(start_s * sample_rate), seconds * sample_rate
    with _opened(file) as sound:
        resampler = Resampler(sound.samplerate, sample_rate)
        # A period before the first sample that is wanted, so that output samples lie where they would.
        periods, skipped = divmod(first, resampler.output_period)
        lead = min(resampler.margin, periods * resampler.period)
        if periods:
            _seek(sound, periods * resampler.period - lead)
        ahead = (skipped + wanted) * resampler.period / resampler.output_period
        blocks = list(_blocks(sound, lead + ahead + resampler.margin))
    skipped += lead // resampler.period * resampler.output_period
    found: NDArray[np.float32] = np.empty(0, np.float32)
    if blocks:
        found = resampler(torch.from_numpy(np.concatenate(blocks))).numpy()[skipped:]
    if not len(found):
        raise UnusableClipError("holds no samples" if not first else f"ends before {start_s:.1f} s")
    return found if math.isinf(wanted) else found[: round(wanted)]


def windows(file: str | Path | BinaryIO, sample_rate: int, samples: int, at_once: int) -> Iterator[NDArray[np.float32]]:
    """All of a file in windows [n, samples], at most so many at once; the last one is filled up with silence.

    They are, to rounding, those that the whole file resampled at once would be cut into.

    Raises:
        UnusableClipError: If it cannot be decoded, is empty, or a sample is not finite; also after some windows.
    """
    rows, filled = np.zeros((at_once, samples), np.float32), 0
    is_empty = True
    with _opened(file) as sound:
        for part in _resampled(_blocks(sound, math.inf), Resampler(sound.samplerate, sample_rate)):
            is_empty = False
            rest = part
            while len(rest):
                taken = rest[: rows.size - filled]
                rows.reshape(-1)[filled : filled + len(taken)] = taken
                filled, rest = filled + len(taken), rest[len(taken) :]
                if filled == rows.size:
                    yield rows
                    rows, filled = np.zeros((at_once, samples), np.float32), 0
    if is_empty:
        raise UnusableClipError("holds no samples")
    if filled:
        yield rows[: -(-filled // samples)]


def _resampled(blocks: Iterator[NDArray[np.float32]], resampler: Resampler) -> Iterator[NDArray[np.float32]]:
    """Blocks at another rate, each resampled with what lies around it, so that their borders are not heard."""
    margin, period, output_period = resampler.margin, resampler.period, resampler.output_period
    held, lead = np.empty(0, np.float32), 0  # what is held begins with so many samples that were resampled before
    for block in blocks:
        held = np.concatenate([held, block])
        # Whole periods, so that each part begins where an output sample lies.
        whole = (len(held) - lead - margin) // period * period
        if whole > 0:
            end, first = lead + whole, lead // period * output_period
            found = resampler(torch.from_numpy(held[: end + margin])).numpy()
            yield found[first : first + whole // period * output_period]
            lead = min(margin, end)
            held = held[end - lead :]
    if len(held) > lead:
        yield resampler(torch.from_numpy(held)).numpy()[lead // period * output_period :]


def _blocks(sound: soundfile.SoundFile, frames: float) -> Iterator[NDArray[np.float32]]:
    """At most so many frames, channels averaged; less where the file ends or is cut off."""
    most = min(_BLOCK_FRAMES, max(1, _BLOCK_VALUES // sound.channels))
    done = 0
    while done < frames:
        block = np.full((math.ceil(min(most, frames - done)), sound.channels), np.nan, np.float32)
        reason = None
        try:
            block = sound.read(out=block)
        except (soundfile.LibsndfileError, RuntimeError) as error:
            # Cut off: what came before is sound, and as far as it came it has been written over.
            reason = _reason(error)
            is_empty = np.isnan(block).any(axis=1)
            block = block[: int(is_empty.argmax()) if is_empty.any() else len(block)]
        if not len(block):
            if reason is not None and not done:
                raise UnusableClipError(f"cannot be decoded: {reason}")
            return
        done += len(block)
        with np.errstate(over="ignore", invalid="ignore"):
            mono: NDArray[np.float32] = block.mean(axis=1, dtype=np.float32)
        peak = float(np.abs(mono).max())
        if not math.isfinite(peak):
            raise UnusableClipError("holds values that are not finite")
        if peak > _LOUDEST:
            raise UnusableClipError(f"holds values of more than {_LOUDEST:g} times full scale")
        yield mono
        if reason is not None:
            return


@contextlib.contextmanager
def _opened(file: str | Path | BinaryIO) -> Iterator[soundfile.SoundFile]:
    with contextlib.ExitStack() as stack:
        try:
            sound = stack.enter_context(_sound(file, stack))
        except FileNotFoundError:
            raise UnusableClipError("is not there") from None
        except OSError as error:
            raise UnusableClipError(f"cannot be read: {error.strerror or error}") from None
        except (soundfile.LibsndfileError, RuntimeError, TypeError, ValueError) as error:
            raise UnusableClipError(f"cannot be decoded: {_reason(error)}") from None
        least, most = _RATES_HZ
        if not least <= sound.samplerate <= most:
            raise UnusableClipError(
                f"its sample rate must lie between {least:,} and {most:,} Hz; it has {sound.samplerate:,}"
            )
        yield sound


def _sound(file: str | Path | BinaryIO, stack: contextlib.ExitStack) -> soundfile.SoundFile:
    if not isinstance(file, str | Path):
        if not file.seek(0, os.SEEK_END):
            raise UnusableClipError("is empty")
        file.seek(0)
        return _Stream(_Forgiving(file))
    status = Path(file).stat()
    if not stat.S_ISREG(status.st_mode):  # a pipe would be waited for
        raise UnusableClipError("is no file")
    if not status.st_size:
        raise UnusableClipError("is empty")
    # By its name libsndfile would take anything that ends with .gsm or .vox for sound without a header.
    descriptor = os.open(file, os.O_RDONLY)
    stack.callback(os.close, descriptor)
    return _Stream(descriptor, closefd=False)


class _Stream(soundfile.SoundFile):  # type: ignore[misc]  # soundfile has no types
    """A file that is read on from where it is.

    After each part that it reads, soundfile seeks to where it is already. From there libsndfile decodes MP3 otherwise.
    """

    def seekable(self) -> bool:
        """No, so that soundfile leaves it; `seek` works all the same."""
        return False


class _Forgiving:
    """An open file that stays where it is when it is to go where there is nothing, as libsndfile asks of a damaged one.

    No exception of a file could pass through libsndfile; Python would print it.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.read, self.tell = file.read, file.tell

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        with contextlib.suppress(OSError, ValueError):
            self._file.seek(offset, whence)
        return self.tell()


def _seek(sound: soundfile.SoundFile, frame: int) -> None:
    try:
        sound.seek(frame)
    except (soundfile.LibsndfileError, RuntimeError, OverflowError):
        raise UnusableClipError(f"ends before {frame / sound.samplerate:.1f} s") from None


def _reason(error: Exception) -> str:
    """What libsndfile says, without the name of the file."""
    words = str(getattr(error, "error_string", "") or error).strip().splitlines() or ["no reason given"]
    return words[0].removeprefix("Error : ").rstrip(".")[:_LONGEST_REASON]
