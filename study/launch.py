"""Runs a study: claims it, starts Ray, lets Tune try configurations, and leaves everything in the store."""

import logging
import os
import signal
import tempfile
import time
from collections import Counter
from types import FrameType
from typing import Any

import psutil
import ray
from ray import tune
from ray.tune.schedulers import TrialScheduler
from rich.console import Console

from study.configuration import StackPlan
from study.errors import Interrupted, RunError
from study.execution import device_type
from study.halving import HalvingScheduler, rungs_so_far
from study.live import LiveView
from study.past import past_trials
from study.recorder import Recorder
from study.results import StudyResults
from study.spec import Spec
from study.store import StudyStore
from study.trainer import NAMESPACE, trainer_prefix
from study.trial import StudyTrial
from study.tuning import StudyCallback, StudySearcher

__all__ = ["launch"]

_DRAIN_WITHIN_S = 7.0
_PROGRESS_EVERY_S = 1.0
_TRIES = 3
_OBJECT_STORE_BYTES = 100 * 1024**2
_SURROUNDINGS = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_DEDUP_LOGS": "1",
    # The store is what a study is resumed from, so Tune writes neither logs nor state of its own.
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_GLOBAL_CHECKPOINT_S": "1000000000",
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "RAY_AIR_NEW_OUTPUT": "0",
    # Threads of a step wait for each other. At Ray's low priority, 15, one busy program beside it makes them wait for
    # most of the time: a study then trains at a twentieth of its speed.
    "RAY_worker_niceness": "0",
}


def launch(store: StudyStore, target: int, console: Console) -> None:
    """Bring a study to a number of trials. Trials that are over stay as they are; interrupted ones go on.

    Raises:
        UserError: when another launch of the study is live.
        RunError: when a later launch takes the study over, or Ray cannot be started.
        Interrupted: when the user stops it.
    """
    results = StudyResults(store)
    recorder = Recorder(store, target)
    past = past_trials(results)
    spec = results.spec
    over = [trial for trial in past if trial.state not in ("running", "interrupted")]
    view = LiveView(
        spec,
        target,
        Counter(trial.state for trial in over),
        {trial.number: trial.values for trial in over if trial.values is not None},
        console,
    )
    searcher = StudySearcher(spec, past, target, recorder)
    rungs = rungs_so_far(spec, store.read("reports"))
    plan = StackPlan.model_validate(results.document.stack)
    view.say(f"{plan.lanes} lanes, {plan.precision}, {plan.why}")
    with view, _LocalRay():
        driver = _Driver(store, spec, recorder, searcher, view)
        driver.run(plan.lanes, HalvingScheduler(rungs) if rungs else None)


class _Driver:
    """One run of Tune over a study."""

    def __init__(
        self, store: StudyStore, spec: Spec, recorder: Recorder, searcher: StudySearcher, view: LiveView
    ) -> None:
        self._store = store
        self._spec = spec
        self._recorder = recorder
        self._searcher = searcher
        self._view = view
        self._stop_asked = False
        self._progress_at = 0.0
        self._is_training = False
        self._said: set[str] = set()

    def run(self, lanes: int, scheduler: TrialScheduler | None) -> None:
        """Let Tune try configurations until none is left."""
        spec = self._spec
        at_once = _trials_at_once(spec, lanes)
        self._view.phase("starting the trainer")
        previous = signal.signal(signal.SIGINT, self._on_interrupt)
        try:
            with tempfile.TemporaryDirectory(prefix="marl-tune-") as folder:
                tune.Tuner(
                    tune.with_resources(StudyTrial, _share_of_a_device(at_once)),
                    param_space={
                        "store": self._store.objects.uri,
                        "study": spec.name,
                        "launch": self._recorder.launch,
                        "steps": spec.train.steps,
                    },
                    tune_config=tune.TuneConfig(
                        search_alg=self._searcher,
                        scheduler=scheduler,
                        num_samples=max(1, self._searcher.remaining),
                        max_concurrent_trials=at_once,
                        reuse_actors=True,
                    ),
                    run_config=tune.RunConfig(
                        name=spec.name,
                        storage_path=folder,
                        callbacks=[
                            StudyCallback(self._searcher, self._recorder, spec.train.steps, self._changed, self._tick)
                        ],
                        failure_config=tune.FailureConfig(max_failures=_TRIES - 1),
                        verbose=0,
                    ),
                ).fit()
        finally:
            signal.signal(signal.SIGINT, previous)
            self._recorder.finish()

    def _on_interrupt(self, signum: int, frame: FrameType | None) -> None:
        if self._stop_asked:  # asked twice: at once
            raise Interrupted
        self._stop_asked = True
        self._view.say("stopping: writing checkpoints (press Ctrl-C again to stop at once)")

    def _changed(self, number: int, state: str, error: str | None) -> None:
        if state == "running":
            self._view.started(number, self._searcher.parameters[number])
        else:
            self._view.ended(number, state, error, self._searcher.final_values.get(number))
            if state != "complete":
                for trainer in self._trainers():
                    trainer.discard.remote(number)

    def _tick(self) -> None:
        if self._stop_asked:
            self._drain()
            raise Interrupted
        if time.monotonic() - self._progress_at < _PROGRESS_EVERY_S:
            return
        answers = self._ask_trainers("progress", within_s=0.5)
        reports = [report for report in answers if report["ready"]]
        if reports:
            self._is_training = True
            self._view.progress(
                [tuple(one) for report in reports for one in report["replicates"]],
                sum(report["trained_steps"] for report in reports),
            )
            self._recorder.note_trainers(reports)
            for notice in {notice for report in reports for notice in report["notices"]} - self._said:
                self._said.add(notice)
                self._view.say(notice)
        elif answers:
            self._view.phase(answers[0]["phase"])
        self._progress_at = time.monotonic()

    def _drain(self) -> None:
        self._recorder.flush()
        if self._is_training:  # before that there is nothing to keep
            self._ask_trainers("drain", within_s=_DRAIN_WITHIN_S)

    def _ask_trainers(self, method: str, within_s: float) -> list[Any]:
        """Answers of all trainers of this launch that answer in time."""
        calls = [getattr(trainer, method).remote() for trainer in self._trainers()]
        ready, _ = ray.wait(calls, num_returns=len(calls), timeout=within_s) if calls else ([], [])
        answers = []
        for call in ready:
            try:
                answers.append(ray.get(call))
            except ray.exceptions.RayError:  # a trainer that died is replaced by its trials
                continue
        return answers

    def _trainers(self) -> list[Any]:
        prefix = trainer_prefix(self._spec.name, self._recorder.launch)
        found = []
        for actor in ray.util.list_named_actors(all_namespaces=True):
            if actor["namespace"] == NAMESPACE and actor["name"].startswith(prefix):
                try:
                    found.append(ray.get_actor(actor["name"], namespace=NAMESPACE))
                except ValueError:  # died since it was listed
                    continue
        return found


class _LocalRay:
    """A Ray of this process alone: started quietly, stopped without traces."""

    def __enter__(self) -> None:
        for name, value in _SURROUNDINGS.items():
            os.environ.setdefault(name, value)
        for name in ("ray", "ray.tune", "ray.train"):
            logging.getLogger(name).setLevel(logging.CRITICAL)
        # Sockets in this folder have names of limited length, so it is not put below a long one.
        self._folder = tempfile.TemporaryDirectory(prefix="marl-", dir="/tmp", ignore_cleanup_errors=True)
        try:
            ray.init(
                address="local",
                namespace=NAMESPACE,
                include_dashboard=False,
                log_to_driver=False,
                logging_level=logging.CRITICAL,
                object_store_memory=_OBJECT_STORE_BYTES,
                _temp_dir=self._folder.name,
            )
        except Exception as error:
            self._folder.cleanup()
            raise RunError(f"Ray could not be started on this machine: {error}") from error

    def __exit__(self, *_: object) -> None:
        ray.shutdown()
        self._folder.cleanup()


def _trials_at_once(spec: Spec, lanes: int) -> int:
    """As many trials as fill the lanes, and some that wait in line there, so that a free lane is taken at once.

    Under halving most trials are one replicate that climbs.
    """
    training = lanes if spec.halving else -(-lanes // spec.replicates)
    return training + max(1, training // 8)


def _share_of_a_device(at_once: int) -> dict[str, float]:
    """What a trial asks Ray for: so much of a GPU, or of this machine's CPUs, that so many have a place."""
    if device_type() == "cuda":
        return {"cpu": 0, "gpu": _rounded_down(1 / at_once)}
    return {"cpu": _rounded_down((psutil.cpu_count() or 1) / at_once)}


def _rounded_down(share: float) -> float:
    return int(share * 10_000) / 10_000  # Ray counts in ten-thousandths
