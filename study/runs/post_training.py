"""What is measured after training: by trainers what takes a device, by Ray tasks on any processor what does not."""

import signal
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import FrameType
from typing import Any

import ray
from rich.console import Console

from marl.evaluation import RESCORABLE
from marl.evaluation.post_training import POST_TRAINING
from study.analysis import StudyResults
from study.environment import versions
from study.errors import Interrupted, RunError, UserError
from study.runs.ray_cluster import ray_session
from study.spec import TrialId
from study.storage import RUN_RETRY_TIMEOUT_S, ObjectStore
from study.store import StudyStore
from study.store.writer import StudyWriter
from study.training.client import TrainerGroup, end_trainers
from study.training.planning import device_type

__all__ = ["TrainerLostError", "examine", "rescore", "score"]

_POLL_S = 0.5
# Inputs of this many models are kept at once; each holds some megabytes of audio.
_AT_ONCE = 8
# Few enough that an interruption is soon noticed.
_GROUP = 16


class TrainerLostError(RunError):
    """A trainer died, or its machine is about to be taken away; with another the work may go on."""


@ray.remote(num_cpus=1, max_retries=3)
def _examined(name: str, given: Any) -> dict[str, Any] | None:
    """A row with the columns of one examination; none for a model without weights."""
    from marl.evaluation.post_training import POST_TRAINING

    if given is None:
        return None
    row, inputs = given
    return {**row, **POST_TRAINING[name](inputs)}


def score(
    trainers: Sequence[Any],
    replicates: Sequence[tuple[TrialId, int]],
    metric_groups: Sequence[str],
    split: str,
    record: Callable[[Mapping[str, Any]], None],
    tick: Callable[[], None],
) -> None:
    """Measure models in groups, on the devices of trainers.

    Args:
        trainers: of the study, at least one.
        replicates: trial and seed of each.
        metric_groups: names of `marl.evaluation.METRIC_GROUPS`.
        split: on whose clips.
        record: gets a row for each model.
        tick: called several times a second; what it raises ends the work.

    Raises:
        TrainerLostError: when a trainer dies.
        RunError: when a model cannot be measured.
    """
    groups = [list(replicates[first : first + _GROUP]) for first in range(0, len(replicates), _GROUP)]
    calls = (
        trainers[number % len(trainers)].evaluate.remote(group, list(metric_groups), split)
        for number, group in enumerate(groups)
    )
    for rows in _results(calls, len(trainers), tick):
        for row in rows:
            record(row)


def examine(
    trainers: Sequence[Any],
    replicates: Sequence[tuple[TrialId, int]],
    name: str,
    record: Callable[[Mapping[str, Any]], None],
    tick: Callable[[], None],
) -> None:
    """Examine models one by one, on the processors of all machines.

    Args:
        trainers: of the study, at least one; they encode.
        replicates: trial and seed of each model.
        name: of `marl.evaluation.post_training.POST_TRAINING`.
        record: gets a row for each model.
        tick: called several times a second; what it raises ends the work.

    Raises:
        TrainerLostError: when a trainer dies.
        RunError: when a model cannot be measured.
    """
    calls = (
        _examined.remote(name, trainers[number % len(trainers)].post_training_inputs.remote(trial, seed))
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


def rescore(
    results: StudyResults,
    metrics: Sequence[str] | None,
    trials: Sequence[int] | None,
    split: str,
    console: Console,
) -> int:
    """Measure complete trials again; new rows are written beside the old ones.

    On the same kind of device and with the same version of the metrics the values are those that were there, to the
    last bit, in whatever order trials come.

    Args:
        results: of the study.
        metrics: names of `marl.evaluation.METRIC_GROUPS` and of `POST_TRAINING`; none for all of the first.
        trials: which; none for all that are complete.
        split: whose clips; `validation` or `test`.
        console: is told what is done.

    Returns:
        How many models were measured.

    Raises:
        UserError: when a name or a trial is none of the study's, or another run of it is live.
    """
    names = list(RESCORABLE if metrics is None else metrics)
    known = (*RESCORABLE, *POST_TRAINING)
    for name in names:
        if name not in known:
            raise UserError(f"--metrics: {name!r} is no group of metrics; there are {', '.join(known)}")
        if name in POST_TRAINING and split != "validation":
            raise UserError(f"--test: {name} is measured on validation clips alone; leave it out")
    table = results.trials()
    complete = [int(trial) for trial in table[table["state"] == "complete"]["trial"]]
    for trial in trials or ():
        if trial not in complete:
            there_are = ", ".join(map(str, complete)) or "none"
            raise UserError(f"--trial: {trial} is no complete trial; there are {there_are}")
    chosen = complete if trials is None else sorted(set(trials))
    replicates = [(trial, seed) for trial in chosen for seed in results.spec.seeds]
    patient = StudyStore(ObjectStore(results.store.objects.uri, RUN_RETRY_TIMEOUT_S), results.store.name)
    writer = StudyWriter(patient, results.target)
    stop_asked = False

    def interrupt(_signum: int, _frame: FrameType | None) -> None:
        nonlocal stop_asked
        stop_asked = True

    def tick() -> None:
        writer.check()
        if stop_asked:
            raise Interrupted

    measured: set[tuple[TrialId, int]] = set()

    def record(row: Mapping[str, Any]) -> None:
        measured.add((row["trial"], row["seed"]))
        writer.add("reports", row)

    previous = signal.signal(signal.SIGINT, interrupt)
    try:
        with ray_session(None):
            console.print(f"measuring {len(replicates)} models on {device_type()}: {', '.join(names)}", soft_wrap=True)
            group = TrainerGroup(results.store.objects.uri, results.store.name, writer.run)
            trainers = [group.start(versions(), device_type())]
            if metric_groups := [name for name in names if name in RESCORABLE]:
                score(trainers, replicates, metric_groups, split, record, tick)
            for name in names:
                if name in POST_TRAINING:
                    examine(trainers, replicates, name, record, tick)
            writer.record_trainers(ray.get([trainer.progress.remote() for trainer in trainers]))
            end_trainers(results.store.objects.uri, results.store.name)
    finally:
        signal.signal(signal.SIGINT, previous)
        writer.finish()
    return len(measured)
