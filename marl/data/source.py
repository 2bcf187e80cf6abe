"""What a dataset offers that must be prepared before anything trains on it: which clips there are, and each as sound.

One file a kind (`nsynth`, `folder`, `soundfont`, `phrases`) has its configuration, a subclass of `Sounds`, and its
`Source`. `marl.data.source` makes spectrograms of it.
"""

import hashlib
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field

from marl.audio import AudioConfig, LogMel
from marl.base_config import Settings

__all__ = ["Clip", "Entry", "Made", "Sounds", "Source", "Unusable", "Value", "make", "waveforms_of"]

Value = str | float | None
"""What a factor of a clip is: a word, a number, or not known."""


class Sounds(Settings):
    """The settings of any dataset that must be prepared.

    Attributes:
        split: what never lies in two splits: `clip`; `combination`, all clips alike in every factor; `group`, all that
            was cut from one recording, or has one entry in the group column; or the name of a factor, for example
            `instrument`, so that what is measured are sounds of instruments that no model was trained on.
        content: what the set was prepared from, as it was when the study began: the name of the prepared set in the
            store. It is filled in by whoever prepares it.
    """

    split: str = "clip"
    content: str | None = Field(None, pattern="^[0-9a-f]{32}$")


@dataclass(frozen=True)
class Entry:
    """A clip to be.

    Attributes:
        name: what a report calls it; no other of the set has it.
        values: of each factor, in the order of `Source.factor_names`.
        group: what it was cut from, or belongs to.
        place: where its source finds it.
    """

    name: str
    values: tuple[Value, ...]
    group: str
    place: tuple[Any, ...] = ()


class Unusable(Exception):  # noqa: N818  # it is no fault of the program
    """Why an entry gives no clip, in a few words for a report: `silent`, `cannot be decoded: ...`."""


class Source(Protocol):
    """Where the clips of a dataset come from. It is made from a configuration alone, on any machine that has the files.

    Attributes:
        factor_names: in the order of `Entry.values`.
    """

    factor_names: tuple[str, ...]

    def digest(self) -> str:
        """SHA-256, in hexadecimal, of all that the files hold from which the clips are made."""

    def entries(self) -> Sequence[Entry]:
        """All clips to be, always in the same order.

        Raises:
            ValueError: when what describes them, such as a table of factors, is not what it must be.
            OSError: when a file that describes them cannot be read.
        """

    def waveforms(
        self, entries: Sequence[Entry], sample_rate: int, samples: int
    ) -> Iterable[NDArray[np.float32] | Unusable]:
        """Each of some entries, in their order, as mono float32 [samples], full scale at one.

        What an entry gives depends on nothing but the entry, so that any share of them can be made anywhere.
        """


_FULL_SCALE = 32767
_QUIETEST = 1e-12


class Clip(NamedTuple):
    """What is known of a clip that was made.

    Attributes:
        name: of its entry.
        group: of its entry.
        values: of its entry, by factor.
        content: hash of its samples, 32 hexadecimal digits: two clips that sound alike to the last bit have the same.
        loudness_db: root mean square, dB relative to a full-scale sine.
        peak: largest sample, 1 at full scale; what was louder was made as quiet.
        sounds_s: seconds until it falls below the floor for good.
        sum_db: of its log-mel, dB, for the mean over any clips.
        square_db: of the squares of its log-mel.
    """

    name: str
    group: str
    values: tuple[str | float | None, ...]
    content: str
    loudness_db: float
    peak: float
    sounds_s: float
    sum_db: float
    square_db: float


class Made(NamedTuple):
    """What came of some entries.

    Attributes:
        clips: that are of use.
        samples_NS: their waveforms, int16.
        decibels_NFT: their log-mels, float16, dB relative to a full-scale sine; made from `samples_NS`.
        left_out: name of each other entry, and why.
    """

    clips: list[Clip]
    samples_NS: NDArray[np.int16]
    decibels_NFT: NDArray[np.float16]
    left_out: list[tuple[str, str]]


def make(source: Source, entries: Sequence[Entry], audio: AudioConfig) -> Made:
    """Clips of some entries, and which gave none: what cannot be read, is not finite, or is silent.

    Silent is what nowhere reaches the floor of the spectrograms: nothing of it would be left in them. Each clip depends
    on its own entry alone.
    """
    clips: list[Clip] = []
    kept: list[NDArray[np.int16]] = []
    left_out: list[tuple[str, str]] = []
    floor = math.sqrt(0.5) * 10 ** (audio.floor_db / 20)
    found = source.waveforms(entries, audio.sample_rate, audio.clip_samples)
    for entry, waveform_S in zip(entries, found, strict=True):
        if isinstance(waveform_S, Unusable):
            left_out.append((entry.name, str(waveform_S)))
            continue
        peak = float(np.abs(waveform_S).max(initial=0.0))
        if not math.isfinite(peak):
            left_out.append((entry.name, "holds values that are not finite"))
        elif peak < floor:
            left_out.append((entry.name, f"silent: nowhere above {audio.floor_db:g} dB"))
        else:
            samples_S = np.round(waveform_S * (_FULL_SCALE / max(1.0, peak))).astype(np.int16)
            kept.append(samples_S)
            clips.append(_clip(entry, samples_S, peak, floor, audio.sample_rate))
    samples_NS = np.stack(kept) if kept else np.empty((0, audio.clip_samples), np.int16)
    decibels_NFT = _decibels(samples_NS, audio)
    return Made(
        [_with_sums(clip, decibels_FT) for clip, decibels_FT in zip(clips, decibels_NFT, strict=True)],
        samples_NS,
        decibels_NFT,
        left_out,
    )


def waveforms_of(samples_NS: NDArray[np.int16]) -> torch.Tensor:
    """Waveforms, float32, of samples as they are kept."""
    return torch.from_numpy(samples_NS).to(torch.float32) / _FULL_SCALE


def _clip(entry: Entry, samples_S: NDArray[np.int16], peak: float, floor: float, sample_rate: int) -> Clip:
    sounding = np.flatnonzero(np.abs(samples_S.astype(np.int32)) >= floor * _FULL_SCALE)
    mean_square = float(np.square(samples_S / _FULL_SCALE).mean())
    return Clip(
        name=entry.name,
        group=entry.group,
        values=entry.values,
        content=hashlib.sha256(samples_S.tobytes()).hexdigest()[:32],
        loudness_db=10 * math.log10(max(2 * mean_square, _QUIETEST)),
        peak=peak,
        sounds_s=(int(sounding[-1]) + 1) / sample_rate if len(sounding) else 0.0,
        sum_db=0.0,
        square_db=0.0,
    )


def _decibels(samples_NS: NDArray[np.int16], audio: AudioConfig) -> NDArray[np.float16]:
    log_mel = LogMel(audio)
    # One by one: how many there are beside a clip must not change its last bit.
    parts = [log_mel(waveform_S[None]) for waveform_S in waveforms_of(samples_NS)]
    if not parts:
        return np.empty((0, audio.mel_bands, audio.frames), np.float16)
    return torch.cat(parts).to(torch.float16).numpy()


def _with_sums(clip: Clip, decibels_FT: NDArray[np.float16]) -> Clip:
    values = decibels_FT.astype(np.float64)
    return clip._replace(sum_db=float(values.sum()), square_db=float(np.square(values).sum()))
