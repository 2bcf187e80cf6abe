"""Evaluation of stored models: trainers compute what needs a device, Ray tasks on any processor the rest."""

import signal
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import cycle
from typing import Any

import ray
from rich.console import Console

from marl.evaluation import RESCORABLE
from marl.evaluation.post_training import POST_TRAINING
from study.analysis import StudyResults, trial_name
from study.environment import available_cpus, versions
from study.errors import Interrupted, RunError, UserError, option
from study.formatting import suggestion
from study.in_flight import in_flight
from study.progress import progress_bar
from study.runs.ray_cluster import ray_session
from study.runs.stop_signals import StopSignals, handle_signals
from study.spec import Baseline, TrialId
from study.spec.plugins import load_recorded
from study.storage import RUN_RETRY_TIMEOUT_S, ObjectStore
from study.store import StudyStore
from study.store.writer import StudyWriter
from study.training.client import TrainerGroup
from study.training.planning import device_type

_POLL_S = 0.5
# The inputs of one model hold some megabytes of audio.
_MAX_INPUTS_IN_FLIGHT = 8
# Models in one call of a trainer: at most a group of them. Calls cannot be interrupted, so a call must be short.
_MODELS_PER_CALL = {"cuda": 16, "cpu": 2}
_MAX_NAMED = 20


class TrainerLostError(RunError):
    """A trainer died, or its machine is about to be reclaimed. The evaluation can continue with another trainer."""


def evaluate_stored(
    trainers: Sequence[Any],
    replicates: Sequence[tuple[TrialId, int]],
    metric_groups: Sequence[str],
    split: str,
    tick: Callable[[], None],
) -> Iterator[dict[str, Any]]:
    """Evaluate stored models, and yield rows of `reports/`; none for a model without weights in the store.

    Trainers compute the groups of `marl.evaluation.metric_group`. For groups of `POST_TRAINING`, trainers encode clips
    and Ray tasks compute the metrics. Each group has separate rows.

    Args:
        trainers: Handles of trainers, at least one.
        replicates: Trial and seed of each model.
        metric_groups: Names of both kinds of groups.
        split: `validation` or `test`. Groups of `POST_TRAINING` always use validation clips.
        tick: Called several times per second. An error that it raises ends the evaluation.

    Raises:
        TrainerLostError: If a trainer dies.
        RunError: If a model cannot be evaluated.
    """
    if on_device := [group for group in metric_groups if group not in POST_TRAINING]:
        size = _MODELS_PER_CALL[device_type()]
        starts = range(0, len(replicates), size)
        calls = (
            trainer.evaluate.remote(list(replicates[first : first + size]), on_device, split)
            for trainer, first in zip(cycle(trainers), starts, strict=False)
        )
        for rows in results_of(calls, len(trainers), tick):
            yield from rows
    for group in metric_groups:
        if group in POST_TRAINING:
            tasks = (
                _evaluate_inputs.remote(group, trainer.post_training_inputs.remote(trial, seed))
                for trainer, (trial, seed) in zip(cycle(trainers), replicates, strict=False)
            )
            yield from filter(None, results_of(tasks, _MAX_INPUTS_IN_FLIGHT, tick))


@ray.remote(num_cpus=1, max_retries=3)
def _evaluate_inputs(group: str, inputs: Any) -> dict[str, Any] | None:
    """Return a row with the metrics of one group of `POST_TRAINING`; None for a model without weights."""
    if inputs is None:
        return None
    row, arrays = inputs
    return {**row, **POST_TRAINING[group](arrays)}


def results_of(calls: Iterable[Any], max_in_flight: int, tick: Callable[[], None]) -> Iterator[Any]:
    """Yield the results of calls in the order of the calls. `tick` is called several times a second."""

    def wait(running: list[Any]) -> list[Any]:
        done, _ = ray.wait(running[:1], timeout=_POLL_S)
        tick()
        return done

    for call in in_flight(calls, lambda running: len(running) < max_in_flight, wait):
        try:
            yield ray.get(call)
        except (ray.exceptions.RayActorError, ray.exceptions.ObjectLostError) as error:
            raise TrainerLostError("a trainer was lost during the evaluation of stored models") from error
        except ray.exceptions.RayError as error:
            *_, reason = str(error).strip().splitlines()
            raise RunError(f"a model could not be evaluated: {reason}") from error


def rescore(
    results: StudyResults, metrics: Sequence[str] | None, trials: Sequence[int] | None, split: str, console: Console
) -> int:
    """Evaluate complete trials and the plain VAE again. The rows of earlier evaluations stay.

    On the same kind of device and with the same metric version, values are bit-identical to earlier ones, in any order
    of the trials.

    Args:
        results: Results of the study.
        metrics: Names of `marl.evaluation.METRIC_GROUPS`, of plug-in metrics of the study, and of `POST_TRAINING`; None
            for all but the last.
        trials: Numbers of the trials; None for all complete ones and the plain VAE.
        split: `validation` or `test`.
        console: Console for progress.

    Returns:
        Number of evaluated models.

    Raises:
        UserError: If there is no such group or complete trial, or another run of the study is live.
        RunError: If weights are missing or damaged, after all other models were evaluated. Trials whose weights `clean`
            deleted are left out, unless `trials` names them or no model remains.
    """
    load_recorded(results.spec, results.metadata.plugins)
    rescorable = (*RESCORABLE, *results.spec.metrics)
    names = list(rescorable if metrics is None else metrics)
    for name in names:
        if name not in (*rescorable, *POST_TRAINING):
            known = suggestion(name, (*rescorable, *POST_TRAINING))
            raise UserError(f"{option('metrics')}: must be groups of metrics; got {name!r}; {known}")
        if name in POST_TRAINING and split != "validation":
            only = f"{name} is defined on validation clips only"
            raise UserError(f"{option('split', flag='--test')}: {only}; leave it out")
    table = results.trials()
    complete = [int(trial) for trial in table[table["state"] == "complete"]["trial"]]
    for trial in trials or ():
        if trial not in complete:
            known = ", ".join(map(str, complete)) or "none yet"
            raise UserError(f"{option('trials', flag='--trial')}: must be a complete trial ({known}); got {trial}")
    chosen: list[TrialId] = [*complete] if trials is None else sorted(set(trials))
    if trials is None and Baseline.PLAIN_VAE in set(results.baselines().get("baseline", ())):
        chosen.append(Baseline.PLAIN_VAE)
    replicates = [(trial, seed) for trial in chosen for seed in results.spec.seeds]
    store = StudyStore(ObjectStore(results.store.objects.uri, RUN_RETRY_TIMEOUT_S), results.store.name)
    stop = StopSignals()

    def tick() -> None:
        writer.check()
        if stop.requested:
            raise Interrupted

    evaluated: set[tuple[TrialId, int]] = set()
    with (
        handle_signals(stop, signal.SIGINT),
        StudyWriter(store, results.target) as writer,
        ray_session(None),
        TrainerGroup(store.objects.uri, store.name, writer.run) as group,
    ):
        console.print(f"evaluating {len(replicates)} models on {device_type()}: {', '.join(names)}", soft_wrap=True)
        device = device_type()
        number = results.spec.trainers(len(replicates), available_cpus()) if device == "cpu" else 1
        trainers = group.start(versions(), device, number)
        stop.is_graceful = True
        evaluations = sum(name in POST_TRAINING for name in names) + any(name in RESCORABLE for name in names)
        with progress_bar(console, "evaluating", "evaluations") as show:
            for number, row in enumerate(evaluate_stored(trainers, replicates, names, split, tick), 1):
                evaluated.add((row["trial"], row["seed"]))
                writer.add("reports", row)
                show(number, len(replicates) * evaluations)
        stop.is_graceful = False
        writer.record_trainers(ray.get([trainer.progress.remote() for trainer in trainers]))
    missing = [replicate for replicate in replicates if replicate not in evaluated]
    deleted = [trial for trial in dict.fromkeys(trial for trial, _ in missing) if store.discarded(trial) is not None]
    if deleted and trials is None:
        line = f"left out, because `marl-study clean` deleted their weights: trials {_named(map(str, deleted))}"
        console.print(line, soft_wrap=True)
        missing = [(trial, seed) for trial, seed in missing if trial not in deleted] if evaluated else missing
    if missing:
        models = _named(f"{trial_name(trial)} seed {seed}" for trial, seed in missing)
        raise RunError(
            f"evaluated {len(evaluated)} of {len(replicates)} models; the weights of the others are missing or damaged "
            f"in {store.uri}: {models}"
        )
    return len(evaluated)


def _named(names: Iterable[str]) -> str:
    """Join the first names, and count the others."""
    first, others = (known := list(names))[:_MAX_NAMED], len(known) - _MAX_NAMED
    return ", ".join(first) + (f" and {others} more" if others > 0 else "")
