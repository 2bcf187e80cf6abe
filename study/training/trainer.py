"""The Ray actor that owns one accelerator, or the CPUs of one node, and trains the replicates of trials there.

Training runs in its own thread, and calls of trials wait in an event loop, so that no call delays training. Every trial
imports this module; torch is imported only where a trainer runs.
"""

import asyncio
import contextlib
import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, TypeVar

from study.environment import check_same_versions
from study.errors import RunError, UserError
from study.spec import Scalar, TrialId
from study.storage import RUN_RETRY_TIMEOUT_S

__all__ = ["Trainer"]

logger = logging.getLogger(__name__)

_Result = TypeVar("_Result")

# A trial that has not called for this long is lost, and its lanes are freed.
_TRIAL_TIMEOUT_S = 60.0
# A trainer without work ends its process after this long.
_IDLE_TIMEOUT_S = 120.0
# Maximum duration of a call of `next_report`.
_POLL_S = 5.0
# Time for trials to receive an error before the process ends.
_EXIT_DELAY_S = 1.0


@dataclass
class _AttachedTrial:
    """Reports for a trial that calls this trainer.

    Attributes:
        changed: Set, in the event loop, when there is news for the trial.
        called: Time of the last call.
        after: Step after which the trial last asked for a report; -1 before its first call.
        reports: Reports by step and seed.
        failure: Why the trial failed.
    """

    changed: asyncio.Event = field(default_factory=asyncio.Event)
    called: float = field(default_factory=time.monotonic)
    after: int = -1
    reports: dict[int, dict[int, dict[str, Any]]] = field(default_factory=dict)
    failure: str | None = None


class Trainer:
    """Trains replicates of one study on one device.

    Args:
        store_uri: Address of the store.
        study: Name of the study.
        device: `cpu` or `cuda`.
        versions: Package versions of the driver, as of `study.environment.versions`. With other versions installed, the
            trainer refuses to train.
    """

    def __init__(self, store_uri: str, study: str, device: str, versions: Mapping[str, str]) -> None:
        # Ray keeps what a worker writes to stderr in the logs of its session.
        logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
        self._store_uri, self._study, self._device, self._versions = store_uri, study, device, versions
        self._commands: list[Callable[[], None]] = []
        self._wake = threading.Condition()
        self._attached: dict[TrialId, _AttachedTrial] = {}
        # Seeds that were queued, by trial; and trials that were ever queued.
        self._seeds: dict[TrialId, set[int]] = {}
        self._seen: set[TrialId] = set()
        self._replicates, self._last_rung = 0, 0
        self._all_seeds = range(0)
        self._error: str | None = None
        # Why no trial of this study can train, and why no trial can train on this machine any longer.
        self._refused: str | None = None
        self._preempted: str | None = None
        self._is_draining = self._is_drained = False
        self._progress: dict[str, Any] = {"phase": "starting the trainer", "ready": False, "replicates": []}
        self._isolated: TrialId | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        threading.Thread(target=self._run, name="training", daemon=True).start()
        threading.Thread(target=self._watch_for_preemption, name="preemption", daemon=True).start()

    async def next_report(
        self,
        trial: TrialId,
        parameters: dict[str, Scalar],
        after: int,
        is_suspected: bool = False,
        is_isolation_known: bool = False,
    ) -> dict[str, Any] | None:
        """Return a trial's report at its first budget after a step, or None if there is none within some seconds.

        The first call queues the trial's replicates, as does the first call after the trial was taken for lost. With
        halving, seed 0 alone trains up to the last rung. A call for a report after that rung means that the trial
        passed it: its other seeds are then queued, before all replicates that wait, so that promising trials finish
        first. Seed 0 trains on meanwhile.

        A trial that is suspected of crashing trainers trains in isolation until its next report. It receives
        `isolated`, and training begins when its next call confirms that, so that the trial can be held responsible for
        a crash.

        Returns:
            `step` and `rows`, the reports of all replicates since the last result; or one of `failed`, with the reason
            why the trial failed; `isolated`; `preempted`, with the reason why the trial must resume on another machine;
            `refused`, with the reason why the study cannot be trained.

        Raises:
            RuntimeError: If training ended by an unexpected error.
        """
        self._loop = asyncio.get_running_loop()
        deadline = time.monotonic() + _POLL_S
        while (left_s := deadline - time.monotonic()) > 0:
            attached = self._attached.setdefault(trial, _AttachedTrial())
            attached.changed.clear()
            attached.called = time.monotonic()
            if self._refused is not None:
                return {"refused": self._refused}
            if self._preempted is not None and self._is_drained:
                return {"preempted": self._preempted}
            if self._error is not None:
                raise RuntimeError(self._error)
            if after > attached.after:
                attached.after = after
                self._command(lambda: self._add(trial, parameters, after, is_suspected))
            if is_suspected and self._isolated == trial:
                if not is_isolation_known:
                    return {"isolated": True}
                self._command(lambda: self._lanes.quarantine.confirm(trial))
            if attached.failure is not None:
                return {"failed": attached.failure}
            # Copied by one call, because the training thread adds reports.
            for step in sorted(attached.reports):
                if step > after and self._is_whole(attached.reports[step], step):
                    return {"step": step, "rows": self._rows(attached, after, step)}
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(attached.changed.wait(), left_s)
        return None

    async def detach(self, trial: TrialId) -> None:
        """Free the lanes of a trial that has ended."""
        self._forget(trial)

    async def discard(self, trial: TrialId) -> None:
        """Delete the checkpoints of a trial that was stopped or failed, if this trainer has trained it."""
        if trial in self._seen:
            self._command(lambda: self._lanes.discard(trial))

    async def evaluate(
        self, replicates: list[tuple[TrialId, int]], metric_groups: list[str], split: str
    ) -> list[dict[str, Any]]:
        """Evaluate models of the store, as `study.training.evaluation.StoredModels.evaluate`."""
        return await self._in_training_thread(
            lambda: self._lanes.stored_models.evaluate(replicates, metric_groups, split)
        )

    async def post_training_inputs(self, trial: TrialId, seed: int) -> Any:
        """Return inputs of post-training metrics, as `study.training.evaluation.StoredModels.post_training_inputs`."""
        return await self._in_training_thread(lambda: self._lanes.stored_models.post_training_inputs(trial, seed))

    async def progress(self) -> dict[str, Any]:
        """Return the progress of training.

        Returns:
            `phase`, and `ready` once training runs. From then on also the name of the `device`; `replicates`, with
            trial, seed and step of each; `trained_steps` of replicates; `lane_steps` of all lanes, occupied or idle;
            `lanes` of a stack; `seconds` of training, evaluation and idling; and `notices` for the user.
        """
        return self._progress

    async def end(self) -> None:
        """End this process at once."""
        logger.info("the trainer ends")
        os._exit(0)

    async def drain(self) -> None:
        """Stop training, and return when a checkpoint of every replicate is written."""
        self._is_draining = True
        self._command(lambda: None)
        while not self._is_drained:
            await asyncio.sleep(0.02)

    async def _in_training_thread(self, job: Callable[[], _Result]) -> _Result:
        """Run a job in the training thread, which owns the device."""
        if self._refused is not None:
            raise RunError(self._refused)
        if self._preempted is not None:
            os._exit(0)  # nothing trains any more after training; the caller finds another trainer
        if self._is_draining or self._is_drained:
            raise RunError("the trainer is drained")
        future: Future[_Result] = Future()

        def run() -> None:
            try:
                result = job()
            except Exception as error:  # belongs to the caller, not to training
                future.set_exception(error)
            else:
                self._update_progress()  # first, because the caller may ask for the progress next
                future.set_result(result)

        self._command(run)
        return await asyncio.wrap_future(future)

    def _is_whole(self, reports: dict[int, dict[str, Any]], step: int) -> bool:
        """Return whether all seeds that train up to a budget have reported."""
        return 0 in reports if step <= self._last_rung else len(reports) == self._replicates

    def _rows(self, attached: _AttachedTrial, after: int, step: int) -> list[dict[str, Any]]:
        """Return the reports between two budgets; after the last rung also the earlier ones of the late seeds."""
        return [
            row
            for budget, by_seed in sorted(attached.reports.items())
            for seed, row in sorted(by_seed.items())
            if after < budget <= step or (seed > 0 and budget <= after == self._last_rung)
        ]

    def _command(self, command: Callable[[], None]) -> None:
        """Run a command in the training thread."""
        with self._wake:
            self._commands.append(command)
            self._wake.notify()

    def _forget(self, trial: TrialId) -> None:
        # In this order, so that a trial that calls again is queued after its removal.
        self._command(lambda: self._remove(trial))
        self._attached.pop(trial, None)

    def _run(self) -> None:
        try:
            self._train()
        except (UserError, RunError) as error:  # caused by the store or by what is installed, not by a trial
            self._refused = str(error)
            logger.error("the trainer refuses the study: %s", error)
        except Exception as error:
            # Trials receive the error before the process ends, and resume with a new trainer from their checkpoints.
            self._error = f"{type(error).__name__}: {error}"
            logger.exception("training failed")
            self._notify_all()
            time.sleep(_EXIT_DELAY_S)
            os._exit(1)
        finally:
            self._is_drained = True
            self._notify_all()

    def _train(self) -> None:
        import torch

        from study.storage import ObjectStore
        from study.store import StudyStore
        from study.training.lanes import Lanes

        check_same_versions(self._versions)
        store = self._store = StudyStore(ObjectStore(self._store_uri, RUN_RETRY_TIMEOUT_S), self._study)
        metadata = store.metadata()
        self._replicates, self._last_rung = metadata.spec.replicates, max(metadata.spec.rungs(), default=0)
        self._all_seeds = metadata.spec.seeds
        self._lanes = Lanes(store, torch.device(self._device))
        self._progress = {
            "phase": "compiling the step" if metadata.stack.get("compiled") else "training",
            "ready": False,
        }
        logger.info("study %s: the trainer starts on %s", self._study, self._lanes.device_name)
        self._started = idle_since = time.monotonic()
        while not self._is_draining:
            with self._wake:
                if not self._commands and (not self._lanes.is_busy or self._lanes.quarantine.awaits_confirmation):
                    self._wake.wait(timeout=1.0)
                commands, self._commands = self._commands, []
            for command in commands:
                command()
                idle_since = time.monotonic()
            self._forget_lost_trials()
            if self._lanes.is_busy:
                idle_since = time.monotonic()
                for result in self._lanes.advance(interrupted=lambda: bool(self._commands)):
                    self._deliver(result)
                self._announce_isolation()
            elif time.monotonic() - idle_since > _IDLE_TIMEOUT_S:
                logger.info("the trainer ends after %g s without work", _IDLE_TIMEOUT_S)
                os._exit(0)
            if self._lanes.trained_steps or not self._lanes.is_busy:
                self._update_progress()
        self._lanes.checkpoint()
        self._lanes.finish()
        logger.info("the trainer is drained")

    def _update_progress(self) -> None:
        lanes, seconds = self._lanes, time.monotonic() - self._started
        outage = self._store.objects.outage
        self._progress = {
            "phase": "training",
            "ready": True,
            "device": lanes.device_name,
            "replicates": lanes.progress(),
            "trained_steps": lanes.trained_steps,
            "lane_steps": lanes.lane_steps,
            "lanes": lanes.lanes,
            "seconds": {**lanes.seconds, "idle": seconds - sum(lanes.seconds.values())},
            "notices": [*lanes.notices, *([f"{socket.gethostname()}: {outage}; trying again"] if outage else [])],
        }

    def _watch_for_preemption(self) -> None:
        """Drain when this machine is about to be reclaimed."""
        import ray

        if not ray.is_initialized():
            return
        try:
            from study.training.preemption import wait_for_preemption

            wait_for_preemption(ray.get_runtime_context().get_node_id())
        except Exception:  # private parts of Ray may change; training continues without the watch
            logger.exception("the watch for preemption has ended: a reclaimed machine will write no last checkpoints")
            return
        self._preempted = f"{socket.gethostname()} is about to be reclaimed"
        self._is_draining = True
        self._command(lambda: None)

    def _announce_isolation(self) -> None:
        if self._isolated != self._lanes.quarantine.isolated:
            self._isolated = self._lanes.quarantine.isolated
            if self._isolated is not None:
                self._notify(self._isolated)

    def _add(self, trial: TrialId, parameters: dict[str, Scalar], after: int, is_suspected: bool) -> None:
        """Queue the seeds of a trial that may train now and are not queued yet."""
        self._seen.add(trial)
        queued = self._seeds.setdefault(trial, set())
        is_past_rungs = after >= self._last_rung
        new = [seed for seed in (self._all_seeds if is_past_rungs else self._all_seeds[:1]) if seed not in queued]
        queued.update(new)
        at_front = is_past_rungs and self._last_rung > 0
        self._lanes.add(trial, parameters, new, at_front=at_front, is_suspected=is_suspected)

    def _remove(self, trial: TrialId) -> None:
        self._lanes.remove(trial)
        self._seeds.pop(trial, None)

    def _deliver(self, result: Any) -> None:
        """Keep a Report or a Failure, of a module that imports torch, for its trial."""
        attached = self._attached.get(result.trial)
        if attached is None:  # the trial was detached meanwhile
            return
        if hasattr(result, "error"):
            attached.failure = result.error
        else:
            attached.reports.setdefault(result.row["step"], {})[result.row["seed"]] = result.row
        self._notify(result.trial)

    def _notify(self, trial: TrialId) -> None:
        """Wake the call of a trial, if one waits."""
        attached = self._attached.get(trial)
        if attached and self._loop:
            self._loop.call_soon_threadsafe(attached.changed.set)

    def _notify_all(self) -> None:
        for trial in list(self._attached):
            self._notify(trial)

    def _forget_lost_trials(self) -> None:
        now = time.monotonic()
        for trial, attached in list(self._attached.items()):
            if now - attached.called > _TRIAL_TIMEOUT_S:
                logger.warning("trial %s has not called for %g s: its lanes are freed", trial, _TRIAL_TIMEOUT_S)
                self._lanes.checkpoint()
                self._forget(trial)
