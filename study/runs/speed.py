"""Training speed of a run, and the time that replicates still need."""

from collections import deque
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from study.spec import TrialId

_WINDOW_S = 20.0


class _Sample(NamedTuple):
    time: float
    trained_steps: int
    steps: Mapping[tuple[TrialId, int], int]


class TrainingSpeed:
    """Steps per second over the last seconds, of all replicates together and of each."""

    def __init__(self) -> None:
        self._samples: deque[_Sample] = deque()

    def add(self, now: float, replicates: Iterable[tuple[TrialId, int, int]], trained_steps: int) -> None:
        """Add the steps at one time: trial, seed and step of each replicate, and the total of all replicates."""
        steps = {(trial, seed): step for trial, seed, step in replicates}
        self._samples.append(_Sample(now, trained_steps, steps))
        while now - self._samples[0].time > _WINDOW_S:
            self._samples.popleft()

    @property
    def has_samples(self) -> bool:
        """True after the first call of `add`."""
        return bool(self._samples)

    @property
    def total(self) -> float:
        """Steps per second of all replicates together; 0 until it is known."""
        return (
            self._per_second(self._samples[-1].trained_steps - self._samples[0].trained_steps) if self._samples else 0
        )

    def seconds_for(self, trial: TrialId, steps_left: Mapping[int, int]) -> float | None:
        """Return the time that a trial needs for the steps left by seed, or None if the speed is not known.

        Replicates that wait for a lane, or have just started, are assumed to train as fast as the others do on average.
        """
        if not self._samples:
            return None
        first, last = self._samples[0].steps, self._samples[-1].steps
        gained = {replicate: step - first[replicate] for replicate, step in last.items() if replicate in first}
        speeds = {replicate: self._per_second(steps) for replicate, steps in gained.items() if steps > 0}
        usual = sum(speeds.values()) / len(speeds) if speeds else self.total / max(1, len(last))
        if not steps_left or not usual > 0:
            return None
        return max(steps / speeds.get((trial, seed), usual) for seed, steps in steps_left.items())

    def _per_second(self, steps: int) -> float:
        elapsed = self._samples[-1].time - self._samples[0].time
        return steps / elapsed if elapsed > 0 else 0.0
