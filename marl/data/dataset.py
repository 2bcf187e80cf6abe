"""What every data set provides: clips with known factors, their log-mels, and splits that share nothing."""

import hashlib
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from marl.audio import LogMel

__all__ = ["HELD_OUT_SHARE", "SPLITS", "SPLIT_UNITS", "UNKNOWN", "Clips", "Dataset", "Factor", "LogMels"]
__all__ += ["random_order", "split_clips"]

SPLITS = ("training", "validation", "test")
SPLIT_UNITS = ("clip", "combination", "group")
"""What a split keeps together, beside all clips with one value of a factor."""
HELD_OUT_SHARE = 0.1
"""Share of the units in the validation split, and again in the test split."""
UNKNOWN = -1
"""Index of a factor's value where the value is unknown. Only training clips may have it."""

_MIN_UNITS = 10
# A held-out split then has two values of the factor, which a probe can choose from.
_MIN_VALUES = 20


@dataclass(frozen=True)
class Factor:
    """An attribute in which clips differ.

    Attributes:
        values: Values of the factor, which `Clips.value_NC` indexes.
        class_of_value: Class of each value. Probes and mutual information use classes, because many values (400
            frequencies) then form few classes (20).
        is_continuous: Whether the values were measured, so that few clips have the same value. The views of a pair
            then share a class of the factor instead of a value.
    """

    name: str
    values: tuple[str | float, ...]
    class_of_value: tuple[int, ...]
    is_continuous: bool = False

    @property
    def classes(self) -> int:
        """Number of classes."""
        return max(self.class_of_value) + 1

    def class_name(self, number: int) -> str:
        """Return the only value of a class, or its first and last value."""
        members = [value for value, class_ in zip(self.values, self.class_of_value, strict=True) if class_ == number]
        ends = members if len(members) == 1 else [members[0], members[-1]]
        return "-".join(value if isinstance(value, str) else f"{value:.4g}" for value in ends)

    def class_of(self, value_n: Tensor) -> Tensor:
        """Return the class of each value, int64; `UNKNOWN` for an unknown value."""
        class_n = torch.tensor(self.class_of_value, device=value_n.device)[value_n]
        return torch.where(value_n == UNKNOWN, UNKNOWN, class_n)


@dataclass(frozen=True)
class Clips:
    """The clips of a data set without their log-mels.

    Attributes:
        value_NC: Index into the values of each factor, int64, or `UNKNOWN`.
        splits: Clips of each split, int64, in a fixed random order: the first n clips are a random sample. If the clips
            were split by a factor, `<split>_probe_train` has the clips that `probe_train_clips` returns.
        waveforms: Function that returns the waveforms [n, S] of n clips, on the CPU.
    """

    value_NC: Tensor
    factors: tuple[Factor, ...]
    splits: dict[str, Tensor]
    waveforms: Callable[[Sequence[int]], Tensor]

    @property
    def factor_names(self) -> tuple[str, ...]:
        """Names of the factors."""
        return tuple(factor.name for factor in self.factors)

    def classes(self, clips_n: Tensor) -> Tensor:
        """Return the class of each clip in each factor, int64 [n, C], or `UNKNOWN`."""
        value_nC = self.value_NC[clips_n]
        return torch.stack([factor.class_of(value_nC[:, c]) for c, factor in enumerate(self.factors)], dim=1)

    def probe_train_clips(self, split: str) -> Tensor:
        """Return the clips that probes are trained on before they are scored on a held-out split.

        These are the training clips whose factors are all known. If the clips were split by a factor, such as the
        instrument, training clips have none of its held-out values. Then they are other clips of the same values, from
        other groups if these values have several groups.
        """
        if (own := self.splits.get(_probe_train(split))) is not None:
            return own
        training = self.splits["training"]
        return training[(self.value_NC[training] != UNKNOWN).all(dim=1)]

    def num_eval_classes(self, split: str) -> tuple[int, ...]:
        """Return the number of classes of each factor that a probe can predict on a held-out split.

        Chance level is its inverse. It is at least two, since a factor with one class has no chance level.
        """
        if _probe_train(split) not in self.splits:
            return tuple(factor.classes for factor in self.factors)
        return tuple(max(2, len(column.unique())) for column in self.classes(self.splits[split]).unbind(dim=1))


class LogMels:
    """Log-mels of all clips.

    A computed data set stores standardised log-mels. A prepared data set stores decibels in float16, which `take`
    standardises by the same operations on the device and on the host.

    Args:
        values_NFT: Log-mels on the device; or an array in host memory, which may be a memory-mapped file.
        device: Where models compute; by default the device of the values.
        mean_db: Mean over the training clips; only for a prepared data set.
        std_db: Standard deviation over the training clips; only for a prepared data set.

    Attributes:
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
        self.is_prepared, self.is_resident = mean_db is not None, isinstance(values_NFT, Tensor)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # torch warns of a read-only file, which is never written to
            self.values_NFT = torch.as_tensor(values_NFT)
        self._mean_db, self._std_db = mean_db, std_db
        self.device = device or self.values_NFT.device

    def take(self, clips_n: Tensor) -> Tensor:
        """Return the standardised log-mels [n, F, T] of some clips, on the device."""
        return self.standardise(self.read(clips_n.to(self.values_NFT.device)).to(self.device))

    __getitem__ = take

    def read(self, clips_n: Tensor, out: Tensor | None = None) -> Tensor:
        """Return the stored values [n, F, T] of some clips, on the device of the values."""
        return torch.index_select(self.values_NFT, 0, clips_n, out=out)

    def standardise(self, values_nFT: Tensor) -> Tensor:
        """Return standardised log-mels from stored values."""
        if self._mean_db is None:
            return values_nFT
        return (values_nFT.to(torch.float32) - self._mean_db) / self._std_db

    def to(self, dtype: torch.dtype) -> "LogMels":
        """Return the standardised log-mels of a computed data set in another type."""
        return LogMels(self.values_NFT.to(dtype), self.device)


@dataclass(frozen=True)
class Dataset(Clips):
    """The clips of a data set and their log-mels.

    Attributes:
        log_mels: Log-mels of all clips.
        audio: Computes such log-mels from waveforms, and waveforms from them.
    """

    log_mels: LogMels
    audio: LogMel

    @property
    def device(self) -> torch.device:
        """Where models compute."""
        return self.log_mels.device

    def on_cpu(self) -> "Dataset":
        """Return the data set with values and splits on the CPU; the log-mels stay where they are."""
        splits = {name: clips.cpu() for name, clips in self.splits.items()}
        return replace(self, value_NC=self.value_NC.cpu(), splits=splits)


def split_clips(
    unit: str, value_NC: Tensor, factors: Sequence[Factor], groups_N: Sequence[str], names_N: Sequence[str]
) -> dict[str, Tensor]:
    """Split clips into training, validation and test (80, 10 and 10 %) so that no unit is in two splits.

    The unit is one of `SPLIT_UNITS`, or the name of a factor. A hash of its name assigns a unit to a split, so units
    keep their order when clips are added. All factors of held-out clips are known. A clip with an unknown factor is in
    the training split; or in none, if its unit is unknown or held out. The result is that of `Clips.splits`. In a split
    by a factor, half of the groups of each held-out value train probes.

    Raises:
        ValueError: If the unit is unknown, or there are too few units for three splits.
    """
    names_C = [factor.name for factor in factors]
    is_known_N = (value_NC != UNKNOWN).all(dim=1).tolist()
    units_N: Sequence[str | None]
    if unit in ("clip", "group"):
        units_N = names_N if unit == "clip" else groups_N
    elif unit == "combination":
        units_N = [str(row) if known else None for row, known in zip(value_NC.tolist(), is_known_N, strict=True)]
    elif unit in names_C:
        column = names_C.index(unit)
        words = [*map(str, factors[column].values), None]  # UNKNOWN is the index of the last item
        units_N = [words[index] for index in value_NC[:, column].tolist()]
    else:
        raise ValueError(f"split must be one of {', '.join((*SPLIT_UNITS, *names_C))}; got {unit!r}")
    units = {name for name, known in zip(units_N, is_known_N, strict=True) if known and name is not None}
    min_units = _MIN_VALUES if unit in names_C else _MIN_UNITS
    if len(units) < min_units:
        what = "clips" if unit == "clip" else f"different values of {unit}" if unit in names_C else f"{unit}s"
        raise ValueError(
            f"split: {unit}: {len(units)} {what} with all factors known are too few for training, validation and test; "
            f"at least {min_units} are needed"
        )
    order = sorted(units, key=random_order)
    held_out = max(1, round(len(units) * HELD_OUT_SHARE))
    split_of = dict.fromkeys(order[:held_out], "validation") | dict.fromkeys(order[held_out : 2 * held_out], "test")
    members: dict[str, list[int]] = {split: [] for split in SPLITS}
    for clip in sorted(range(len(names_N)), key=lambda clip: random_order(names_N[clip])):
        name = units_N[clip]
        split = None if name is None else split_of.get(name, "training")
        # A clip with an unknown factor cannot be evaluated, and would leak from its held-out unit into training.
        if split is not None and (is_known_N[clip] or split == "training"):
            members[split].append(clip)
    splits = {split: torch.tensor(clips) for split, clips in members.items()}
    if unit in names_C:
        for split in ("validation", "test"):
            scored, probe_train = _halve(members[split], units_N, groups_N)
            splits[split], splits[_probe_train(split)] = torch.tensor(scored), torch.tensor(probe_train)
    return splits


def _halve(clips: Sequence[int], units_N: Sequence[str | None], groups_N: Sequence[str]) -> tuple[list[int], list[int]]:
    """Return the clips that probes are scored on and those that they are trained on; no group has clips in both.

    The groups of each value of a factor are distributed so that both halves have about as many clips of it. A value
    with a single group is not scored. If all values have a single group, such as instruments that are groups
    themselves, the clips are halved instead.
    """
    counts: dict[str, Counter[str | None]] = {}
    for clip in clips:
        counts.setdefault(groups_N[clip], Counter())[units_N[clip]] += 1
    halves: tuple[Counter[str | None], Counter[str | None]] = Counter(), Counter()  # to train on, to score on
    is_scored = {}
    for group in sorted(counts, key=random_order):
        overlap, scored_overlap = (sum(count * half[unit] for unit, count in counts[group].items()) for half in halves)
        is_scored[group] = scored_overlap < overlap
        halves[is_scored[group]].update(counts[group])
    scored = [clip for clip in clips if is_scored[groups_N[clip]] and halves[False][units_N[clip]]]
    if not scored:
        return list(clips[::2]), list(clips[1::2])
    return scored, [clip for clip in clips if not is_scored[groups_N[clip]]]


def _probe_train(split: str) -> str:
    return f"{split}_probe_train"


def random_order(name: str) -> bytes:
    """Return a hash by which names are sorted in a random order that is always the same."""
    return hashlib.sha256(name.encode()).digest()
