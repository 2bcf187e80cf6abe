"""Runs a study: claims it, starts Ray, lets Tune try configurations, and leaves everything in the store."""

import signal
import tempfile
import time
from collections import Counter
from collections.abc import Mapping
from types import FrameType
from typing import Any

import psutil
import ray
from ray import tune
from ray.tune.schedulers import TrialScheduler
from rich.console import Console

from marl.evaluation import OF_WEIGHTS
from study.errors import Interrupted
from study.examining import examine, score
from study.execution import device_type
from study.halving import HalvingScheduler, rungs_so_far
from study.live import LiveView
from study.local_ray import LocalRay
from study.past import past_trials
from study.recorder import Recorder
from study.results import PLAIN_VAE, StudyResults
from study.spec import Spec
from study.stacks import StackPlan
from study.store import StudyStore
from study.trainers import start_trainer, trainers_of
from study.trial import StudyTrial
from study.tuning import StudyCallback, StudySearcher

__all__ = ["launch"]

_DRAIN_WITHIN_S = 7.0
_PROGRESS_EVERY_S = 1.0
_TRIES = 3


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
    searcher = StudySearcher(spec, past, target, with_plain_vae=not results.has_plain_vae, recorder=recorder)
    rungs = rungs_so_far(spec, store.read("reports"))
    plan = StackPlan.model_validate(results.document.stack)
    view.say(f"{plan.lanes} lanes, {plan.precision}, {plan.why}")
    with view, LocalRay():
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
        previous = signal.signal(signal.SIGINT, self._on_interrupt)
        try:
            self._view.phase("starting the trainer")
            if self._searcher.remaining:
                self._try_configurations(_trials_at_once(self._spec, lanes), scheduler)
            self._recorder.flush()
            self._examine_contenders()
        finally:
            signal.signal(signal.SIGINT, previous)
            self._recorder.finish()

    def _try_configurations(self, at_once: int, scheduler: TrialScheduler | None) -> None:
        spec = self._spec
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
                    num_samples=self._searcher.remaining,
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

    def _examine_contenders(self) -> None:
        """What the spec asks for of the front and of trials near it."""
        missing = StudyResults(self._store).unexamined()
        if not missing:
            return
        trials = {trial for replicates in missing.values() for trial, _ in replicates}
        self._view.say(f"measuring the front and what is near it, {len(trials)} trials: {', '.join(missing)}")
        study, launch = self._spec.name, self._recorder.launch
        trainers = trainers_of(study, launch) or [start_trainer(self._store.objects.uri, study, launch, device_type())]

        def tick() -> None:
            self._recorder.tick()
            self._tick()

        for name, replicates in missing.items():
            if name == "test":
                score(trainers, replicates, OF_WEIGHTS, "test", self._record_report, tick)
            elif name == "samples":
                score(trainers, replicates, ["sampled_probes"], "validation", self._record_report, tick)
            else:
                examine(trainers, replicates, name, self._record_report, tick)

    def _record_report(self, row: Mapping[str, Any]) -> None:
        self._recorder.add("reports", row)

    def _on_interrupt(self, signum: int, frame: FrameType | None) -> None:
        if self._stop_asked:  # asked twice: at once
            raise Interrupted
        self._stop_asked = True
        self._view.say("stopping: writing checkpoints (press Ctrl-C again to stop at once)")

    def _changed(self, number: int, state: str, error: str | None) -> None:
        if number == PLAIN_VAE:
            if error:
                self._view.say(f"the plain VAE, which trials are compared with, failed: {error}")
        elif state == "running":
            self._view.started(number, self._searcher.parameters[number])
        else:
            self._view.ended(number, state, error, self._searcher.final_values.get(number))
        if state not in ("running", "complete"):
            for trainer in trainers_of(self._spec.name, self._recorder.launch):
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
        calls = [getattr(trainer, method).remote() for trainer in trainers_of(self._spec.name, self._recorder.launch)]
        ready, _ = ray.wait(calls, num_returns=len(calls), timeout=within_s) if calls else ([], [])
        answers = []
        for call in ready:
            try:
                answers.append(ray.get(call))
            except ray.exceptions.RayError:  # a trainer that died is replaced by its trials
                continue
        return answers


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
