"""The driver of a study: it holds the lease, runs Ray Tune over the trials, and evaluates the front after training."""

import logging
import signal
import tempfile
import time
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field

from ray import tune
from ray.tune.schedulers import TrialScheduler
from rich.console import Console

from study.analysis import StudyResults, trial_name
from study.analysis.post_training import missing_post_training
from study.environment import versions
from study.errors import Interrupted, command_for
from study.runs.post_training import TrainerLostError, evaluate_stored, results_of
from study.runs.ray_cluster import RUN_STARTED, ray_session
from study.runs.stop_signals import StopSignals, handle_signals
from study.runs.terminal import ProgressDisplay
from study.search.halving import HalvingScheduler, rungs_so_far
from study.search.sampler import past_trials
from study.search.tune import MAX_ACTOR_RESTARTS, StudyCallback, StudySearcher
from study.spec import Spec, TrialId
from study.spec.resolved_spec import ResolvedSpec, StackPlan
from study.storage import RUN_RETRY_TIMEOUT_S, ObjectStore
from study.store import StudyStore
from study.store.writer import StudyWriter
from study.training.client import StudyTrial, TrainerGroup
from study.training.evaluation import final_groups, is_rescorable
from study.training.nodes import ResourcePlan

logger = logging.getLogger(__name__)

_DRAIN_TIMEOUT_S = 7.0
_PROGRESS_EVERY_S = 1.0
# Maximum number of trainers that may be lost during the evaluation after training.
_MAX_TRAINER_LOSSES = 4
# Ray forgets the name of a dead trainer a moment after its death.
_RETRY_PAUSE_S = 2.0
# Trial and seed of replicates, by group of `post_training`.
_Replicates = Mapping[str, Sequence[tuple[TrialId, int]]]


def run_study(store: StudyStore, target: int, console: Console, address: str | None = None) -> None:
    """Train a study up to a number of trials, and evaluate its front. Interrupted trials are resumed.

    Trainers are ended and the lease is released in any case. Of several errors the first is raised. `ray_session`
    describes the address.

    Raises:
        UserError: If another run of the study is live.
        RunError: If another run takes over the study, or Ray cannot be started.
        Interrupted: If the user stops the run.
    """
    store = StudyStore(ObjectStore(store.objects.uri, RUN_RETRY_TIMEOUT_S), store.name)
    results = StudyResults(store)
    spec = results.spec
    display = ProgressDisplay(spec, target, console, lambda line: writer.log(line))
    stop = StopSignals(f"stopped at once; resume it with: {command_for(store.uri, 'resume')}")
    with (
        handle_signals(stop, signal.SIGINT, signal.SIGTERM),
        StudyWriter(store, target, on_outage=display.log) as writer,
    ):
        trials = past_trials(results)
        for trial in trials:
            if trial.state not in ("running", "interrupted"):
                display.add_finished(trial.state, trial.number, trial.values)
        searcher = StudySearcher(spec, trials, target, with_plain_vae=not results.has_plain_vae, writer=writer)
        rungs = rungs_so_far(spec, store.read("reports"))
        plan = StackPlan.model_validate(results.metadata.stack)
        with display, ray_session(address):
            resources = ResourcePlan(store.objects.uri, spec, plan.lanes, target, is_shared=address is not None)
            started = RUN_STARTED.format(run=writer.run, study=spec.name)
            display.log(f"{started}: {resources.description}, {plan.lanes} lanes, {plan.precision}, {plan.why}")
            searcher.trainers = resources.trainers
            with TrainerGroup(store.objects.uri, spec.name, writer.run) as trainers:
                is_local = address is None and resources.device == "cpu"
                if is_local and searcher.remaining:
                    trainers.start_here(versions(), resources.trainers)  # beside Tune
                driver = _Driver(store, spec, writer, searcher, display, resources, trainers, stop, is_local)
                searcher.max_running = driver.max_trials
                stop.is_graceful = True
                driver.run(HalvingScheduler(rungs) if rungs else None)
                stop.is_graceful = False


@dataclass
class _Driver:
    """One run of a study."""

    store: StudyStore
    spec: Spec
    writer: StudyWriter
    searcher: StudySearcher
    display: ProgressDisplay
    resources: ResourcePlan
    trainers: TrainerGroup
    stop: StopSignals
    is_local: bool
    is_training: bool = False
    progress_at: float = 0.0
    notices: set[str] = field(default_factory=set)

    def max_trials(self) -> int:
        """Return the maximum number of concurrent trials: one for each trainer of this machine until these are ready.

        The processes of the other trials would slow the start of the trainers.
        """
        are_starting = self.is_local and not self.is_training
        return self.resources.trainers if are_starting else self.resources.max_trials()

    def run(self, scheduler: TrialScheduler | None) -> None:
        """Train all trials, then evaluate the front."""
        self.display.set_phase("starting the trainer")
        has_trained = bool(self.searcher.remaining)
        if has_trained:
            self._train(scheduler)
        self.writer.flush()
        if has_trained or missing_post_training(StudyResults(self.store)):
            self._evaluate_front()

    def _train(self, scheduler: TrialScheduler | None) -> None:
        steps = self.spec.train.steps
        callback = StudyCallback(self.searcher, self.writer, steps, self._on_state, self._check_and_show)
        with tempfile.TemporaryDirectory(prefix="marl-tune-") as folder:
            tune.Tuner(
                tune.with_resources(StudyTrial, self.resources.trial_resources),
                param_space={
                    "store": self.store.objects.uri,
                    "study": self.spec.name,
                    "run": self.writer.run,
                    "steps": steps,
                    "versions": versions(),
                },
                tune_config=tune.TuneConfig(
                    search_alg=self.searcher,
                    scheduler=scheduler,
                    num_samples=-1,  # the searcher ends the search
                    reuse_actors=True,
                ),
                run_config=tune.RunConfig(
                    name=self.spec.name,
                    storage_path=folder,
                    callbacks=[callback],
                    failure_config=tune.FailureConfig(max_failures=MAX_ACTOR_RESTARTS),
                    # Trainers write checkpoints to the store; Tune would write its own to this folder.
                    checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
                    verbose=0,
                    # In a notebook, Tune's other reporter would clear the output of the cell.
                    progress_reporter=tune.CLIReporter(),
                ),
            ).fit()

    def _evaluate_front(self) -> None:
        """Compute what is missing: post-training metrics of front candidates, and metrics of the untrained network.

        Another trainer continues if one is lost.
        """
        losses = 0
        while True:
            missing = missing_post_training(StudyResults(self.store))
            try:
                written = self._evaluate(missing)
            except TrainerLostError as error:
                losses += 1
                if losses > _MAX_TRAINER_LOSSES:
                    raise
                self.display.log(f"{error}; another trainer continues")
                self.writer.flush()  # so that evaluated models are not evaluated again
                time.sleep(_RETRY_PAUSE_S)
            else:
                self._record_unavailable(missing, written)
                return

    def _record_unavailable(self, tried: _Replicates, written: Container[tuple[str, TrialId, int]]) -> None:
        """Record the metrics that are still missing, so that later runs do not compute them again."""
        self.writer.flush()
        unavailable = []
        for group, replicates in missing_post_training(StudyResults(self.store)).items():
            for trial, seed in (replicate for replicate in replicates if replicate in tried.get(group, ())):
                reason = "not finite" if (group, trial, seed) in written else "no weights in the store"
                logger.warning("%s of %s, seed %d: %s", group, trial_name(trial), seed, reason)
                unavailable.append({"group": group, "trial": trial, "seed": seed, "reason": reason})
        if unavailable:
            self.writer.record_unavailable(unavailable)

    def _evaluate(self, missing: _Replicates) -> set[tuple[str, TrialId, int]]:
        """Return group, trial and seed of the rows that were written."""
        if trials := {trial for replicates in missing.values() for trial, _ in replicates}:
            self.display.log(f"evaluating the front and trials near it, {len(trials)} trials: {', '.join(missing)}")
        trainers = self.trainers.start(versions(), self.resources.device, self.resources.trainers)
        baselines = trainers[0].update_baselines.remote()  # at once, if the first complete trial has led to it
        written, done, total = set(), 0, sum(map(len, missing.values()))
        for group, replicates in missing.items():
            metric_groups, split = self._metrics_of(group)
            self.display.set_evaluation(done, total)
            rows = evaluate_stored(trainers, replicates, metric_groups, split, self._check_and_show)
            for count, row in enumerate(rows, start=1):
                self.writer.add("reports", row)
                written.add((group, row["trial"], row["seed"]))
                self.display.set_evaluation(done + count, total)
            done += len(replicates)
            logger.info("post-training metrics %s: evaluated %d models", group, len(replicates))
        list(results_of([baselines], 1, self._check_and_show))
        if total:
            self.display.set_evaluation(done, total)
        return written

    def _metrics_of(self, group: str) -> tuple[Sequence[str], str]:
        """Return metric groups and split of a `post_training` group of the spec.

        Any other group is the metric group of the same name.
        """
        if group == "test":
            return [name for name in final_groups(ResolvedSpec(self.spec)) if is_rescorable(name)], "test"
        return ["sampled_probes" if group == "samples" else group], "validation"

    def _on_state(self, trial: TrialId, state: str, error: str | None) -> None:
        logger.info("%s is %s%s", trial_name(trial), state, f": {error}" if error else "")
        if state == "interrupted":
            self.display.log(f"{trial_name(trial)} was interrupted and will be resumed: {error}")
            return
        if state == "running":
            self.display.start_trial(trial, self.searcher.parameters[trial])
            return
        if state == "complete" and not self.searcher.final_values.keys() - {trial}:
            # The first one: the untrained network is evaluated when there is something to compare with it.
            for trainer in self.trainers.handles()[:1]:
                trainer.update_baselines.remote()
        self.display.end_trial(trial, state, error, self.searcher.final_values.get(trial))
        if state != "complete":
            for trainer in self.trainers.handles():
                trainer.discard.remote(trial)

    def _check_and_show(self) -> None:
        """Check the store, stop if that is requested, and show progress.

        Raises:
            RunError: As `StudyWriter.check`.
            Interrupted: If the run is to stop.
        """
        self.writer.check()
        if self.stop.requested or self.writer.stop_requested:
            hint = " (press Ctrl-C again to stop at once)" if self.stop.requested else ": requested by `stop`"
            self.stop.requested = True
            self.display.log(f"stopping after checkpoints are written{hint}")
            self.writer.flush()
            if self.trainers.progress():  # else no trainer has started, and there is nothing to checkpoint
                self.trainers.call("drain", timeout_s=_DRAIN_TIMEOUT_S)
            raise Interrupted
        if time.monotonic() - self.progress_at < _PROGRESS_EVERY_S:
            return
        progress = self.trainers.progress()
        if active := [trainer for trainer in progress if trainer["ready"]]:
            self.is_training = True
            ended = [trainer for trainer in self.trainers.ended if trainer["ready"]]
            self.display.update(
                [tuple(replicate) for trainer in active for replicate in trainer["replicates"]],
                sum(trainer["trained_steps"] for trainer in (*active, *ended)),
            )
            self.writer.record_trainers(active, ended)
            for notice in {notice for trainer in active for notice in trainer["notices"]} - self.notices:
                self.notices.add(notice)
                self.display.log(notice)
        elif progress:
            self.display.set_phase(progress[0]["phase"])
        self.progress_at = time.monotonic()
