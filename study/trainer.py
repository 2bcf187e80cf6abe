"""The Ray actor that owns one accelerator, or the CPUs of one node, and trains whatever replicates it is given there.

It trains in a thread of its own; calls from trials wait in an event loop, so that nobody holds up the training. This
module is imported by every trial, so torch is imported only where a trainer starts.
"""

import asyncio
import os
import threading
import time
import traceback
from collections.abc import Callable
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from study.spec import Scalar

__all__ = ["ALLOCATOR", "NAMESPACE", "Trainer", "find_or_start", "trainer_prefix"]

NAMESPACE = "marl-study"

# A trial that has not asked for so long is gone; its replicates give their lanes back.
_LEASE_S = 60.0
# A trainer with nothing to do for so long ends itself.
_IDLE_S = 600.0
_POLL_S = 5.0
_LAST_WORDS_S = 1.0
# Large temporary tensors are kept by the allocator, in huge pages; returned to the kernel, each step would fault them
# in again.
ALLOCATOR = {
    "MALLOC_MMAP_THRESHOLD_": str(1 << 32),
    "MALLOC_TRIM_THRESHOLD_": str(1 << 34),
    "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1",
}


class Trainer:
    """Trains replicates of one study on one device.

    Args:
        store_uri: the store.
        study: name of the study.
        device: `cpu` or `cuda`.
    """

    def __init__(self, store_uri: str, study: str, device: str) -> None:
        self._store_uri, self._study, self._device = store_uri, study, device
        self._commands: list[Callable[[], None]] = []
        self._wake = threading.Condition()
        # By trial: reports by step and seed, a failure, and when somebody last asked.
        self._reports: dict[int, dict[int, dict[int, dict[str, Any]]]] = {}
        self._failures: dict[int, str] = {}
        self._asked: dict[int, float] = {}
        self._replicates = 0
        self._error: str | None = None
        self._draining = False
        self._drained = False
        self._progress: dict[str, Any] = {"replicates": [], "trained_steps": 0, "ready": False}
        threading.Thread(target=self._run, name="training", daemon=True).start()

    async def next_report(self, trial: int, parameters: dict[str, Scalar], after: int) -> dict[str, Any] | None:
        """A trial's report at its first budget after a step, or None when there is none within some seconds.

        The first call puts the trial's replicates in line, as does the first after the trial was taken for gone.

        Returns:
            `step` and `rows`, one for each replicate; or `failed` with the reason.

        Raises:
            RuntimeError: when training itself broke.
        """
        deadline = time.monotonic() + _POLL_S
        while time.monotonic() < deadline:
            self._asked[trial] = time.monotonic()
            if self._error is not None:
                raise RuntimeError(self._error)
            if trial not in self._reports:
                self._reports[trial] = {}
                self._command(lambda: self._add(trial, parameters))
            if trial in self._failures:
                return {"failed": self._failures[trial]}
            by_step = self._reports[trial]
            for step in sorted(step for step in by_step if step > after):
                rows = by_step[step]
                if len(rows) == self._replicates:
                    return {"step": step, "rows": [rows[seed] for seed in sorted(rows)]}
            await asyncio.sleep(0.05)
        return None

    async def detach(self, trial: int) -> None:
        """The trial is over: its replicates give their lanes back."""
        self._forget(trial)

    async def progress(self) -> dict[str, Any]:
        """Trial, seed and step of each replicate, steps trained in all, and whether training has begun."""
        return self._progress

    async def drain(self) -> None:
        """Stop training and write a checkpoint of every replicate; returns when that is done."""
        self._draining = True
        self._command(lambda: None)
        while not self._drained:
            await asyncio.sleep(0.02)

    def _command(self, command: Callable[[], None]) -> None:
        with self._wake:
            self._commands.append(command)
            self._wake.notify()

    def _forget(self, trial: int) -> None:
        self._reports.pop(trial, None)
        self._asked.pop(trial, None)
        self._failures.pop(trial, None)
        self._command(lambda: self._lanes.remove(trial))

    def _run(self) -> None:
        try:
            self._train()
        except Exception as error:
            # Trials are told why, then the process ends: they go on with a new trainer, from their last checkpoints.
            self._error = f"{type(error).__name__}: {error}"
            traceback.print_exc()
            time.sleep(_LAST_WORDS_S)
            os._exit(1)
        self._drained = True

    def _train(self) -> None:
        import torch

        from study.lanes import Lanes
        from study.objects import Objects
        from study.store import StudyStore

        torch.set_num_threads(os.cpu_count() or 1)
        store = StudyStore(Objects(self._store_uri), self._study)
        self._lanes = Lanes(store, torch.device(self._device))
        self._replicates = store.document().spec.replicates
        idle_since = time.monotonic()
        while not self._draining:
            with self._wake:
                if not self._commands and not self._lanes.is_busy:
                    self._wake.wait(timeout=1.0)
                commands, self._commands = self._commands, []
            for command in commands:
                command()
            self._drop_abandoned()
            if self._lanes.is_busy:
                idle_since = time.monotonic()
                for result in self._lanes.advance(interrupted=lambda: bool(self._commands)):
                    self._deliver(result)
            elif time.monotonic() - idle_since > _IDLE_S:
                os._exit(0)
            self._progress = {
                "replicates": self._lanes.progress(),
                "trained_steps": self._lanes.trained_steps,
                "ready": True,
            }
        self._lanes.checkpoint()

    def _add(self, trial: int, parameters: dict[str, Scalar]) -> None:
        for report in self._lanes.add(trial, parameters):
            self._deliver(report)

    def _deliver(self, result: Any) -> None:  # Report or Failure, whose module imports torch
        by_step = self._reports.get(result.trial)
        if by_step is None:  # the trial went away meanwhile
            return
        if hasattr(result, "error"):
            self._failures[result.trial] = result.error
        else:
            by_step.setdefault(result.row["step"], {})[result.row["seed"]] = result.row

    def _drop_abandoned(self) -> None:
        now = time.monotonic()
        for trial, asked in list(self._asked.items()):
            if now - asked > _LEASE_S:
                self._lanes.checkpoint()
                self._forget(trial)


def trainer_prefix(study: str, launch: int) -> str:
    """What the names of a launch's trainers begin with."""
    return f"trainer/{study}/{launch}/"


def find_or_start(store_uri: str, study: str, launch: int) -> Any:
    """A handle of the trainer of the caller's node and GPU; it is started if there is none yet.

    It is detached and bound to the node, not to the caller's placement group, with which it would die. It asks Ray for
    nothing: the trials that use it have asked for its share.
    """
    node = ray.get_runtime_context().get_node_id()
    gpus = ray.get_gpu_ids()
    environment = {**ALLOCATOR, "OMP_NUM_THREADS": str(os.cpu_count() or 1)}
    if gpus:
        # Without a GPU of its own to ask for, the actor would see all of them, or none.
        environment |= {"CUDA_VISIBLE_DEVICES": str(gpus[0]), "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}
    place = f"gpu{gpus[0]}" if gpus else "cpu"
    actor = ray.remote(Trainer).options(
        name=f"{trainer_prefix(study, launch)}{node}/{place}",
        namespace=NAMESPACE,
        lifetime="detached",
        get_if_exists=True,
        num_cpus=0,
        max_concurrency=1000,
        scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False),
        runtime_env={"env_vars": environment},
    )
    return actor.remote(store_uri, study, "cuda" if gpus else "cpu")
