"""Which replicate trains in which lane: trains in chunks, reports at budgets, keeps checkpoints.

Everything a trainer does that needs no Ray. Replicates wait in line, take a lane as soon as one is free, and give it
back at the full budget. Nothing that needs no device holds up the training: the store is read and written beside it,
and who reached a budget leaves a copy of the model to be evaluated with others. Results do not depend on when any of
that happens (`marl.stack`).
"""

import math
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from marl.config import Config
from marl.metrics import METRIC_VERSION
from marl.stack import Snapshot, Stack
from study.analysis import PLAIN_VAE
from study.datasets.load import dataset_of
from study.provenance import processor
from study.spec import Scalar
from study.spec.model_config import Family, StackPlan, audio_of, config_of, plain_vae
from study.store import StudyStore
from study.training.evaluation import Due, Evaluator, Scorer, write_baselines_once
from study.training.planning import is_out_of_memory
from study.training.quarantine import Quarantine
from study.training.replicate_io import IOExecutor, Replicate, ReplicateFiles

__all__ = ["Failure", "Lanes", "Report"]

_CHECKPOINT_EVERY_S = 60.0
# How long to train before looking up: soon enough to drain in time, seldom enough to cost nothing.
_CHUNK_S = 0.5
# A device may be told of so many steps before it has done them.
_STEPS_AHEAD = 8


class Report(NamedTuple):
    """One replicate at one budget: a row of `reports/`."""

    trial: int
    row: dict[str, Any]


class Failure(NamedTuple):
    """A replicate that came to no value; its trial fails with it."""

    trial: int
    error: str


class Lanes:
    """The stacks of one device, one for each family of models, and the replicates in them and in line.

    Args:
        store: the study; its document says what to train.
        device: where to train.
    """

    def __init__(self, store: StudyStore, device: torch.device) -> None:
        metadata = store.metadata()
        self._store = store
        self._spec = metadata.spec
        self._plan = StackPlan.model_validate(metadata.stack)
        self._budgets = self._spec.budgets()
        self._audio = audio_of(self._spec)
        self._dataset = dataset_of(self._spec, store.objects, device)
        self.device_name = torch.cuda.get_device_name(device) if device.type == "cuda" else processor()
        """As its maker sells it."""
        write_baselines_once(store, self._spec, self._plan, self._dataset)
        self._files = ReplicateFiles(store, self._spec, self._dataset)
        self._io = IOExecutor()
        self._stacks: dict[Family, Stack] = {}
        self._training: dict[tuple[Family, int], Replicate] = {}
        self._waiting: deque[Replicate] = deque()
        self._evaluator = Evaluator(
            lambda family, config: self._stack(family, config).models,
            self._spec.shared_factors,
            self._plan.lanes,
        )
        self.scorer = Scorer(
            store,
            partial(self._plan.family, self._audio),
            lambda family, config: self._stack(family, config).models,
            lambda: self._evaluator.together,
        )
        """Measures models that are over."""
        self.quarantine = Quarantine()
        """Isolation of trials that may crash trainers."""
        self._results: list[Report | Failure] = []
        # A trial that was removed and added again is another one; what is still under way for the first is void.
        self._generation: dict[int, int] = {}
        self._checkpointed = time.monotonic()
        self.trained_steps = 0
        """Steps of replicates."""
        self.lane_steps = 0
        """Steps of lanes, occupied or not."""
        self.seconds = {"training": 0.0, "evaluation": 0.0}
        """Time that the device spent."""
        self.notices: list[str] = []
        """What the user should know."""

    @property
    def lanes(self) -> int:
        """Of a stack, at present."""
        return self._plan.lanes

    @property
    def is_busy(self) -> bool:
        """Whether anything is left to do for any replicate."""
        return bool(self._training or self._waiting or self._results) or (self._evaluator.is_busy or self._io.is_busy)

    def progress(self) -> list[tuple[int, int, int]]:
        """Trial, seed and step of each replicate that trains or waits."""
        return [(one.trial, one.seed, one.step) for one in (*self._training.values(), *self._waiting)]

    def add(
        self,
        trial: int,
        parameters: Mapping[str, Scalar],
        seeds: Iterable[int],
        in_front: bool = False,
        alone: bool = False,
    ) -> None:
        """Put replicates of a trial in line, each from its last checkpoint; what they had reported comes once more.

        Args:
            trial: its number.
            parameters: of the trial.
            seeds: of the replicates, none of which is in line or in a lane.
            in_front: whether they come before all others that wait.
            alone: whether nobody else shall train beside them up to their trial's next report; see `quarantine`.
        """
        if alone:
            self.quarantine.add(trial)
        config = plain_vae(self._spec) if trial == PLAIN_VAE else config_of(self._spec, parameters)
        generation = self._generation.setdefault(trial, 0)
        replicates = [Replicate(trial, seed, config, dict(sorted(parameters.items()))) for seed in seeds]

        def arrived(restored: list[Replicate]) -> None:
            if self._generation[trial] != generation:
                return
            self._results += [Report(trial, row) for one in restored for row in one.rows]
            unfinished = [one for one in restored if not _has_reported(one, self._budgets[-1])]
            self._waiting = deque([*unfinished, *self._waiting] if in_front else [*self._waiting, *unfinished])

        self._io.submit(trial, lambda: [self._files.restore(one) for one in replicates], arrived)

    def remove(self, trial: int) -> None:
        """Take a trial out of line and out of its lanes."""
        self.quarantine.release(trial)
        self._generation[trial] = self._generation.get(trial, 0) + 1
        self._waiting = deque(one for one in self._waiting if one.trial != trial)
        self._evaluator.remove(trial)
        for (family, lane), one in list(self._training.items()):
            if one.trial == trial:
                self._free(family, lane)

    def discard(self, trial: int) -> None:
        """Remove a trial that came to no value, and the checkpoints that it has in the store."""
        self.remove(trial)
        self._io.submit(trial, lambda: self._store.delete_checkpoints(trial))

    def advance(self, interrupted: Callable[[], bool]) -> list[Report | Failure]:
        """Fill free lanes, train one chunk of each stack, and evaluate those who reached a budget and waited enough.

        Args:
            interrupted: asked between steps; when true, the chunk ends.
        """
        self._io.collect()
        self._fill()
        for family in dict.fromkeys(family for family, _ in self._training):
            with self._out_of_memory_means_fewer_lanes(family), self._timed("training"):
                self._train(family, interrupted)
                self._note_failures(family)
                self._note_due(family)
        self._report(nobody_comes=not (self._training or self._waiting))
        if not self._training and not self._waiting:
            self._io.collect(timeout_s=0.1)
        if time.monotonic() - self._checkpointed >= _CHECKPOINT_EVERY_S:
            self.checkpoint()
        results, self._results = self._results, []
        return results

    def checkpoint(self) -> None:
        """Write a checkpoint of every replicate that is in a lane, beside the training."""
        self._report(nobody_comes=True)  # a checkpoint has all reports up to its step
        self._checkpointed = time.monotonic()
        for (family, lane), one in self._training.items():
            snapshot, rows = self._stacks[family].snapshot(lane), list(one.rows)
            self._io.submit(one.trial, partial(self._files.write_checkpoint, one, snapshot, rows, is_final=False))

    def finish(self) -> None:
        """Wait until all is written."""
        self._io.finish()

    def _fill(self) -> None:
        """Give lanes to those in line, in order; a family whose lanes are taken holds up no other."""
        still_waiting: deque[Replicate] = deque()
        allowed = self.quarantine.eligible((one.trial for one in self._waiting), bool(self._training))
        while self._waiting:
            replicate = self._waiting.popleft()
            if replicate.trial not in allowed:
                still_waiting.append(replicate)
                continue
            family = self._plan.family(self._audio, replicate.config)
            stack = self._stack(family, replicate.config)
            if not stack.free_lanes:
                still_waiting.append(replicate)
                continue
            lane = stack.attach(replicate.config, replicate.seed, replicate.snapshot)
            replicate.snapshot = None
            self._training[family, lane] = replicate
        self._waiting = still_waiting

    def _stack(self, family: Family, config: Config) -> Stack:
        while family not in self._stacks:
            with self._out_of_memory_means_fewer_lanes(family):
                self._stacks[family] = self._plan.stack(self._spec, config, self._dataset)
        return self._stacks[family]

    def _occupied(self, family: Family) -> list[tuple[int, Replicate]]:
        return [(lane, one) for (owner, lane), one in self._training.items() if owner == family]

    def _train(self, family: Family, interrupted: Callable[[], bool]) -> None:
        stack, occupied = self._stacks[family], self._occupied(family)
        until_due = min(self._next_budget(one.step) - one.step for _, one in occupied)
        # Each replicate has an equal share of the device's time, however many train beside it in its stack.
        stop_at = time.monotonic() + _CHUNK_S * len(occupied) / len(self._training)
        steps = 0
        while steps < until_due and (steps == 0 or time.monotonic() < stop_at) and not interrupted():
            stack.step()
            steps += 1
            if steps % _STEPS_AHEAD == 0:
                stack.synchronise()
        stack.synchronise()
        for _, one in occupied:
            one.step += steps
        self.trained_steps += steps * len(occupied)
        self.lane_steps += steps * stack.lanes

    def _next_budget(self, step: int) -> int:
        return next(budget for budget in self._budgets if budget > step)

    def _note_failures(self, family: Family) -> None:
        diverged = self._stacks[family].diverged()
        if diverged:
            self._report(nobody_comes=True)  # what they reached before counts
        for lane, step in diverged.items():
            if (family, lane) in self._training:  # else it went with another replicate of its trial
                replicate = self._training[family, lane]
                self._fail(replicate, f"the loss of seed {replicate.seed} is not finite at step {step}")

    def _note_due(self, family: Family) -> None:
        """Copy the models of those who reached a budget, and free the lanes of those for whom it was the last."""
        stack = self._stacks[family]
        for lane, one in self._occupied(family):
            if one.step not in self._budgets or _has_reported(one, one.step):
                continue
            is_final = one.step == self._budgets[-1]
            snapshot = stack.snapshot(lane) if is_final else None
            self._evaluator.add(family, Due(one, one.step, stack.models[lane], snapshot, time.monotonic()))
            if is_final:
                self._free(family, lane)

    def _report(self, nobody_comes: bool) -> None:
        """Make reports of models that were evaluated."""
        failed: set[int] = set()
        with self._timed("evaluation"):
            for due, metrics, mean_ND, clips in self._evaluator.evaluate(nobody_comes):
                one = due.replicate
                if one.trial in failed:
                    continue
                if not all(map(math.isfinite, metrics.values())):  # the last step before the budget broke it
                    failed.add(one.trial)
                    self._fail(one, f"the metrics of seed {one.seed} are not finite at step {due.step}")
                    continue
                self.quarantine.release(one.trial)
                row = {"trial": one.trial, "seed": one.seed, "step": due.step, "metric_version": METRIC_VERSION}
                one.rows.append(row | metrics)
                if due.snapshot is None:
                    self._results.append(Report(one.trial, one.rows[-1]))
                else:
                    self._write_result(one, due.snapshot, mean_ND, clips)

    def _write_result(self, one: Replicate, snapshot: Snapshot, mean_ND: Tensor, clips: Tensor) -> None:
        """Write a finished model beside the training; its report follows when that is done."""
        rows, generation = list(one.rows), self._generation[one.trial]

        def write() -> None:
            self._files.write_latents(one, mean_ND, clips, self._plan.private)
            self._files.write_checkpoint(one, snapshot, rows, is_final=True)

        def written(_: None) -> None:
            if self._generation[one.trial] == generation:
                self._results.append(Report(one.trial, rows[-1]))

        self._io.submit(one.trial, write, written)

    def _fail(self, one: Replicate, reason: str) -> None:
        self.discard(one.trial)
        self._results.append(Failure(one.trial, f"diverged: {reason}"))

    def _free(self, family: Family, lane: int) -> None:
        self._stacks[family].detach(lane)
        del self._training[family, lane]

    @contextmanager
    def _timed(self, activity: str) -> Iterator[None]:
        started = time.monotonic()
        try:
            yield
        finally:
            self.seconds[activity] += time.monotonic() - started

    @contextmanager
    def _out_of_memory_means_fewer_lanes(self, family: Family) -> Iterator[None]:
        """When a stack finds no memory, its replicates go back in line and a narrower one takes its place.

        All memory of a step is taken before the first number of the state changes, so nothing is lost.
        """
        try:
            yield
            return
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error) or self._plan.lanes == 1:
                raise
        # Outside of the handler: the error holds on to the memory of the step that failed.
        occupied = self._occupied(family)
        if occupied:
            stack = self._stacks.pop(family)
            for lane, one in occupied:
                one.snapshot = stack.snapshot(lane)
                one.step = one.snapshot.step
                del self._training[family, lane]
            del stack
        self._waiting.extendleft(one for _, one in reversed(occupied))
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        lanes = self._plan.lanes
        self._plan = self._plan.model_copy(update={"lanes": lanes // 2})
        self.notices.append(f"out of memory with {lanes} lanes: going on with {lanes // 2}")


def _has_reported(one: Replicate, step: int) -> bool:
    return any(row["step"] == step for row in one.rows)
