"""The Ray actor that owns one accelerator, or the CPUs of one node, and trains whatever replicates it is given there.

It trains in a thread of its own; calls from trials wait in an event loop, so that nobody holds up the training. This
module is imported by every trial, so torch is imported only where a trainer starts.
"""

import asyncio
import contextlib
import logging
import os
import socket
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from typing import Any, TypeVar

from study.errors import RunError, UserError
from study.provenance import refuse_other_versions
from study.spec import Scalar, TrialId
from study.storage import RUN_RETRY_TIMEOUT_S

__all__ = ["Trainer"]

logger = logging.getLogger(__name__)

_Result = TypeVar("_Result")

# A trial that has not asked for so long is gone; its replicates give their lanes back.
_LEASE_S = 60.0
# A trainer with nothing to do for so long ends itself.
_IDLE_S = 120.0
_POLL_S = 5.0
_LAST_WORDS_S = 1.0


class Trainer:
    """Trains replicates of one study on one device.

    Args:
        store_uri: the store.
        study: name of the study.
        device: `cpu` or `cuda`.
        versions: of the driver, as `study.provenance.versions`; with others it trains nothing.
    """

    def __init__(self, store_uri: str, study: str, device: str, versions: Mapping[str, str]) -> None:
        self._store_uri, self._study, self._device, self._versions = store_uri, study, device, versions
        self._commands: list[Callable[[], None]] = []
        self._wake = threading.Condition()
        # By trial: reports by step and seed, a failure, when somebody last asked, and after which step.
        self._reports: dict[TrialId, dict[int, dict[int, dict[str, Any]]]] = {}
        self._failures: dict[TrialId, str] = {}
        self._asked: dict[TrialId, float] = {}
        self._after: dict[TrialId, int] = {}
        # By trial: the seeds that were put in line.
        self._seeds: dict[TrialId, set[int]] = {}
        self._held: set[TrialId] = set()
        self._replicates, self._last_rung = 0, 0
        self._all_seeds = range(0)
        self._error: str | None = None
        # Why no trial of this study can train here, or anywhere; and why none can go on training here.
        self._refused: str | None = None
        self._leaving: str | None = None
        self._draining = False
        self._drained = False
        self._progress: dict[str, Any] = {"phase": "starting the trainer", "ready": False, "replicates": []}
        # The suspected trial that trains alone, or will when it knows.
        self._turn: TrialId | None = None
        # By trial: set in the event loop when something came of it.
        self._news: dict[TrialId, asyncio.Event] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        threading.Thread(target=self._run, name="training", daemon=True).start()
        threading.Thread(target=self._watch_machine, name="machine", daemon=True).start()

    async def next_report(
        self,
        trial: TrialId,
        parameters: dict[str, Scalar],
        after: int,
        is_suspected: bool = False,
        knows_it_is_alone: bool = False,
    ) -> dict[str, Any] | None:
        """A trial's report at its first budget after a step, or None when there is none within some seconds.

        The first call puts the trial's replicates in line, as does the first after the trial was taken for gone. With
        halving it is seed 0 alone that climbs the rungs, and its reports are all that there is up to the last of them.
        To ask for what comes after that rung is to say that the trial goes on: the other seeds are put in line then,
        before those that wait there, so that what is promising is finished first. Seed 0 trains on meanwhile.

        A trial that is suspected to kill trainers trains alone up to its next report: it is told when its turn has
        come, and begins when it has said that it knows, so that it will know whose fault it was.

        Returns:
            `step` and `rows`: the reports of all replicates since the last result; or `failed` with the reason; or
            `alone`: it is the suspected trial's turn; or `leaving` with the reason why it must train elsewhere; or
            `refused` with the reason why the study cannot go on.

        Raises:
            RuntimeError: when training itself broke.
        """
        self._loop = asyncio.get_running_loop()
        news = self._news.setdefault(trial, asyncio.Event())
        deadline = time.monotonic() + _POLL_S
        while (left_s := deadline - time.monotonic()) > 0:
            news.clear()
            self._asked[trial] = time.monotonic()
            if self._refused is not None:
                return {"refused": self._refused}
            if self._leaving is not None and self._drained:
                return {"leaving": self._leaving}
            if self._error is not None:
                raise RuntimeError(self._error)
            if trial not in self._reports:
                self._reports[trial] = {}
            if after > self._after.get(trial, -1):
                self._after[trial] = after
                self._command(lambda: self._add(trial, parameters, after, is_suspected))
            if is_suspected and self._turn == trial:
                if not knows_it_is_alone:
                    return {"alone": True}
                self._command(lambda: self._lanes.quarantine.confirm(trial))
            if trial in self._failures:
                return {"failed": self._failures[trial]}
            # Sorted before anything else, in one go: the training thread adds to it.
            for step in sorted(self._reports[trial]):
                if step > after and self._is_whole(trial, step):
                    return {"step": step, "rows": self._rows(trial, after, step)}
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(news.wait(), left_s)
        return None

    async def detach(self, trial: TrialId) -> None:
        """The trial is over: its replicates give their lanes back."""
        self._forget(trial)

    async def discard(self, trial: TrialId) -> None:
        """The trial ended early: its checkpoints, which nobody will go on from, are deleted as well."""
        if trial in self._held:
            self._command(lambda: self._lanes.discard(trial))

    async def scores(
        self, replicates: list[tuple[TrialId, int]], metric_groups: list[str], split: str
    ) -> list[dict[str, Any]]:
        """Measure models that are over, as `study.training.evaluation.StoredModels.evaluate`."""
        return await self._in_training(lambda: self._lanes.stored_models.evaluate(replicates, metric_groups, split))

    async def post_training_inputs(self, trial: TrialId, seed: int) -> Any:
        """What others need to measure a model, as `study.training.evaluation.StoredModels.post_training_inputs`."""
        return await self._in_training(lambda: self._lanes.stored_models.post_training_inputs(trial, seed))

    async def progress(self) -> dict[str, Any]:
        """How far training is.

        Returns:
            `phase` and whether it is `ready`, that is, training; then also the name of the `device`, `replicates`
            (trial, seed and step of each),
            `trained_steps` of replicates and `lane_steps` of lanes whether occupied or not, `lanes` of a stack,
            `seconds` of training, evaluation and neither since the beginning, and `notices` for the user.
        """
        return self._progress

    async def end(self) -> None:
        """End this process, whatever it does."""
        os._exit(0)

    async def drain(self) -> None:
        """Stop training and write a checkpoint of every replicate; returns when that is done."""
        self._draining = True
        self._command(lambda: None)
        while not self._drained:
            await asyncio.sleep(0.02)

    async def _in_training(self, job: Callable[[], _Result]) -> _Result:
        """Do something on the device, in the thread that has it; nothing where that has ended."""
        if self._refused is not None:
            raise RunError(self._refused)
        if self._leaving is not None:
            os._exit(0)  # nothing trains any more when models are measured; who asked finds another trainer
        future: Future[_Result] = Future()

        def done() -> None:
            try:
                result = job()
            except Exception as error:  # the caller's, not the training's
                future.set_exception(error)
            else:
                self._note_progress()  # first: who hears of the result may ask at once how far training is
                future.set_result(result)

        self._command(done)
        return await asyncio.wrap_future(future)

    def _is_whole(self, trial: TrialId, step: int) -> bool:
        seeds = self._reports[trial][step].keys()
        return 0 in seeds if step <= self._last_rung else len(seeds) == self._replicates

    def _rows(self, trial: TrialId, after: int, step: int) -> list[dict[str, Any]]:
        """Reports after one budget and up to another; with the first after the last rung, what late seeds made up."""
        return [
            row
            for at, by_seed in sorted(self._reports[trial].items())
            for seed, row in sorted(by_seed.items())
            if after < at <= step or (seed > 0 and at <= after == self._last_rung)
        ]

    def _command(self, command: Callable[[], None]) -> None:
        with self._wake:
            self._commands.append(command)
            self._wake.notify()

    def _forget(self, trial: TrialId) -> None:
        # In this order: who asks again from now on is put in line after this.
        self._command(lambda: self._remove(trial))
        for known in (self._reports, self._asked, self._failures, self._after, self._news):
            known.pop(trial, None)

    def _run(self) -> None:
        try:
            self._train()
        except (UserError, RunError) as error:  # no trial's fault: the store, or what is installed here
            self._refused = str(error)
            for trial in list(self._news):
                self._wake_up(trial)
        except Exception as error:
            # Trials are told why, then the process ends: they go on with a new trainer, from their last checkpoints.
            self._error = f"{type(error).__name__}: {error}"
            traceback.print_exc()
            for trial in list(self._news):
                self._wake_up(trial)
            time.sleep(_LAST_WORDS_S)
            os._exit(1)
        self._drained = True
        for trial in list(self._news):
            self._wake_up(trial)

    def _train(self) -> None:
        import torch

        from study.storage import ObjectStore
        from study.store import StudyStore
        from study.training.lanes import Lanes

        refuse_other_versions(self._versions)
        store = self._store = StudyStore(ObjectStore(self._store_uri, RUN_RETRY_TIMEOUT_S), self._study)
        metadata = store.metadata()
        self._replicates, self._last_rung = metadata.spec.replicates, max(metadata.spec.rungs(), default=0)
        self._all_seeds = metadata.spec.seeds
        self._lanes = Lanes(store, torch.device(self._device))
        self._progress = {
            "phase": "compiling the step" if metadata.stack.get("compiled") else "training",
            "ready": False,
        }
        self._started = idle_since = time.monotonic()
        while not self._draining:
            with self._wake:
                if not self._commands and (not self._lanes.is_busy or self._lanes.quarantine.awaits_confirmation):
                    self._wake.wait(timeout=1.0)
                commands, self._commands = self._commands, []
            for command in commands:
                command()
                idle_since = time.monotonic()
            self._drop_abandoned()
            if self._lanes.is_busy:
                idle_since = time.monotonic()
                for result in self._lanes.advance(interrupted=lambda: bool(self._commands)):
                    self._deliver(result)
                self._tell_whose_turn_it_is()
            elif time.monotonic() - idle_since > _IDLE_S:
                os._exit(0)
            if self._lanes.trained_steps or not self._lanes.is_busy:
                self._note_progress()
        self._lanes.checkpoint()
        self._lanes.finish()

    def _note_progress(self) -> None:
        lanes, seconds = self._lanes, time.monotonic() - self._started
        self._progress = {
            "phase": "training",
            "ready": True,
            "device": lanes.device_name,
            "replicates": lanes.progress(),
            "trained_steps": lanes.trained_steps,
            "lane_steps": lanes.lane_steps,
            "lanes": lanes.lanes,
            "seconds": {**lanes.seconds, "idle": seconds - sum(lanes.seconds.values())},
            "notices": [*lanes.notices, *self._trouble()],
        }

    def _watch_machine(self) -> None:
        """Stop training, with checkpoints, when this machine is about to be reclaimed."""
        import ray

        if not ray.is_initialized():
            return
        try:
            from study.training.preemption import wait_for_preemption

            wait_for_preemption(ray.get_runtime_context().get_node_id())
        except Exception:  # private parts of Ray may change; without the watch, training goes on
            logger.exception("the watch for preemption has ended: a reclaimed machine will write no last checkpoints")
            return
        self._leaving = f"{socket.gethostname()} is about to be taken away"
        self._draining = True
        self._command(lambda: None)

    def _tell_whose_turn_it_is(self) -> None:
        if self._turn != self._lanes.quarantine.isolated:
            self._turn = self._lanes.quarantine.isolated
            if self._turn is not None:
                self._wake_up(self._turn)

    def _trouble(self) -> list[str]:
        """What is wrong with the store, as this machine sees it."""
        outage = self._store.objects.outage
        return [] if outage is None else [f"{socket.gethostname()}: {outage}; trying again"]

    def _add(self, trial: TrialId, parameters: dict[str, Scalar], after: int, is_suspected: bool) -> None:
        """Put those seeds of a trial in line that have a place there and are not in it yet."""
        self._held.add(trial)
        known = self._seeds.setdefault(trial, set())
        seeds = self._all_seeds if after >= self._last_rung else self._all_seeds[:1]
        new = [seed for seed in seeds if seed not in known]
        known.update(new)
        self._lanes.add(trial, parameters, new, at_front=after >= self._last_rung > 0, is_suspected=is_suspected)

    def _remove(self, trial: TrialId) -> None:
        self._lanes.remove(trial)
        self._seeds.pop(trial, None)

    def _deliver(self, result: Any) -> None:  # Report or Failure, whose module imports torch
        by_step = self._reports.get(result.trial)
        if by_step is None:  # the trial went away meanwhile
            return
        if hasattr(result, "error"):
            self._failures[result.trial] = result.error
        else:
            by_step.setdefault(result.row["step"], {})[result.row["seed"]] = result.row
        self._wake_up(result.trial)

    def _wake_up(self, trial: TrialId) -> None:
        """Let whoever waits for a trial look again."""
        news = self._news.get(trial)
        if news and self._loop:
            self._loop.call_soon_threadsafe(news.set)

    def _drop_abandoned(self) -> None:
        now = time.monotonic()
        for trial, asked in list(self._asked.items()):
            if now - asked > _LEASE_S:
                self._lanes.checkpoint()
                self._forget(trial)
