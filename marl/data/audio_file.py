"""Decoding of audio files of any format of libsndfile to mono waveforms at any rate, in bounded memory.

Headers can be wrong, so samples are read block by block until the file ends.
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
from marl.data.audio_dataset import UnusableClipError

__all__ = ["MAX_RATE_HZ", "MAX_VALUE", "MIN_RATE_HZ", "SUFFIXES", "duration_s", "read_mono", "windows"]

SUFFIXES = frozenset(
    {".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff", ".au", ".caf", ".w64", ".rf64"}
)
"""Suffixes of audio files."""

_BLOCK_VALUES, _BLOCK_FRAMES = 1 << 19, 1 << 16
_MAX_REASON_CHARS = 120
MAX_VALUE = 1e12
"""Largest sample, times full scale. The power of a larger value would overflow float32."""
# For a stream whose header has no length, libsndfile reports nearly the largest 64-bit integer.
_UNKNOWN_FRAMES = 1 << 62
MIN_RATE_HZ, MAX_RATE_HZ = 1_000, 768_000
"""Sample rates of music and of measurement equipment; a header with another rate is damaged."""


def duration_s(file: str | Path | BinaryIO) -> float:
    """Return the duration of a file in seconds, from its header; without a length there, the file is decoded.

    Raises:
        UnusableClipError: If the file is not an audio file.
    """
    with _open(file) as sound:
        frames = sound.frames if sound.frames < _UNKNOWN_FRAMES else sum(map(len, _blocks(sound, math.inf)))
        return float(frames / sound.samplerate)


def read_mono(
    file: str | Path | BinaryIO, sample_rate: int, start_s: float = 0.0, seconds: float = math.inf
) -> NDArray[np.float32]:
    """Return a segment of a file, its channels averaged, at another sample rate. Only the segment is decoded.

    Up to rounding it equals the segment of the whole file resampled at once, since the resampler also reads the samples
    before and after it. It is shorter if the file ends earlier.

    Raises:
        UnusableClipError: If the file cannot be decoded, ends before the segment, or has a sample that is not finite.
    """
    first, count = round(start_s * sample_rate), seconds * sample_rate
    with _open(file) as sound:
        resampler = Resampler(sound.samplerate, sample_rate)
        # Start at a whole period, so that output samples have the same times as in the resampled whole file.
        periods, skipped = divmod(first, resampler.output_period)
        lead = min(resampler.margin, periods * resampler.period)
        if periods:
            try:
                sound.seek(periods * resampler.period - lead)
            except (soundfile.LibsndfileError, RuntimeError, OverflowError):
                raise UnusableClipError(f"ends before {start_s:.1f} s") from None
        needed = (skipped + count) * resampler.period / resampler.output_period
        blocks = list(_blocks(sound, lead + needed + resampler.margin))
    skipped += lead // resampler.period * resampler.output_period
    whole = resampler(torch.from_numpy(np.concatenate(blocks))).numpy() if blocks else np.empty(0, np.float32)
    waveform: NDArray[np.float32] = whole[skipped:]
    if not len(waveform):
        raise UnusableClipError("holds no samples" if not first else f"ends before {start_s:.1f} s")
    return waveform if math.isinf(count) else waveform[: round(count)]


def windows(
    file: str | Path | BinaryIO, sample_rate: int, samples: int, max_windows: int
) -> Iterator[NDArray[np.float32]]:
    """Yield all windows [n, samples] of a file, at most `max_windows` at a time; the last one is padded with silence.

    Up to rounding they equal the windows of the whole file resampled at once.

    Raises:
        UnusableClipError: If the file cannot be decoded, is empty, or has a sample that is not finite. The error can
            come after some windows.
    """
    rows, filled = np.zeros((max_windows, samples), np.float32), 0
    is_empty = True
    with _open(file) as sound:
        for part in _resampled(_blocks(sound, math.inf), Resampler(sound.samplerate, sample_rate)):
            is_empty = False
            while len(part):
                taken, part = np.split(part, [rows.size - filled])
                rows.reshape(-1)[filled : filled + len(taken)] = taken
                filled += len(taken)
                if filled == rows.size:
                    yield rows
                    rows, filled = np.zeros((max_windows, samples), np.float32), 0
    if is_empty:
        raise UnusableClipError("holds no samples")
    if filled:
        yield rows[: -(-filled // samples)]


def _resampled(blocks: Iterator[NDArray[np.float32]], resampler: Resampler) -> Iterator[NDArray[np.float32]]:
    """Yield blocks at another rate, each resampled together with its neighbours, so that the result has no borders."""
    margin, period, output_period = resampler.margin, resampler.period, resampler.output_period
    held, lead = np.empty(0, np.float32), 0  # the first `lead` samples of `held` were resampled before
    for block in blocks:
        held = np.concatenate([held, block])
        # Whole periods, so that each part starts at an output sample.
        whole = (len(held) - lead - margin) // period * period
        if whole > 0:
            end, first = lead + whole, lead // period * output_period
            resampled = resampler(torch.from_numpy(held[: end + margin])).numpy()
            yield resampled[first : first + whole // period * output_period]
            lead = min(margin, end)
            held = held[end - lead :]
    if len(held) > lead:
        yield resampler(torch.from_numpy(held)).numpy()[lead // period * output_period :]


def _blocks(sound: soundfile.SoundFile, frames: float) -> Iterator[NDArray[np.float32]]:
    """Yield at most `frames` frames in blocks, their channels averaged; fewer if the file ends or is truncated."""
    max_frames = min(_BLOCK_FRAMES, max(1, _BLOCK_VALUES // sound.channels))
    done = 0
    while done < frames:
        block = np.full((math.ceil(min(max_frames, frames - done)), sound.channels), np.nan, np.float32)
        reason = None
        try:
            block = sound.read(out=block)
        except (soundfile.LibsndfileError, RuntimeError) as error:
            # The file is truncated. Frames that were decoded before the error have replaced the NaN.
            reason = _reason(error)
            block = block[: int(np.append(np.isnan(block).any(axis=1), True).argmax())]
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
        if peak > MAX_VALUE:
            raise UnusableClipError(f"holds values of more than {MAX_VALUE:g} times full scale")
        yield mono
        if reason is not None:
            return


@contextlib.contextmanager
def _open(file: str | Path | BinaryIO) -> Iterator[soundfile.SoundFile]:
    with contextlib.ExitStack() as stack:
        try:
            sound = stack.enter_context(_sound_file(file, stack))
        except FileNotFoundError:
            raise UnusableClipError("does not exist") from None
        except OSError as error:
            raise UnusableClipError(f"cannot be read: {error.strerror or error}") from None
        except (soundfile.LibsndfileError, RuntimeError, TypeError, ValueError) as error:
            raise UnusableClipError(f"cannot be decoded: {_reason(error)}") from None
        if not MIN_RATE_HZ <= sound.samplerate <= MAX_RATE_HZ:
            raise UnusableClipError(
                f"sample rate must be from {MIN_RATE_HZ:,} to {MAX_RATE_HZ:,} Hz; got {sound.samplerate:,}"
            )
        yield sound


def _sound_file(file: str | Path | BinaryIO, stack: contextlib.ExitStack) -> soundfile.SoundFile:
    if not isinstance(file, str | Path):
        if not file.seek(0, os.SEEK_END):
            raise UnusableClipError("is empty")
        file.seek(0)
        return _UnseekableSoundFile(_LenientFile(file))
    status = Path(file).stat()
    if not stat.S_ISREG(status.st_mode):  # opening a pipe would block
        raise UnusableClipError("is not a regular file")
    if not status.st_size:
        raise UnusableClipError("is empty")
    # Given a name, libsndfile would decode any file that ends with .gsm or .vox as audio without a header.
    descriptor = os.open(file, os.O_RDONLY)
    stack.callback(os.close, descriptor)
    return _UnseekableSoundFile(descriptor, closefd=False)


class _UnseekableSoundFile(soundfile.SoundFile):  # type: ignore[misc]  # soundfile has no types
    """Sound file that reports to be not seekable, although `seek` works.

    After each read of a seekable file, soundfile seeks to the current position, and libsndfile then decodes MP3
    differently.
    """

    def seekable(self) -> bool:
        """Return false, so that soundfile does not seek after a read."""
        return False


class _LenientFile:
    """File whose seek() ignores invalid offsets; libsndfile seeks out of range on damaged files.

    Python would print an exception here, since it cannot pass through libsndfile.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.read, self.tell = file.read, file.tell

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        with contextlib.suppress(OSError, ValueError):
            self._file.seek(offset, whence)
        return self.tell()


def _reason(error: Exception) -> str:
    """Return the message of libsndfile without the name of the file."""
    lines = str(getattr(error, "error_string", "") or error).strip().splitlines() or ["no reason given"]
    return lines[0].removeprefix("Error : ").rstrip(".")[:_MAX_REASON_CHARS]
