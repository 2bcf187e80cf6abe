"""Data sets of audio: their configuration, and the preparation of N clips and their log-mels."""

import hashlib
import math
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from marl.audio import AudioConfig, LogMel
from marl.base_config import BaseConfig
from marl.data.dataset import UNKNOWN, Clips, Dataset, Factor, LogMels

__all__ = ["MAX_CLASSES", "AudioDatasetConfig", "Clip", "ComputedDatasetConfig", "DatasetConfig", "Entry"]
__all__ += [
    "PreparedClips",
    "UnusableClipError",
    "Value",
    "factor_from_column",
    "prepare_clips",
    "standardise",
    "waveforms_of",
]

MAX_CLASSES = 20
"""Maximum number of classes of a factor whose values are numbers."""

Value = str | float | None
"""Value of a factor: a word, a number, or unknown."""

# Numbers of a grid repeat; measured numbers rarely do.
_MIN_CLIPS_PER_VALUE = 10
_FULL_SCALE = 32767
_MIN_POWER = 1e-12
_CLIPS_AT_ONCE = 256
_STANDARDISED_CLIPS = 1024


class DatasetConfig(BaseConfig):
    """Configuration of a data set."""

    description: ClassVar[str]
    """What the clips are, for the card of a model."""
    reference: ClassVar[str] = ""
    """BibTeX of the publication."""

    kind: str
    """Kind of the data set. A subclass narrows it to one literal."""

    @property
    @abstractmethod
    def factor_names(self) -> tuple[str, ...]:
        """Names of the factors."""


class ComputedDatasetConfig(DatasetConfig):
    """Configuration of a data set that is computed on the device instead of prepared."""

    @property
    @abstractmethod
    def size(self) -> int:
        """Number of clips."""

    def build(self, audio: AudioConfig, device: torch.device) -> Dataset:
        """Compute the data set on a device: by default, from the waveforms of all clips."""
        clips, log_mel = self.clips(audio, device), LogMel(audio, device=device)
        parts = torch.arange(self.size).split(_CLIPS_AT_ONCE)
        log_mel_NFT = torch.cat([log_mel(clips.waveforms(part.tolist()).to(device)) for part in parts])
        mean_db, std_db = standardise(log_mel_NFT, clips.splits["training"])
        return Dataset(**vars(clips), log_mels=LogMels(log_mel_NFT), audio=LogMel(audio, mean_db, std_db, device))

    @abstractmethod
    def clips(self, audio: AudioConfig, device: torch.device) -> Clips:
        """Return the clips, without computing log-mels or waveforms."""

    @abstractmethod
    def factors(self) -> tuple[Factor, ...]:
        """Return the factors."""


@dataclass(frozen=True)
class Entry:
    """Description of a clip before its audio is read.

    Attributes:
        name: Name in reports, unique in the data set.
        values: Value of each factor, in the order of `factor_names`.
        group: Recording, instrument or other unit of the clip, which `split: group` keeps in one split.
        locator: Position of the audio in the data set, such as a file and a time.
    """

    name: str
    values: tuple[Value, ...]
    group: str
    locator: tuple[Any, ...] = ()


class UnusableClipError(Exception):
    """An entry gives no clip. The message is the reason, such as `cannot be decoded: ...`."""


class AudioDatasetConfig(DatasetConfig):
    """Configuration of a data set whose clips are prepared from audio files. Training does not read the files."""

    split: str = "clip"
    """Unit that is in one split only. `clip`; `combination`: clips with the same value of every factor; `group`: clips
    of one recording or with one entry in the group column; or the name of a factor, for example `instrument`, which
    evaluates on instruments that no model was trained on."""
    content: str | None = Field(None, pattern="^[0-9a-f]{32}$")
    """Name of the prepared set in the store, which identifies the content of the files when the study started. The
    command that prepares the set fills it in."""

    @abstractmethod
    def digest(self) -> str:
        """Return the SHA-256, in hexadecimal, of the content of all files that the clips are made from."""

    @abstractmethod
    def entries(self) -> Sequence[Entry]:
        """Return all entries, always in the same order.

        Raises:
            ValueError: If a file that describes the clips, such as a table of factors, is not valid.
            OSError: If such a file cannot be read.
        """

    @abstractmethod
    def waveform(self, entry: Entry, sample_rate: int, samples: int) -> NDArray[np.float32]:
        """Return the mono waveform [samples] of an entry, full scale at one.

        It depends on the entry alone, so that any subset of the entries can be prepared on any machine.

        Raises:
            UnusableClipError: If there is none.
        """


class Clip(NamedTuple):
    """Description of a prepared clip, with name, group and values of its entry.

    Attributes:
        content: Hash of the samples, 32 hexadecimal digits. Clips with the same samples have the same hash.
        loudness_db: Root mean square, dB relative to a full-scale sine.
        peak: Largest absolute sample, 1 at full scale. A clip with a larger peak is scaled to full scale.
        sounds_s: Time of the last sample above the floor, seconds.
        sum_db: Sum of the log-mel, dB, from which the mean of a split is computed.
        square_db: Sum of the squared log-mel, for the standard deviation.
    """

    name: str
    group: str
    values: tuple[Value, ...]
    content: str
    loudness_db: float
    peak: float
    sounds_s: float
    sum_db: float
    square_db: float


class PreparedClips(NamedTuple):
    """Clips prepared from some entries.

    Attributes:
        samples_NS: Waveforms, int16.
        decibels_NFT: Log-mels of `samples_NS`, float16, dB relative to a full-scale sine.
        rejected: Name of each entry that gives no clip, and the reason.
    """

    clips: list[Clip]
    samples_NS: NDArray[np.int16]
    decibels_NFT: NDArray[np.float16]
    rejected: list[tuple[str, str]]


def prepare_clips(config: AudioDatasetConfig, entries: Sequence[Entry], audio: AudioConfig) -> PreparedClips:
    """Prepare the clips of some entries. Each clip depends only on its entry.

    An entry is rejected if its audio cannot be read, is not finite, or is silent. Silent audio is everywhere below the
    floor of the log-mels, which would be constant.
    """
    prepared: list[tuple[Clip, NDArray[np.int16], NDArray[np.float16]]] = []
    rejected: list[tuple[str, str]] = []
    log_mel = LogMel(audio)
    for entry in entries:
        try:
            waveform_S = config.waveform(entry, audio.sample_rate, audio.clip_samples)
            prepared.append(_prepare_clip(entry, waveform_S, log_mel))
        except UnusableClipError as error:
            rejected.append((entry.name, str(error)))
    return PreparedClips(
        [clip for clip, _, _ in prepared],
        np.array([samples_S for _, samples_S, _ in prepared], np.int16).reshape(-1, audio.clip_samples),
        np.array([decibels_FT for *_, decibels_FT in prepared], np.float16).reshape(-1, audio.mel_bands, audio.frames),
        rejected,
    )


def _prepare_clip(
    entry: Entry, waveform_S: NDArray[np.float32], log_mel: LogMel
) -> tuple[Clip, NDArray[np.int16], NDArray[np.float16]]:
    audio = log_mel.config
    floor = math.sqrt(0.5) * 10 ** (audio.floor_db / 20)
    peak = float(np.abs(waveform_S).max(initial=0.0))
    if not math.isfinite(peak):
        raise UnusableClipError("holds values that are not finite")
    if peak < floor:
        raise UnusableClipError(f"silent: nowhere above {audio.floor_db:g} dB")
    samples_S = np.round(waveform_S * (_FULL_SCALE / max(1.0, peak))).astype(np.int16)
    # One by one, because the size of a batch would change the last bits.
    decibels_FT = log_mel(waveforms_of(samples_S[None]))[0].to(torch.float16).numpy()
    above_floor = np.flatnonzero(np.abs(samples_S.astype(np.int32)) >= floor * _FULL_SCALE)
    power = 2 * float(np.square(samples_S / _FULL_SCALE).mean())
    clip = Clip(
        name=entry.name,
        group=entry.group,
        values=entry.values,
        content=hashlib.sha256(samples_S.tobytes()).hexdigest()[:32],
        loudness_db=10 * math.log10(max(power, _MIN_POWER)),
        peak=peak,
        sounds_s=(int(above_floor[-1]) + 1) / audio.sample_rate if len(above_floor) else 0.0,
        sum_db=float(decibels_FT.astype(np.float64).sum()),
        square_db=float(np.square(decibels_FT.astype(np.float64)).sum()),
    )
    return clip, samples_S, decibels_FT


def standardise(log_mel_NFT: Tensor, training: Tensor) -> tuple[float, float]:
    """Scale log-mels, in place, to zero mean and unit variance of the training clips; return mean and deviation."""
    total = torch.zeros(2, dtype=torch.float64, device=log_mel_NFT.device)
    for clips in training.split(_STANDARDISED_CLIPS):
        values = log_mel_NFT[clips].to(torch.float64)
        total += torch.stack([values.sum(), values.square().sum()])
    mean, square = (total / (training.numel() * log_mel_NFT[0].numel())).tolist()
    std = (square - mean**2) ** 0.5
    if not std > 0:
        raise ValueError("log-mels of the training clips must differ to be standardised; all are the same")
    for part in log_mel_NFT.split(_STANDARDISED_CLIPS):
        part.sub_(mean).div_(std)
    return mean, std


def waveforms_of(samples_NS: NDArray[np.int16]) -> Tensor:
    """Return the float32 waveforms of prepared samples."""
    return torch.from_numpy(samples_NS).to(torch.float32) / _FULL_SCALE


def factor_from_column(name: str, column_N: Sequence[Value]) -> tuple[Factor, Tensor]:
    """Return the factor in a column of a table, and the index of each clip's value, int64 [N], or `UNKNOWN`.

    Each word is a class. So is each number, up to `MAX_CLASSES` numbers; more numbers are grouped into classes of about
    the same number of clips. If most numbers occur only a few times, the factor is continuous.

    Raises:
        ValueError: If fewer than two different values are known, or words and numbers are mixed.
    """
    known = [value for value in column_N if value is not None]
    kinds = {isinstance(value, str) for value in known}
    if len(kinds) > 1:
        raise ValueError(f"factor {name!r} mixes words and numbers; make it one or the other")
    values = tuple(sorted(set(known)))
    if len(values) < 2:
        raise ValueError(f"factor {name!r} must differ between clips; all have {values[0] if values else 'none'!r}")
    index_of = {value: index for index, value in enumerate(values)}
    index_N = torch.tensor([UNKNOWN if value is None else index_of[value] for value in column_N])
    if kinds == {True} or len(values) <= MAX_CLASSES:
        return Factor(name, values, tuple(range(len(values)))), index_N
    is_continuous = len(values) * _MIN_CLIPS_PER_VALUE > len(known)
    counts = index_N[index_N != UNKNOWN].bincount(minlength=len(values))
    smaller = counts.cumsum(0) - counts
    # A value with many clips can leave a class empty, so the others are renumbered.
    class_of_value = ((smaller * MAX_CLASSES) // len(known)).unique(return_inverse=True)[1]
    return Factor(name, values, tuple(class_of_value.tolist()), is_continuous), index_N
