"""Models that reached a budget wait for others and are evaluated together, while their replicates train on."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor

from marl.config import Config
from marl.evaluation import MATURE, YOUNG, evaluate, held_out_clips
from marl.models import Model, Models
from marl.stack import Snapshot
from study.training.memory import is_out_of_memory
from study.training.replicate import Replicate
from study.training.stacks import Family

__all__ = ["Due", "Evaluated", "Evaluator"]

# One model costs nearly as much as so many.
_TOGETHER = 16
# So long a model waits for others: a young one keeps a decision waiting, a mature one hardly anybody.
_YOUNG_WAIT_S, _MATURE_WAIT_S = 0.5, 2.0


@dataclass(frozen=True)
class Due:
    """A replicate that reached a budget, as it was then.

    Attributes:
        replicate: which.
        step: the budget.
        model: to be evaluated.
        snapshot: to be kept, when it is mature.
        since: when it got here, by `time.monotonic`.
    """

    replicate: Replicate
    step: int
    model: Model
    snapshot: Snapshot | None
    since: float


class Evaluated(NamedTuple):
    """What came of it, with the means of the held-out clips at the widths of the stack."""

    due: Due
    metrics: dict[str, float]
    mean_ND: Tensor
    clips: Tensor


class Evaluator:
    """Groups of one size, made up where too few are there: a model's numbers do not depend on who else is due.

    Args:
        models_of: makes models of a family of which a configuration is one.
        shared: names of the factors that views share.
        together: models of a group at most.
    """

    def __init__(self, models_of: Callable[[Family, Config], Models], shared: tuple[str, ...], together: int) -> None:
        self._models_of = models_of
        self._shared = shared
        self._together = min(_TOGETHER, together)
        self._queues: dict[tuple[Family, bool], list[Due]] = {}

    @property
    def together(self) -> int:
        """Models of a group."""
        return self._together

    @property
    def is_busy(self) -> bool:
        """Whether a model waits."""
        return any(self._queues.values())

    def add(self, family: Family, due: Due) -> None:
        """Let a model wait, unless it does already."""
        queue = self._queues.setdefault((family, due.snapshot is not None), [])
        if not any(other.replicate is due.replicate and other.step == due.step for other in queue):
            queue.append(due)

    def remove(self, trial: int) -> None:
        """Forget the models of a trial."""
        for key, queue in self._queues.items():
            self._queues[key] = [due for due in queue if due.replicate.trial != trial]

    def evaluate(self, nobody_comes: bool) -> Iterator[Evaluated]:
        """Evaluate full groups, and those whose oldest model waited long enough.

        Args:
            nobody_comes: whether no other model is to be waited for.
        """
        for key in list(self._queues):
            family, is_mature = key
            wait_s = _MATURE_WAIT_S if is_mature else _YOUNG_WAIT_S
            while queue := self._queues[key]:
                is_full = len(queue) >= self._together
                if not is_full and not nobody_comes and time.monotonic() - queue[0].since < wait_s:
                    break
                # A replicate's reports come in the order of its steps, however long the earlier ones may wait.
                while is_mature and self._queues.get((family, False)):
                    yield from self._next_group((family, False))
                yield from self._next_group(key)

    def _next_group(self, key: tuple[Family, bool]) -> Iterator[Evaluated]:
        family, is_mature = key
        queue = self._queues[key]
        group, self._queues[key] = queue[: self._together], queue[self._together :]
        try:
            yield from self._evaluated(family, group, is_mature)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error) or self._together == 1:
                raise
            self._together //= 2
            self._queues[key] = group + self._queues[key]

    def _evaluated(self, family: Family, group: list[Due], is_mature: bool) -> list[Evaluated]:
        models = self._models_of(family, group[0].replicate.config)
        together = models.group([due.model for due in group], self._together)
        evaluation = evaluate(together, self._shared, MATURE if is_mature else YOUNG)
        clips, means_KND = held_out_clips(together).cpu(), evaluation.means_KND.cpu()
        return [
            Evaluated(due, metrics, mean_ND, clips)
            for due, metrics, mean_ND in zip(group, evaluation.metrics, means_KND, strict=False)
        ]
