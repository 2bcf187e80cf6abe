"""Runs a study: takes its lease, starts Ray, lets Tune try configurations, and leaves everything in the store."""

import signal
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from types import FrameType
from typing import Any

from ray import tune
from ray.tune.schedulers import TrialScheduler
from rich.console import Console

from marl.evaluation import RESCORABLE
from study.analysis import StudyResults, trial_name
from study.environment import versions
from study.errors import Interrupted
from study.runs.post_training import TrainerLostError, examine, score
from study.runs.progress import LiveView
from study.runs.ray_cluster import BEGUN, ray_session
from study.search.halving import HalvingScheduler, rungs_so_far
from study.search.sampler import past_trials
from study.search.tune import MAX_ACTOR_RESTARTS, StudyCallback, StudySearcher
from study.spec import Spec, TrialId
from study.spec.resolved_spec import StackPlan
from study.storage import RUN_RETRY_TIMEOUT_S, ObjectStore
from study.store import StudyStore
from study.store.writer import StudyWriter
from study.training.client import StudyTrial, TrainerGroup, end_trainers
from study.training.resources import ResourcePlan

__all__ = ["launch"]

_DRAIN_WITHIN_S = 7.0
_PROGRESS_EVERY_S = 1.0
# So often may trainers be lost while models are measured.
_TRIES = 5
_PAUSE_S = 2.0


def launch(store: StudyStore, target: int, console: Console, address: str | None = None) -> None:
    """Bring a study to a number of trials. Trials that are over stay as they are; interrupted ones go on.

    Args:
        store: the study.
        target: how many trials it shall have.
        console: is told what happens.
        address: of a cluster's Ray; none for one on this machine alone.

    Raises:
        UserError: when another run of the study is live.
        RunError: when a later run takes the study over, or Ray cannot be started.
        Interrupted: when the user stops it.
    """
    store = StudyStore(ObjectStore(store.objects.uri, RUN_RETRY_TIMEOUT_S), store.name)
    results = StudyResults(store)
    writer = StudyWriter(store, target, on_outage=lambda line: view.say(line))
    past = past_trials(results)
    spec = results.spec
    over = [trial for trial in past if trial.state not in ("running", "interrupted")]
    view = LiveView(
        spec,
        target,
        Counter(trial.state for trial in over),
        {trial.number: trial.values for trial in over if trial.values is not None},
        console,
        writer.log,
    )
    searcher = StudySearcher(spec, past, target, with_plain_vae=not results.has_plain_vae, writer=writer)
    rungs = rungs_so_far(spec, store.read("reports"))
    plan = StackPlan.model_validate(results.metadata.stack)
    begun = BEGUN.format(run=writer.run, study=spec.name)
    view.say(f"{begun}: {plan.lanes} lanes, {plan.precision}, {plan.why}")
    with view, ray_session(address):
        resource_plan = ResourcePlan(store.objects.uri, spec, plan.lanes, is_shared=address is not None)
        searcher.max_running = resource_plan.max_trials
        driver = _Driver(store, spec, writer, searcher, view, resource_plan)
        driver.run(HalvingScheduler(rungs) if rungs else None)


class _Driver:
    """One run of Tune over a study."""

    def __init__(
        self,
        store: StudyStore,
        spec: Spec,
        writer: StudyWriter,
        searcher: StudySearcher,
        view: LiveView,
        resource_plan: ResourcePlan,
    ) -> None:
        self._store = store
        self._spec = spec
        self._writer = writer
        self._searcher = searcher
        self._view = view
        self._resource_plan = resource_plan
        self._versions = versions()
        self._trainers = TrainerGroup(store.objects.uri, spec.name, writer.run)
        self._stop_asked = False
        self._progress_at = 0.0
        self._is_training = False
        self._said: set[str] = set()

    def run(self, scheduler: TrialScheduler | None) -> None:
        """Let Tune try configurations until none is left."""
        previous = {which: signal.signal(which, self._on_interrupt) for which in (signal.SIGINT, signal.SIGTERM)}
        try:
            self._view.phase("starting the trainer")
            # Trainers outlive a driver that dies.
            end_trainers(self._store.objects.uri, self._spec.name, except_run=self._writer.run)
            if self._searcher.remaining:
                self._try_configurations(scheduler)
            self._writer.flush()
            self._examine_contenders()
        finally:
            for which, handler in previous.items():
                signal.signal(which, handler)
            self._writer.finish()
            end_trainers(self._store.objects.uri, self._spec.name)

    def _try_configurations(self, scheduler: TrialScheduler | None) -> None:
        spec = self._spec
        with tempfile.TemporaryDirectory(prefix="marl-tune-") as folder:
            tune.Tuner(
                tune.with_resources(StudyTrial, self._resource_plan.trial_resources),
                param_space={
                    "store": self._store.objects.uri,
                    "study": spec.name,
                    "run": self._writer.run,
                    "steps": spec.train.steps,
                    "versions": self._versions,
                },
                tune_config=tune.TuneConfig(
                    search_alg=self._searcher,
                    scheduler=scheduler,
                    num_samples=-1,  # the searcher says when it is over
                    reuse_actors=True,
                ),
                run_config=tune.RunConfig(
                    name=spec.name,
                    storage_path=folder,
                    callbacks=[
                        StudyCallback(self._searcher, self._writer, spec.train.steps, self._changed, self._tick)
                    ],
                    failure_config=tune.FailureConfig(max_failures=MAX_ACTOR_RESTARTS),
                    # Trainers write checkpoints; Tune's own, by default at the end, would go to a folder here.
                    checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
                    verbose=0,
                ),
            ).fit()

    def _examine_contenders(self) -> None:
        """What the spec asks for of the front and of trials near it."""
        for tries_left in reversed(range(_TRIES)):
            missing = StudyResults(self._store).missing_post_training()
            if not missing:
                return
            try:
                self._examine(missing)
            except TrainerLostError as error:
                if not tries_left:
                    raise
                self._view.say(f"{error}; going on with another")
                self._writer.flush()  # what was measured is not measured again
                time.sleep(_PAUSE_S)  # the lost one's name is known for a moment
            else:
                return

    def _examine(self, missing: Mapping[str, Sequence[tuple[TrialId, int]]]) -> None:
        trials = {trial for replicates in missing.values() for trial, _ in replicates}
        self._view.say(f"measuring the front and what is near it, {len(trials)} trials: {', '.join(missing)}")
        trainers = self._trainers.handles() or [self._trainers.start(self._versions, self._resource_plan.device)]

        def tick() -> None:
            self._writer.check()
            self._tick()

        for name, replicates in missing.items():
            if name == "test":
                score(trainers, replicates, RESCORABLE, "test", self._record_report, tick)
            elif name == "samples":
                score(trainers, replicates, ["sampled_probes"], "validation", self._record_report, tick)
            else:
                examine(trainers, replicates, name, self._record_report, tick)

    def _record_report(self, row: Mapping[str, Any]) -> None:
        self._writer.add("reports", row)

    def _on_interrupt(self, signum: int, frame: FrameType | None) -> None:
        if self._stop_asked:  # asked twice: at once
            raise Interrupted
        self._stop_asked = True
        self._view.say("stopping: writing checkpoints (press Ctrl-C again to stop at once)")

    def _changed(self, number: TrialId, state: str, error: str | None) -> None:
        if state == "interrupted":
            self._view.say(f"{trial_name(number)} lost its place and goes on elsewhere: {error}")
            return
        if state == "running":
            self._view.started(number, self._searcher.parameters[number])
        else:
            self._view.ended(number, state, error, self._searcher.final_values.get(number))
        if state not in ("running", "complete"):
            for trainer in self._trainers.handles():
                trainer.discard.remote(number)

    def _tick(self) -> None:
        if self._writer.stop_requested and not self._stop_asked:
            self._stop_asked = True
            self._view.say("asked to stop: writing checkpoints")
        if self._stop_asked:
            self._drain()
            raise Interrupted
        if time.monotonic() - self._progress_at < _PROGRESS_EVERY_S:
            return
        answers = self._trainers.progress()
        reports = [report for report in answers if report["ready"]]
        if reports:
            self._is_training = True
            gone = [report for report in self._trainers.ended if report["ready"]]
            self._view.progress(
                [tuple(one) for report in reports for one in report["replicates"]],
                sum(report["trained_steps"] for report in (*reports, *gone)),
            )
            self._writer.record_trainers(reports, gone)
            for notice in {notice for report in reports for notice in report["notices"]} - self._said:
                self._said.add(notice)
                self._view.say(notice)
        elif answers:
            self._view.phase(answers[0]["phase"])
        self._progress_at = time.monotonic()

    def _drain(self) -> None:
        self._writer.flush()
        if self._is_training:  # before that there is nothing to keep
            self._trainers.call("drain", timeout_s=_DRAIN_WITHIN_S)
