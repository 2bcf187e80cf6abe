"""Training of replicates in the lanes of a device's stacks, without Ray.

Replicates queue for a free lane, train in chunks, report at budgets and leave at the full budget. Meanwhile other
threads read and write the store, and models are evaluated in groups. Results depend on none of this (`marl.stack`).
"""

import logging
import math
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor

from marl.stack import Snapshot
from study.datasets import dataset_of, shared_dataset_of
from study.environment import processor
from study.spec import Baseline, Scalar, TrialId
from study.spec.resolved_spec import ResolvedSpec, StackKey, StackPlan
from study.store import StudyStore
from study.training.evaluation import Evaluator, PendingEvaluation, report_row, update_baselines
from study.training.planning import StackPool
from study.training.replicate_io import IOExecutor, Replicate, ReplicateFiles
from study.training.trials import Failure, Quarantine, Report

logger = logging.getLogger(__name__)

_CHECKPOINT_EVERY_S = 60.0
# Duration of a chunk of training: short enough to drain in time, long enough for a negligible overhead.
_CHUNK_S = 0.5
# Number of steps that a device may lag behind, because it runs asynchronously.
_STEPS_AHEAD = 8


class Lanes:
    """The replicates of a study that train and queue on one device.

    Attributes:
        trained_steps: Steps trained by all replicates.
        lane_steps: Steps computed by all lanes, occupied or idle.
        seconds: Time spent, by activity.
    """

    def __init__(self, store: StudyStore, device: torch.device) -> None:
        metadata = store.metadata()
        resolved, plan = ResolvedSpec(metadata.spec), StackPlan.model_validate(metadata.stack)
        on_cpu = device.type == "cpu"
        dataset = shared_dataset_of(resolved, store.objects) if on_cpu else dataset_of(resolved, store.objects, device)
        self._store, self._resolved, self._budgets = store, resolved, resolved.spec.budgets()
        self.device_name = torch.cuda.get_device_name(device) if device.type == "cuda" else processor()
        self._dataset = dataset
        self._files = ReplicateFiles(store, resolved, dataset)
        self._io = IOExecutor()
        self.stacks = StackPool(resolved, plan, dataset)
        self._training: dict[tuple[StackKey, int], Replicate] = {}
        self._queue: deque[Replicate] = deque()
        self.evaluator = Evaluator(store, resolved, self.stacks)
        self.quarantine = Quarantine()
        self._results: list[Report | Failure] = []
        self._checkpointed = time.monotonic()
        self.trained_steps = self.lane_steps = 0
        self.seconds = {"training": 0.0, "evaluation": 0.0}

    @property
    def is_busy(self) -> bool:
        """True while there is work to do for any replicate."""
        return bool(self._training or self._queue or self._results or self.evaluator.is_busy or self._io.is_busy)

    def progress(self) -> list[tuple[TrialId, int, int]]:
        """Return trial, seed and step of each replicate that trains or queues."""
        replicates = (*self._training.values(), *self._queue)
        return [(replicate.trial, replicate.seed, replicate.step) for replicate in replicates]

    def add(
        self,
        trial: TrialId,
        parameters: Mapping[str, Scalar],
        seeds: Iterable[int],
        at_front: bool = False,
        is_suspected: bool = False,
    ) -> None:
        """Queue replicates of a trial, each from its last checkpoint. Reports in checkpoints are returned once more.

        Args:
            trial: Number of the trial, or the baseline.
            parameters: Parameters of the trial.
            seeds: Seeds of the replicates. None of them may be queued or training.
            at_front: Whether they precede all other replicates.
            is_suspected: Whether the trial trains in isolation until its client has received the next report.
        """
        if is_suspected:
            self.quarantine.add(trial)
        else:
            self.quarantine.release(trial)
        config = self._resolved.plain_vae if trial is Baseline.PLAIN_VAE else self._resolved.trial_config(parameters)
        replicates = [Replicate(trial, seed, config, dict(sorted(parameters.items()))) for seed in seeds]

        def on_restored(restored: list[Replicate]) -> None:
            self._results += [Report(trial, row) for replicate in restored for row in replicate.rows]
            unfinished = [replicate for replicate in restored if not replicate.has_reported(self._budgets[-1])]
            self._queue = deque([*unfinished, *self._queue] if at_front else [*self._queue, *unfinished])

        self._io.submit(trial, lambda: [self._files.restore(replicate) for replicate in replicates], on_restored)

    def remove(self, trial: TrialId) -> None:
        """Remove a trial from the queue and from its lanes."""
        self._io.cancel_callbacks(trial)
        self._queue = deque(replicate for replicate in self._queue if replicate.trial != trial)
        self.evaluator.remove(trial)
        for (key, lane), replicate in list(self._training.items()):
            if replicate.trial == trial:
                self._free(key, lane)

    def discard(self, trial: TrialId) -> None:
        """Remove a trial that was stopped or failed, and delete its checkpoints from the store."""
        self.remove(trial)
        self._io.submit(trial, lambda: self._store.delete_checkpoints(trial))

    def advance(self, interrupted: Callable[[], bool]) -> list[Report | Failure]:
        """Fill free lanes, train one chunk of each stack, evaluate full groups of models, and return new results.

        A chunk ends early when `interrupted`, which is called between steps, returns True.
        """
        self._io.collect()
        self._fill_lanes()
        for key in dict.fromkeys(key for key, _ in self._training):  # in the order of their first replicates
            with self._halve_lanes_when_out_of_memory(key), self._timed("training"):
                self._train(key, interrupted)
                self._fail_diverged(key)
                self._queue_evaluations(key)
        self._evaluate(flush=not (self._training or self._queue))
        if not self._training and not self._queue:
            self._io.collect(timeout_s=0.1)
        if time.monotonic() - self._checkpointed >= _CHECKPOINT_EVERY_S:
            self.checkpoint()
        results, self._results = self._results, []
        return results

    def update_baselines(self) -> None:
        """Evaluate the untrained network, see `study.training.evaluation.update_baselines`."""
        with self._timed("evaluation"):
            update_baselines(self._store, self._resolved, self.stacks.plan, self._dataset)

    def checkpoint(self) -> None:
        """Start to write a checkpoint of every replicate that trains."""
        self._evaluate(flush=True)  # a checkpoint holds all reports up to its step
        self._checkpointed = time.monotonic()
        for (key, lane), replicate in self._training.items():
            arguments = replicate, self.stacks[key].snapshot(lane), list(replicate.rows)
            self._io.submit(replicate.trial, partial(self._files.write_checkpoint, *arguments, is_final=False))
        logger.info("writing checkpoints of %d replicates", len(self._training))

    def finish(self) -> None:
        """Wait until all files are written."""
        self._io.finish()

    def _fill_lanes(self) -> None:
        """Assign free lanes in the order of the queue. A stack without a free lane delays no other stack."""
        still_queued = []
        eligible = self.quarantine.eligible((replicate.trial for replicate in self._queue), bool(self._training))
        for replicate in self._queue:
            if replicate.trial not in eligible or not (stack := self.stacks.get(replicate.config)).free_lanes:
                still_queued.append(replicate)
                continue
            lane = stack.attach(replicate.config, replicate.seed, replicate.snapshot)
            replicate.snapshot = None
            self._training[self.stacks.key(replicate.config), lane] = replicate
            logger.info("trial %s: seed %d attached at step %d", replicate.trial, replicate.seed, replicate.step)
        self._queue = deque(still_queued)

    def _occupied(self, key: StackKey) -> list[tuple[int, Replicate]]:
        """Return the occupied lanes of a stack with their replicates."""
        return [(lane, replicate) for (other, lane), replicate in self._training.items() if other == key]

    def _train(self, key: StackKey, interrupted: Callable[[], bool]) -> None:
        """Train a stack for one chunk, at most up to the next budget of a replicate."""
        stack, occupied = self.stacks.to_train(key), self._occupied(key)
        steps_to_budget = min(
            budget - replicate.step for _, replicate in occupied for budget in self._budgets if budget > replicate.step
        )
        # Replicates have equal shares of the device's time, however many train in the same stack.
        stop_at = time.monotonic() + _CHUNK_S * len(occupied) / len(self._training)
        steps = 0
        while steps < steps_to_budget and (steps == 0 or time.monotonic() < stop_at) and not interrupted():
            stack.step()
            steps += 1
            if steps % _STEPS_AHEAD == 0:
                stack.synchronise()
        stack.synchronise()
        if stack.checked_step and stack.checked_step.warning not in ("", *self.stacks.notices):
            self.stacks.notices.append(stack.checked_step.warning)
        for _, replicate in occupied:
            replicate.step += steps
        self.trained_steps += steps * len(occupied)
        self.lane_steps += steps * stack.lanes

    def _fail_diverged(self, key: StackKey) -> None:
        if diverged := self.stacks[key].diverged():
            self._evaluate(flush=True)  # reports at earlier budgets count
        for lane, step in diverged.items():
            if replicate := self._training.get((key, lane)):  # not yet removed with another replicate of its trial
                self._fail(replicate, f"the loss of seed {replicate.seed} is not finite at step {step}")

    def _queue_evaluations(self, key: StackKey) -> None:
        """Copy the models that reached a budget, and free the lanes of those that reached the full budget."""
        stack = self.stacks[key]
        for lane, replicate in self._occupied(key):
            if replicate.step not in self._budgets or replicate.has_reported(replicate.step):
                continue
            is_final = replicate.step == self._budgets[-1]
            snapshot = stack.snapshot(lane) if is_final else None
            self.evaluator.add(key, PendingEvaluation(replicate, replicate.step, stack.models[lane], snapshot))
            if is_final:
                self._free(key, lane)

    def _evaluate(self, flush: bool) -> None:
        """Evaluate queued models, and report their metrics."""
        failed = set()
        with self._timed("evaluation"):
            for pending, metrics, mean_ND, clips in self.evaluator.evaluate_pending(flush):
                replicate, step = pending.replicate, pending.step
                if replicate.trial in failed:
                    continue
                if not all(map(math.isfinite, metrics.values())):  # the model diverged in the last step
                    failed.add(replicate.trial)
                    self._fail(replicate, f"the metrics of seed {replicate.seed} are not finite at step {step}")
                    continue
                replicate.rows.append(report_row(replicate.trial, replicate.seed, step) | metrics)
                logger.info("trial %s: seed %d evaluated at step %d", replicate.trial, replicate.seed, step)
                if pending.snapshot is None:
                    self._results.append(Report(replicate.trial, replicate.rows[-1]))
                else:
                    self._write_final(replicate, pending.snapshot, mean_ND, clips)

    def _write_final(self, replicate: Replicate, snapshot: Snapshot, mean_ND: Tensor, clips: Tensor) -> None:
        """Write a finished model in another thread, and report its metrics after that."""
        rows = list(replicate.rows)

        def write() -> Report:
            self._files.write_latents(replicate, mean_ND, clips, self.stacks.plan.private)
            self._files.write_checkpoint(replicate, snapshot, rows, is_final=True)
            return Report(replicate.trial, rows[-1])

        self._io.submit(replicate.trial, write, lambda report: self._results.append(report))

    def _fail(self, replicate: Replicate, reason: str) -> None:
        logger.warning("trial %s failed: %s", replicate.trial, reason)
        self.discard(replicate.trial)
        self._results.append(Failure(replicate.trial, f"diverged: {reason}"))

    def _free(self, key: StackKey, lane: int) -> None:
        self.stacks[key].detach(lane)
        del self._training[key, lane]

    @contextmanager
    def _timed(self, activity: str) -> Iterator[None]:
        started = time.monotonic()
        try:
            yield
        finally:
            self.seconds[activity] += time.monotonic() - started

    @contextmanager
    def _halve_lanes_when_out_of_memory(self, key: StackKey) -> Iterator[None]:
        """Replace a stack that is out of memory by one of half as many lanes, and queue its replicates again.

        A step allocates all its memory before it changes the state, so no step is lost.
        """
        try:
            yield
            return
        except (RuntimeError, MemoryError) as error:
            if not self.stacks.can_halve(error):
                raise
        # Outside of the handler, because the error holds the memory of the failed step.
        for lane, replicate in reversed(self._occupied(key)):
            replicate.snapshot = self.stacks[key].snapshot(lane)
            replicate.step = replicate.snapshot.step
            del self._training[key, lane]
            self._queue.appendleft(replicate)
        self.stacks.halve_lanes(key)
