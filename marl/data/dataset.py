"""What every dataset offers: spectrograms with known factors, and splits that never mix.

N is clips, C factors, F mel bands, T frames, S samples.
"""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from marl import randomness
from marl.audio import LogMel

__all__ = ["HELD_OUT_SHARE", "SPLITS", "UNKNOWN", "Clips", "Dataset", "Factor", "LogMels", "split_clips", "standardise"]

SPLITS = ("training", "validation", "test")
UNKNOWN = -1
"""In the place of a value's index: this factor of a clip is not known. Only training clips may have it."""
HELD_OUT_SHARE = 0.1
"""Of all clips, for validation and again for test."""


@dataclass(frozen=True)
class Factor:
    """One thing in which clips differ.

    Attributes:
        name: as it is called in `views.shared` and in the columns of results.
        values: what the factor can be, in the order of `Dataset.value_NC`.
        class_of_value: for each value the class that probes and mutual information are asked for; many values
            (400 frequencies) fall into few classes (20).
        is_continuous: whether it was measured, so that hardly two clips have one value. Two clips then agree in it
            when they are of one class.
    """

    name: str
    values: tuple[str | float, ...]
    class_of_value: tuple[int, ...]
    is_continuous: bool = False

    @property
    def classes(self) -> int:
        """How many classes there are."""
        return max(self.class_of_value) + 1

    def class_name(self, number: int) -> str:
        """What a class holds: its only value, or the first and the last of its values."""
        members = [value for value, own in zip(self.values, self.class_of_value, strict=True) if own == number]
        ends = members if len(members) == 1 else [members[0], members[-1]]
        return "-".join(value if isinstance(value, str) else f"{value:.4g}" for value in ends)


@dataclass(frozen=True)
class Clips:
    """What is known of the clips of a set without their spectrograms.

    Attributes:
        value_NC: index into each factor's values, int64, or `UNKNOWN`.
        factors: the C factors.
        splits: for each of `SPLITS` the clips in it, int64, in an order that is random and fixed: its first n clips
            are a fair sample of it. Where the values of a factor in a held-out split are in no other, there is also
            `<split> fitting`: see `fitting`.
        waveforms: waveforms [n, S] of the clips of the given indices, on the CPU.
    """

    value_NC: Tensor
    factors: tuple[Factor, ...]
    splits: dict[str, Tensor]
    waveforms: Callable[[Sequence[int]], Tensor]

    @property
    def factor_names(self) -> tuple[str, ...]:
        """Names of the factors, in the order of the columns of `value_NC`."""
        return tuple(factor.name for factor in self.factors)

    def classes(self, clips: Tensor) -> Tensor:
        """Class of each clip by factor, int64 [n, C]."""
        columns = [
            torch.tensor(factor.class_of_value, device=clips.device)[self.value_NC[clips, column]]
            for column, factor in enumerate(self.factors)
        ]
        return torch.stack(columns, dim=1)

    def fitting(self, split: str) -> Tensor:
        """Clips that probes are fitted on before they are scored on those of a held-out split.

        Training clips whose factors are all known; but where clips were split by a factor, such as the instrument, no
        probe could name what it never heard: then other clips of the same held-out instruments.
        """
        if (own := self.splits.get(f"{split} fitting")) is not None:
            return own
        training = self.splits["training"]
        return training[(self.value_NC[training] != UNKNOWN).all(dim=1)]

    def classes_at_stake(self, split: str) -> tuple[int, ...]:
        """How many classes of each factor a probe chooses from on a held-out split, which is what chance depends on."""
        if f"{split} fitting" not in self.splits:
            return tuple(factor.classes for factor in self.factors)
        # Of one class nothing can be told, and chance is not one.
        return tuple(max(2, len(column.unique())) for column in self.classes(self.splits[split]).unbind(dim=1))


class LogMels:
    """Log-mels of all clips.

    Those of a computed data set are standardised. Those of a prepared one are float16 decibels, and are standardised
    when they are taken, by the same operations on the device and on the host.

    Args:
        values_NFT: Log-mels on the device; or an array in host memory, which may be a memory-mapped file.
        device: Where models compute; by default where the values are.
        mean_db: Mean over the training clips, which is subtracted; only of a prepared data set.
        std_db: Standard deviation over the training clips, the divisor; only of a prepared data set.

    Attributes:
        values_NFT: The log-mels as they are stored and where they are stored.
        device: Where models compute.
        is_prepared: Whether the values are decibels.
        is_resident: Whether the values are on the device.
    """

    def __init__(
        self,
        values_NFT: Tensor | NDArray[np.float16],
        device: torch.device | None = None,
        mean_db: float | None = None,
        std_db: float = 1.0,
    ) -> None:
        self.is_resident = isinstance(values_NFT, Tensor)
        self.values_NFT = values_NFT if isinstance(values_NFT, Tensor) else _as_tensor(values_NFT)
        self._mean_db, self._std_db = mean_db, std_db
        self.is_prepared = mean_db is not None
        self.device = device or self.values_NFT.device

    @property
    def shape(self) -> torch.Size:
        """[N, F, T]."""
        return self.values_NFT.shape

    def __getitem__(self, clips: Tensor) -> Tensor:
        """The same as `take`."""
        return self.take(clips)

    def take(self, clips_n: Tensor) -> Tensor:
        """Return the standardised log-mels [n, F, T] of some clips, on the device."""
        return self.standardise(self.read(clips_n.to(self.values_NFT.device)).to(self.device))

    def read(self, clips_n: Tensor, out: Tensor | None = None) -> Tensor:
        """Return the values [n, F, T] of some clips as they are stored and where they are stored."""
        return torch.index_select(self.values_NFT, 0, clips_n, out=out)

    def standardise(self, values_nFT: Tensor) -> Tensor:
        """Return standardised log-mels from stored values."""
        if self._mean_db is None:
            return values_nFT
        return (values_nFT.to(torch.float32) - self._mean_db) / self._std_db

    def new_block(self, clips: int) -> Tensor:
        """Return zeros on the device for the stored values of so many clips."""
        return torch.zeros((clips, *self.shape[1:]), dtype=self.values_NFT.dtype, device=self.device)

    def to(self, dtype: torch.dtype) -> "LogMels":
        """Return the standardised log-mels of a computed data set in another type."""
        return LogMels(self.values_NFT.to(dtype), self.device)


def _as_tensor(array: NDArray[np.float16]) -> Tensor:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # torch warns of a read-only file, which is never written to here
        return torch.from_numpy(array)


@dataclass(frozen=True)
class Dataset(Clips):
    """All clips of a set and their spectrograms, on or for one device.

    Attributes:
        log_mels: log-mel spectrograms of all clips.
        audio: turns waveforms into such spectrograms and back.
    """

    log_mels: LogMels
    audio: LogMel

    @property
    def device(self) -> torch.device:
        """Where models compute."""
        return self.log_mels.device

    def on_cpu(self) -> "Dataset":
        """The same clips, but what is known of them is on the CPU; the spectrograms stay where they are."""
        splits = {name: clips.cpu() for name, clips in self.splits.items()}
        return replace(self, value_NC=self.value_NC.cpu(), splits=splits)


def split_clips(count: int, device: torch.device) -> dict[str, Tensor]:
    """Training, validation and test clips: 80, 10 and 10 of 100, by a hash of the clip's index alone."""
    held_out = int(count * HELD_OUT_SHARE)
    zero = torch.zeros((), dtype=torch.int64, device=device)
    state = randomness.stream(zero, zero, randomness.Purpose.SPLIT)
    scores = randomness.bits(state, torch.arange(count, device=device), torch.zeros_like(zero)[None])
    order = scores.flatten().argsort(stable=True)
    training, validation, test = order.split([count - 2 * held_out, held_out, held_out])
    return {"training": training, "validation": validation, "test": test}


def standardise(log_mel_NFT: Tensor, training: Tensor, chunk: int = 1024) -> tuple[float, float]:
    """Bring the training clips to zero mean and unit variance, in place; returns the mean and deviation they had."""
    total = torch.zeros(2, dtype=torch.float64, device=log_mel_NFT.device)
    for clips in training.split(chunk):
        values = log_mel_NFT[clips].to(torch.float64)
        total += torch.stack([values.sum(), values.square().sum()])
    mean, square = (total / (training.numel() * log_mel_NFT[0].numel())).tolist()
    std = (square - mean**2) ** 0.5
    if not std > 0:
        raise ValueError("the training clips are all the same, so their log-mels cannot be standardised")
    for part in log_mel_NFT.split(chunk):
        part.sub_(mean).div_(std)
    return mean, std
