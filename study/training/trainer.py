"""The Ray actor that owns one accelerator, or the CPUs of one node, and trains the replicates of trials there.

Training runs in its own thread, and calls of trials wait in an event loop, so that no call delays training. Every trial
imports this module, so only functions import torch.
"""

import asyncio
import contextlib
import logging
import os
import queue
import socket
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from typing import Any

from study.environment import check_same_versions
from study.errors import RunError, UserError
from study.spec import Scalar, TrialId
from study.storage import RUN_RETRY_TIMEOUT_S
from study.training.trials import AttachedTrial

logger = logging.getLogger(__name__)

_TRIAL_TIMEOUT_S = 60.0  # a trial that has not called for this long is lost, and its lanes are freed
_IDLE_TIMEOUT_S = 120.0  # a trainer without work ends its process after this long
_POLL_S = 5.0  # maximum duration of a call of `next_report`
_EXIT_DELAY_S = 1.0  # time for trials to receive an error before the process ends


class Trainer:
    """Trains replicates of one study on one device: `cpu` or `cuda`.

    The trainer refuses to train if its `study.environment.versions`, or sources of plug-ins, differ from the driver's.
    """

    def __init__(self, store_uri: str, study: str, device: str, versions: Mapping[str, str]) -> None:
        # Ray adds the stderr of a worker to the logs of its session.
        logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
        self._store_uri, self._study, self._device, self._versions = store_uri, study, device, versions
        # Calls that the event loop leaves to the training thread.
        self._commands: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._attached: dict[TrialId, AttachedTrial] = {}
        # Seeds that are queued, training or finished, by trial; empty for a trial that was removed.
        self._seeds: dict[TrialId, set[int]] = {}
        self._all_seeds, self._last_rung = range(0), 0
        self._error: str | None = None
        self._refused: str | None = None  # why no trial of this study can train
        self._preempted: str | None = None  # why this machine can train no longer
        self._is_draining = self._is_drained = False
        self._progress: dict[str, Any] = {"phase": "starting the trainer", "ready": False}
        self._isolated: TrialId | None = None
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

        The first call queues the trial's replicates. With halving, seed 0 alone trains up to the last rung. A request
        for a report after that rung means that the trial passed it. Its other seeds then enter the front of the queue,
        so that promising trials finish first.

        A trial that is suspected of crashing trainers trains in isolation until its next report. It receives
        `isolated`, and training begins when its next call confirms that, so a later crash is known to be its own.
        Isolation ends when the trial, which has received the report, requests the next or detaches.

        Returns:
            `step` and `rows`, the reports of all replicates since the last result; or `isolated`; or one of `failed`
            (the trial), `drained` (the trial must resume with another trainer) and `refused` (the study cannot be
            trained), with the reason.

        Raises:
            RuntimeError: If training ended by an unexpected error.
        """
        deadline = time.monotonic() + _POLL_S
        while (left_s := deadline - time.monotonic()) > 0:
            attached = self._attached.setdefault(trial, AttachedTrial())
            attached.changed.clear()
            attached.last_call = time.monotonic()
            if self._refused is not None:
                return {"refused": self._refused}
            if self._error is not None:
                raise RuntimeError(self._error)
            if self._is_drained:
                return {"drained": self._preempted or "the run is stopped"}
            if after > attached.after:
                attached.after = after
                self._commands.put(lambda: self._add(trial, parameters, after, is_suspected))
            if is_suspected and self._isolated == trial:
                if not is_isolation_known:
                    return {"isolated": True}
                self._commands.put(lambda: self._lanes.quarantine.confirm(trial))
            if attached.failure is not None:
                return {"failed": attached.failure}
            if result := attached.next_result(after, self._last_rung, len(self._all_seeds)):
                return result
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(attached.changed.wait(), left_s)
        return None

    async def detach(self, trial: TrialId) -> None:
        """Free the lanes of a trial that has ended."""
        self._detach(trial)

    async def discard(self, trial: TrialId) -> None:
        """Delete the checkpoints of a trial that was stopped or failed. Ignored by trainers that did not train it."""
        if trial in self._seeds:
            self._commands.put(lambda: self._lanes.discard(trial))

    async def evaluate(self, replicates: list[tuple[TrialId, int]], metric_groups: list[str], split: str) -> Any:
        """Return the result of `study.training.evaluation.Evaluator.evaluate_stored`."""
        return await self._run_job(lambda: self._lanes.evaluator.evaluate_stored(replicates, metric_groups, split))

    async def post_training_inputs(self, trial: TrialId, seed: int) -> Any:
        """Return the result of `study.training.evaluation.Evaluator.post_training_inputs`."""
        return await self._run_job(lambda: self._lanes.evaluator.post_training_inputs(trial, seed))

    async def update_baselines(self) -> None:
        """Evaluate the untrained network, unless that is done."""
        await self._run_job(lambda: self._lanes.update_baselines())

    async def progress(self) -> dict[str, Any]:
        """Return the progress of training.

        It has `phase` and `ready`; once ready also the name of the `device`; `replicates`, with trial, seed and step of
        each; `trained_steps` of replicates; `lane_steps` of all lanes, occupied or idle; `lanes` of a stack; `seconds`
        of training, evaluation and idling; and `notices` for the user.
        """
        return self._progress

    async def end(self) -> None:
        """End this process at once."""
        logger.info("the trainer ends")
        _end_process()

    async def drain(self) -> None:
        """Stop training, and return when a checkpoint of every replicate is written."""
        self._start_draining()
        while not self._is_drained:
            await asyncio.sleep(0.02)

    def _start_draining(self) -> None:
        self._is_draining = True
        self._commands.put(lambda: None)

    async def _run_job(self, job: Callable[[], Any]) -> Any:
        """Return the result of a job in the training thread, which owns the device."""
        if self._refused is not None:
            raise RunError(self._refused)
        if self._preempted is not None:
            _end_process()  # no trial needs a preempted trainer after training, and the caller finds another one
        if self._is_draining or self._is_drained:
            raise RunError("the trainer is drained")
        future: Future[Any] = Future()

        def run() -> None:
            try:
                result = job()
            except Exception as error:  # the caller handles it; training continues
                future.set_exception(error)
            else:
                self._update_progress()  # first, because the caller may request the progress next
                future.set_result(result)

        self._commands.put(run)
        return await asyncio.wrap_future(future)

    def _detach(self, trial: TrialId) -> None:
        def remove() -> None:
            self._lanes.remove(trial)
            self._lanes.quarantine.release(trial)
            self._seeds.get(trial, set()).clear()

        # In this order, so that a trial that calls again is queued after its removal.
        self._commands.put(remove)
        self._attached.pop(trial, None)

    def _run(self) -> None:
        try:
            self._train()
        except (UserError, RunError) as error:  # caused by the store or the installed packages, not by a trial
            self._refused = str(error)
            logger.error("the trainer refuses the study: %s", error)
        except Exception as error:
            # Trials receive the error before the process ends, and resume with a new trainer from their checkpoints.
            self._error = f"{type(error).__name__}: {error}"
            logger.exception("training failed")
            self._notify_all()
            time.sleep(_EXIT_DELAY_S)
            _end_process(1)
        finally:
            self._is_drained = True
            self._notify_all()

    def _train(self) -> None:
        import torch

        from study.spec.plugins import load_recorded
        from study.storage import ObjectStore
        from study.store import StudyStore
        from study.training.lanes import Lanes

        check_same_versions(self._versions)
        self._store = StudyStore(ObjectStore(self._store_uri, RUN_RETRY_TIMEOUT_S), self._study)
        metadata = self._store.metadata()
        load_recorded(metadata.spec, metadata.plugins)
        self._all_seeds, self._last_rung = metadata.spec.seeds, max(metadata.spec.rungs(), default=0)
        self._lanes = Lanes(self._store, torch.device(self._device))
        phase = "compiling the step" if metadata.stack.get("compiled") else "training"
        self._progress = {"phase": phase, "ready": False}
        logger.info("study %s: the trainer starts on %s", self._study, self._lanes.device_name)
        self._started = idle_since = time.monotonic()
        while not self._is_draining:
            may_wait = not self._lanes.is_busy or self._lanes.quarantine.awaits_confirmation
            with contextlib.suppress(queue.Empty):
                command = self._commands.get(timeout=1.0 if may_wait else 0.0)
                while True:
                    command()
                    idle_since = time.monotonic()
                    command = self._commands.get_nowait()
            for trial, attached in list(self._attached.items()):
                if time.monotonic() - attached.last_call > _TRIAL_TIMEOUT_S:
                    logger.warning("trial %s has not called for %g s: its lanes are freed", trial, _TRIAL_TIMEOUT_S)
                    self._lanes.checkpoint()
                    self._detach(trial)
            if self._lanes.is_busy:
                idle_since = time.monotonic()
                for result in self._lanes.advance(interrupted=lambda: not self._commands.empty()):
                    self._update_progress()  # first, as for a job
                    if receiver := self._attached.get(result.trial):
                        receiver.deliver(result)
                if self._isolated != self._lanes.quarantine.isolated:
                    self._isolated = self._lanes.quarantine.isolated
                    self._notify_all()
            elif time.monotonic() - idle_since > _IDLE_TIMEOUT_S:
                logger.info("the trainer ends after %g s without work", _IDLE_TIMEOUT_S)
                _end_process()
            if self._lanes.trained_steps or not self._lanes.is_busy:
                self._update_progress()
        self._lanes.checkpoint()
        self._lanes.finish()
        logger.info("the trainer is drained")

    def _update_progress(self) -> None:
        lanes, seconds = self._lanes, time.monotonic() - self._started
        notices = list(lanes.stacks.notices)
        if outage := self._store.objects.outage:
            notices.append(f"{socket.gethostname()}: {outage}; trying again")
        self._progress = {
            "phase": "training",
            "ready": True,
            "device": lanes.device_name,
            "replicates": lanes.progress(),
            "trained_steps": lanes.trained_steps,
            "lane_steps": lanes.lane_steps,
            "lanes": lanes.stacks.plan.lanes,
            "seconds": {**lanes.seconds, "idle": seconds - sum(lanes.seconds.values())},
            "notices": notices,
        }

    def _watch_for_preemption(self) -> None:
        """Drain when this machine is about to be reclaimed."""
        import ray

        if not ray.is_initialized():
            return
        try:
            from study.training.nodes import wait_for_preemption

            wait_for_preemption(ray.get_runtime_context().get_node_id())
        except Exception:  # private parts of Ray may change; training continues
            logger.exception("the watch for preemption has ended: a reclaimed machine will write no last checkpoints")
        else:
            self._preempted = f"{socket.gethostname()} is about to be reclaimed"
            self._start_draining()

    def _add(self, trial: TrialId, parameters: dict[str, Scalar], after: int, is_suspected: bool) -> None:
        """Queue the seeds of a trial that may train now and are not queued yet."""
        queued, is_past_rungs = self._seeds.setdefault(trial, set()), after >= self._last_rung
        new = [seed for seed in (self._all_seeds if is_past_rungs else self._all_seeds[:1]) if seed not in queued]
        queued.update(new)
        self._lanes.add(trial, parameters, new, is_past_rungs and self._last_rung > 0, is_suspected)

    def _notify_all(self) -> None:
        for attached in list(self._attached.values()):
            attached.notify()


def _end_process(status: int = 0) -> None:
    from study.datasets.shared_memory import release_shared_files

    release_shared_files()
    os._exit(status)
