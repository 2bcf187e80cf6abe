"""Clients of trainers: trials, each of which attaches to one trainer, and the driver, which follows all of them."""

import contextlib
import logging
import time
from collections.abc import Mapping
from typing import Any, Self

import ray
from ray import tune
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from study.environment import available_cpus, process_env
from study.spec import Scalar, TrialId
from study.training.nodes import NAMESPACE, actor_names, study_id
from study.training.trainer import Trainer

logger = logging.getLogger(__name__)

# A CPU request this small keeps trainers off nodes that offer no CPU, and leaves room for trials.
_MIN_CPU = 0.01
# After this many crashes of a trainer, each trial that was training there is suspected, and trains in isolation.
_MAX_SHARED_CRASHES = 2
# A trial fails after this many crashes of its trainer in isolation.
_MAX_ISOLATED_CRASHES = 3
# The name of an actor is taken until a moment after its death.
_RESTART_PAUSE_S = 1.0


def _prefix(store_uri: str, study: str, run: int | None = None) -> str:
    """Return the prefix of the names of all trainers of a study, or of one run."""
    return f"trainer/{study_id(store_uri, study)}/{'' if run is None else f'{run}/'}"


def find_or_start(store_uri: str, study: str, run: int, versions: Mapping[str, str], number: int = 0) -> Any:
    """Return a handle of a trainer of the caller's node and GPU; start it if necessary.

    The trainer is detached and bound to the node, because it would die with the caller's placement group. It requests
    no resources, because the trials that use it have requested theirs. A node without GPUs has several trainers, with
    numbers from 0.
    """
    node, gpus = ray.get_runtime_context().get_node_id(), ray.get_gpu_ids()
    environment = process_env(available_cpus() if gpus else 1)
    if gpus:
        # By default, an actor that requests no GPU sees either all of them or none.
        environment |= {"CUDA_VISIBLE_DEVICES": str(gpus[0]), "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}
    device = f"gpu{gpus[0]}" if gpus else f"cpu{number}"
    actor = ray.remote(Trainer).options(
        name=f"{_prefix(store_uri, study, run)}{node}/{device}",
        namespace=NAMESPACE,
        lifetime="detached",
        get_if_exists=True,
        num_cpus=0,
        max_concurrency=1000,
        scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False),
        runtime_env={"env_vars": environment},
    )
    return actor.remote(store_uri, study, "cuda" if gpus else "cpu", dict(versions))


def find_or_start_all(store_uri: str, study: str, run: int, versions: Mapping[str, str], count: int) -> list[Any]:
    """Return handles of the first trainers of the caller's node, see `find_or_start`."""
    return [find_or_start(store_uri, study, run, versions, number) for number in range(count)]


def end_trainers(store_uri: str, study: str, except_run: int | None = None) -> None:
    """End the trainers of a study, except for one run. Trainers outlive a driver that dies."""
    spared = None if except_run is None else _prefix(store_uri, study, except_run)
    for name in actor_names(_prefix(store_uri, study)):
        if spared is None or not name.startswith(spared):
            logger.info("trainer %s: ending", name)
            with contextlib.suppress(ValueError):  # died since it was listed
                ray.get_actor(name, namespace=NAMESPACE).end.remote()


class TrainerGroup:
    """The trainers of a run, ended at the end of a `with` block. `handles` and `progress` do not wait for trainers.

    Attributes:
        ended: Last progress of each trainer that has ended.
    """

    def __init__(self, store_uri: str, study: str, run: int) -> None:
        self.ended: list[dict[str, Any]] = []
        self._trainer_arguments = (store_uri, study, run)
        # By name: handles, pending calls of `progress`, and their last results.
        self._handles: dict[str, Any] = {}
        self._starting: list[Any] = []  # Ray lists their names only when they have started
        self._pending: dict[str, Any] = {}
        self._progress: dict[str, dict[str, Any]] = {}

    def __enter__(self) -> Self:
        """End the trainers of earlier runs, which outlive a driver that dies."""
        store_uri, study, run = self._trainer_arguments
        end_trainers(store_uri, study, except_run=run)
        return self

    def __exit__(self, *_: object) -> None:
        """End the trainers. An error is logged, so that it hides no error of the run."""
        try:
            for trainer in self._starting:
                trainer.end.remote()
            end_trainers(*self._trainer_arguments[:2])
        except Exception as error:
            logger.warning("trainers of study %s were not ended: %s", self._trainer_arguments[1], error)

    def start(self, versions: Mapping[str, str], device: str, number: int) -> list[Any]:
        """Return handles of all running trainers; if there is none, start some on any node with a device of a type."""
        request = {"num_cpus": 0, "num_gpus": 1} if device == "cuda" else {"num_cpus": _MIN_CPU}
        return self.handles() or ray.get(
            ray.remote(**request)(find_or_start_all).remote(*self._trainer_arguments, versions, number)
        )

    def start_here(self, versions: Mapping[str, str], number: int) -> None:
        """Start trainers on the CPUs of this machine, without waiting for them."""
        self._starting = find_or_start_all(*self._trainer_arguments, versions, number)

    def handles(self) -> list[Any]:
        """Return handles of all running trainers."""
        names = set(actor_names(_prefix(*self._trainer_arguments)))
        for name in self._handles.keys() - names:
            self._forget(name)
        for name in sorted(names - self._handles.keys()):
            with contextlib.suppress(ValueError):  # died since it was listed
                self._handles[name] = ray.get_actor(name, namespace=NAMESPACE)
                logger.info("trainer %s runs", name)
        return list(self._handles.values())

    def progress(self) -> list[dict[str, Any]]:
        """Return the last known `study.training.trainer.Trainer.progress` of each trainer, and request the next."""
        self.handles()
        calls = list(self._pending.values())
        answered = set(ray.wait(calls, num_returns=len(calls), timeout=0)[0]) if calls else set()
        for name, call in list(self._pending.items()):
            if call in answered:
                del self._pending[name]
                try:
                    self._progress[name] = ray.get(call)
                except ray.exceptions.RayError:  # the trainer died; its trials start another one
                    self._forget(name)
        for name, trainer in self._handles.items():
            if name not in self._pending:
                self._pending[name] = trainer.progress.remote()
        return list(self._progress.values())

    def call(self, method: str, timeout_s: float) -> list[Any]:
        """Call a method of each trainer, and return the results that arrive within the timeout."""
        calls = [getattr(trainer, method).remote() for trainer in self.handles()]
        results = []
        for call in ray.wait(calls, num_returns=len(calls), timeout=timeout_s)[0] if calls else ():
            with contextlib.suppress(ray.exceptions.RayError):
                results.append(ray.get(call))
        return results

    def _forget(self, name: str) -> None:
        logger.info("trainer %s has ended", name)
        self._handles.pop(name, None)
        self._pending.pop(name, None)
        if name in self._progress:
            self.ended.append(self._progress.pop(name))


class StudyTrial(tune.Trainable):
    """A trial of Ray Tune, and client of the trainer of its GPU or node. It imports no torch.

    The configuration has `trial`, `parameters` and the number of the `trainer` on its node, and `store`, `study`,
    `run`, `steps` and `versions` of the study. A result has `step` and `rows`, the reports of the trial's replicates;
    or, with the reason, `failed` (the trial) or `refused` (the study cannot be trained).

    If its trainer crashes, the trial resumes with a new one, from its last checkpoint. After repeated crashes, each
    trial that was training there trains in isolation, and fails after more crashes.
    """

    def setup(self, config: dict[str, Any]) -> None:
        """Become a trial. The first call of `step` attaches it to its trainer."""
        self._trial: TrialId = config["trial"]
        self._parameters: dict[str, Scalar] = config["parameters"]
        self._full_budget: int = config["steps"]
        self._trainer_arguments = *(config[name] for name in ("store", "study", "run", "versions")), config["trainer"]
        self._reported = 0
        self._trainer: Any = None
        self._shared_crashes = self._isolated_crashes = 0
        self._is_isolated = False
        self._crashed_actor: Any = None

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Become another trial, which is faster than a new process."""
        self.cleanup()
        self.setup(new_config)
        return True

    def step(self) -> dict[str, Any]:
        """Wait for the next report.

        Raises:
            RuntimeError: If this machine is about to be reclaimed, and Tune resumes the trial on another one; or if the
                run is stopped.
        """
        result: dict[str, Any] | None = None
        while result is None:
            try:
                if self._trainer is None:
                    self._trainer = find_or_start(*self._trainer_arguments)
                is_suspected = self._shared_crashes >= _MAX_SHARED_CRASHES
                arguments = self._trial, self._parameters, self._reported, is_suspected, self._is_isolated
                result = ray.get(self._trainer.next_report.remote(*arguments))
            except ray.exceptions.RayError as error:  # the trainer died, or will
                result = self._handle_crash(error)
            if result and "drained" in result:
                raise RuntimeError(result["drained"])
            if result and "isolated" in result:
                self._is_isolated, result = True, None
        self._shared_crashes, self._isolated_crashes, self._is_isolated = 0, 0, False
        self._reported = result.get("step", self._reported)
        is_done = "failed" in result or result.get("step") == self._full_budget
        if is_done:
            self.cleanup()  # at once, because Tune may keep a finished trial's actor for a while before it calls this
        return {**result, "trial": self._trial, tune.result.DONE: is_done}

    def cleanup(self) -> None:
        """Free the lanes of the trial."""
        if self._trainer is not None:
            with contextlib.suppress(ray.exceptions.RayError):  # a dead trainer has no lanes
                ray.get(self._trainer.detach.remote(self._trial))
            self._trainer = None

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Do nothing: the trainer writes checkpoints to the store."""

    def load_checkpoint(self, checkpoint: Any) -> None:
        """Do nothing: the trainer reads checkpoints from the store."""

    def _handle_crash(self, error: ray.exceptions.RayError) -> dict[str, Any] | None:
        """Count a crash of the trainer. Return a result if the trial fails, and None if it resumes."""
        actor = self._trainer._actor_id if self._trainer is not None else None
        # Otherwise the trainer did not start, or its name still led to the dead actor.
        if actor is not None and actor != self._crashed_actor:
            self._isolated_crashes += self._is_isolated
            self._shared_crashes += not self._is_isolated
        self._crashed_actor = actor
        *_, reason = str(error).strip().splitlines() or [type(error).__name__]
        crashes = f"{self._shared_crashes} shared crashes, {self._isolated_crashes} in isolation"
        logger.warning("trial %s: trainer lost (%s): %s", self._trial, crashes, reason.strip())
        if self._isolated_crashes == _MAX_ISOLATED_CRASHES:
            crashes = f"crashed its trainer {_MAX_ISOLATED_CRASHES} times while training in isolation"
            return {"failed": f"{crashes}: {reason.strip()}"}
        self._is_isolated, self._trainer = False, None
        time.sleep(_RESTART_PAUSE_S)
        return None
