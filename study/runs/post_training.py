"""What is measured after training: by trainers what takes a device, by Ray tasks on any processor what does not."""

from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import ray

from study.errors import RunError

__all__ = ["TrainerLostError", "examine", "score"]

_POLL_S = 0.5
# Material of so many models is kept at once; each is some megabytes of sound.
_AT_ONCE = 8
# Few enough that an interruption is soon noticed.
_GROUP = 16


class TrainerLostError(RunError):
    """A trainer died, or its machine is about to be taken away; with another the work may go on."""


@ray.remote(num_cpus=1, max_retries=3)
def _examined(name: str, given: Any) -> dict[str, Any] | None:
    """A row with the columns of one examination; none for a model without weights."""
    from marl.evaluation.post_training import EXAMINATIONS

    if given is None:
        return None
    row, material = given
    return {**row, **EXAMINATIONS[name](material)}


def score(
    trainers: Sequence[Any],
    replicates: Sequence[tuple[int, int]],
    measures: Sequence[str],
    split: str,
    record: Callable[[Mapping[str, Any]], None],
    tick: Callable[[], None],
) -> None:
    """Measure models in groups, on the devices of trainers.

    Args:
        trainers: of the study, at least one.
        replicates: trial and seed of each.
        measures: names of `marl.evaluation.MEASURES`.
        split: on whose clips.
        record: gets a row for each model.
        tick: called several times a second; what it raises ends the work.

    Raises:
        TrainerLostError: when a trainer dies.
        RunError: when a model cannot be measured.
    """
    groups = [list(replicates[first : first + _GROUP]) for first in range(0, len(replicates), _GROUP)]
    calls = (
        trainers[number % len(trainers)].scores.remote(group, list(measures), split)
        for number, group in enumerate(groups)
    )
    for rows in _results(calls, len(trainers), tick):
        for row in rows:
            record(row)


def examine(
    trainers: Sequence[Any],
    replicates: Sequence[tuple[int, int]],
    name: str,
    record: Callable[[Mapping[str, Any]], None],
    tick: Callable[[], None],
) -> None:
    """Examine models one by one, on the processors of all machines.

    Args:
        trainers: of the study, at least one; they encode.
        replicates: trial and seed of each model.
        name: of `marl.evaluation.post_training.EXAMINATIONS`.
        record: gets a row for each model.
        tick: called several times a second; what it raises ends the work.

    Raises:
        TrainerLostError: when a trainer dies.
        RunError: when a model cannot be measured.
    """
    calls = (
        _examined.remote(name, trainers[number % len(trainers)].material.remote(trial, seed))
        for number, (trial, seed) in enumerate(replicates)
    )
    for row in _results(calls, _AT_ONCE, tick):
        if row is not None:
            record(row)


def _results(calls: Iterable[Any], at_once: int, tick: Callable[[], None]) -> Iterable[Any]:
    """Results in the order of the calls, which are made so many at a time."""
    calls = iter(calls)
    under_way: deque[Any] = deque()
    while True:
        while len(under_way) < at_once and (call := next(calls, None)) is not None:
            under_way.append(call)
        if not under_way:
            return
        ready, _ = ray.wait([under_way[0]], timeout=_POLL_S)
        tick()
        if ready:
            try:
                yield ray.get(under_way.popleft())
            except (ray.exceptions.RayActorError, ray.exceptions.ObjectLostError) as error:
                raise TrainerLostError("a trainer was lost while models were measured") from error
            except ray.exceptions.RayError as error:
                *_, reason = str(error).strip().splitlines()
                raise RunError(f"a model could not be measured: {reason}") from error
