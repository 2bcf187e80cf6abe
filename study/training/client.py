"""Clients of trainers: trials, each of which attaches to one trainer, and the driver, which follows all of its run."""

import contextlib
import hashlib
import logging
import time
from collections.abc import Mapping
from typing import Any

import ray
from ray import tune
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from study.environment import process_env
from study.spec import Scalar, TrialId
from study.training.trainer import Trainer

__all__ = ["NAMESPACE", "StudyTrial", "TrainerGroup", "actor_names", "end_trainers", "find_or_start", "study_id"]

logger = logging.getLogger(__name__)

NAMESPACE = "marl-study"
"""Ray namespace of all actors."""

# A CPU request this small keeps trainers off nodes that offer no CPU, and leaves room for trials.
_MIN_CPU = 0.01
# After this many crashes of its trainer, a trial and all others that were training there are suspected, and each trains
# in isolation.
_MAX_SHARED_CRASHES = 2
# A trial fails after this many crashes of its trainer in isolation.
_MAX_ISOLATED_CRASHES = 3
# Ray forgets the name of a dead actor a moment after its death.
_RESTART_PAUSE_S = 1.0


def study_id(store_uri: str, study: str) -> str:
    """Return the identifier of a study in names of actors. It differs for studies of one name in two stores."""
    return f"{hashlib.sha256(store_uri.encode()).hexdigest()[:16]}/{study}"


def actor_names(prefix: str) -> list[str]:
    """Return the names of the actors in the namespace of studies that begin with a prefix."""
    actors = ray.util.list_named_actors(all_namespaces=True)
    names = [actor["name"] for actor in actors if actor["namespace"] == NAMESPACE]
    return [name for name in names if name.startswith(prefix)]


def _prefix(store_uri: str, study: str, run: int | None = None) -> str:
    """Return the prefix of the names of all trainers of a study, or of one run."""
    prefix = f"trainer/{study_id(store_uri, study)}/"
    return prefix if run is None else f"{prefix}{run}/"


def find_or_start(store_uri: str, study: str, run: int, versions: Mapping[str, str]) -> Any:
    """Return a handle of the trainer of the caller's node and GPU, which is started if there is none.

    The trainer is detached and bound to the node instead of the caller's placement group, because it would die with
    that. It requests no resources, because the trials that use it have requested theirs.
    """
    node = ray.get_runtime_context().get_node_id()
    gpus = ray.get_gpu_ids()
    environment = process_env()
    if gpus:
        # An actor that requests no GPU would see either all of them or none.
        environment |= {"CUDA_VISIBLE_DEVICES": str(gpus[0]), "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}
    device = f"gpu{gpus[0]}" if gpus else "cpu"
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


def end_trainers(store_uri: str, study: str, except_run: int | None = None) -> None:
    """End the trainers of a study, except for one run. Trainers outlive a driver that dies."""
    spared = None if except_run is None else _prefix(store_uri, study, except_run)
    for name in actor_names(_prefix(store_uri, study)):
        if spared is None or not name.startswith(spared):
            logger.info("trainer %s: ending", name)
            with contextlib.suppress(ValueError):  # died since it was listed
                ray.get_actor(name, namespace=NAMESPACE).end.remote()


class TrainerGroup:
    """The trainers of a run, as its driver follows them. No call waits for all trainers to answer.

    Args:
        store_uri: Address of the store.
        study: Name of the study.
        run: Number of the run.

    Attributes:
        ended: Last progress of each trainer that has ended.
    """

    def __init__(self, store_uri: str, study: str, run: int) -> None:
        self.ended: list[dict[str, Any]] = []
        self._address = (store_uri, study, run)
        # By name: handles, pending calls of `progress`, and their last results.
        self._handles: dict[str, Any] = {}
        self._pending: dict[str, Any] = {}
        self._progress: dict[str, dict[str, Any]] = {}

    def start(self, versions: Mapping[str, str], device: str) -> Any:
        """Return a handle of a trainer on a node with such a device, which is started if there is none."""
        request = {"num_cpus": 0, "num_gpus": 1} if device == "cuda" else {"num_cpus": _MIN_CPU}
        return ray.get(ray.remote(**request)(find_or_start).remote(*self._address, versions))

    def handles(self) -> list[Any]:
        """Return handles of all running trainers."""
        names = set(actor_names(_prefix(*self._address)))
        for name in self._handles.keys() - names:
            self._forget(name)
        for name in sorted(names - self._handles.keys()):
            with contextlib.suppress(ValueError):  # died since it was listed
                self._handles[name] = ray.get_actor(name, namespace=NAMESPACE)
                logger.info("trainer %s runs", name)
        return list(self._handles.values())

    def progress(self) -> list[dict[str, Any]]:
        """Return the last progress of each trainer, as `study.training.trainer.Trainer.progress`, and ask again."""
        self.handles()
        calls = list(self._pending.values())
        answered = set(ray.wait(calls, num_returns=len(calls), timeout=0)[0]) if calls else set()
        for name, call in list(self._pending.items()):
            if call in answered:
                del self._pending[name]
                try:
                    self._progress[name] = ray.get(call)
                except ray.exceptions.RayError:  # it died; its trials start another
                    self._forget(name)
        for name, trainer in self._handles.items():
            if name not in self._pending:
                self._pending[name] = trainer.progress.remote()
        return list(self._progress.values())

    def call(self, method: str, timeout_s: float) -> list[Any]:
        """Call a method of all trainers, and return the results that arrive in time."""
        calls = [getattr(trainer, method).remote() for trainer in self.handles()]
        results = []
        for call in ray.wait(calls, num_returns=len(calls), timeout=timeout_s)[0] if calls else ():
            with contextlib.suppress(ray.exceptions.RayError):
                results.append(ray.get(call))
        return results

    def _forget(self, name: str) -> None:
        logger.info("trainer %s has ended", name)
        for by_name in (self._handles, self._pending):
            by_name.pop(name, None)
        if name in self._progress:
            self.ended.append(self._progress.pop(name))


class StudyTrial(tune.Trainable):
    """A trial as Ray Tune sees it: a client of a trainer. It holds no tensor and imports no torch.

    The trial attaches its replicates to the trainer of the GPU that Ray assigned to it, and returns their reports to
    Tune. Its configuration has `trial` and `parameters`, and `store`, `study`, `run`, `steps` and `versions` of the
    study. A result has `step` and `rows`, the reports of its replicates; or `failed`, with the reason why the trial
    failed; or `refused`, with the reason why the study cannot be trained.

    If its trainer crashes, the trial resumes with a new one, from its last checkpoint. Which trial crashes trainers
    repeatedly is found by isolation: each trial that was training there trains alone, and a trial that crashes its
    trainer in isolation fails.
    """

    def setup(self, config: dict[str, Any]) -> None:
        """Become a trial. Its trainer is found by the first call of `step`."""
        self._trial: TrialId = config["trial"]
        self._parameters: dict[str, Scalar] = config["parameters"]
        self._full_budget: int = config["steps"]
        self._address = (config["store"], config["study"], config["run"], config["versions"])
        self._reported = 0
        self._trainer: Any = None
        self._shared_crashes = self._isolated_crashes = 0
        self._is_isolated = False
        self._crashed_actor: Any = None

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Become another trial, which is faster than a new process for each."""
        self.cleanup()
        self.setup(new_config)
        return True

    def step(self) -> dict[str, Any]:
        """Wait for the next report.

        Raises:
            RuntimeError: If this machine is about to be reclaimed. Tune then resumes the trial on another one.
        """
        while True:
            try:
                result = self._next_report()
            except ray.exceptions.RayError as error:  # the trainer died, or is about to
                result = self._handle_crash(error)
            if result is None:
                continue
            if "isolated" in result:
                self._is_isolated = True
            elif "preempted" in result:
                raise RuntimeError(result["preempted"])
            else:
                break
        self._shared_crashes = self._isolated_crashes = 0
        self._is_isolated = False
        self._reported = result.get("step", self._reported)
        is_done = "failed" in result or result.get("step") == self._full_budget
        return {**result, "trial": self._trial, tune.result.DONE: is_done}

    def cleanup(self) -> None:
        """Free the lanes of the trial."""
        if self._trainer is not None:
            with contextlib.suppress(ray.exceptions.RayError):  # a dead trainer has no lanes
                ray.get(self._trainer.detach.remote(self._trial))

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Do nothing: the trainer writes checkpoints to the store."""

    def load_checkpoint(self, checkpoint: Any) -> None:
        """Do nothing: the trainer reads checkpoints from the store."""

    def _next_report(self) -> dict[str, Any] | None:
        if self._trainer is None:
            self._trainer = find_or_start(*self._address)
        is_suspected = self._shared_crashes >= _MAX_SHARED_CRASHES
        result: dict[str, Any] | None = ray.get(
            self._trainer.next_report.remote(
                self._trial, self._parameters, self._reported, is_suspected, self._is_isolated
            )
        )
        return result

    def _handle_crash(self, error: ray.exceptions.RayError) -> dict[str, Any] | None:
        """Return a result if the trial has failed by a crash of its trainer, or None if it resumes with another."""
        actor = self._trainer._actor_id if self._trainer is not None else None
        if actor is None or actor == self._crashed_actor:  # it did not start, or the name still led to the dead actor
            pass
        elif self._is_isolated:
            self._isolated_crashes += 1
        else:
            self._shared_crashes += 1
        self._crashed_actor = actor
        *_, reason = str(error).strip().splitlines() or [type(error).__name__]
        logger.warning(
            "trial %s: trainer lost (%d shared crashes, %d in isolation): %s",
            self._trial,
            self._shared_crashes,
            self._isolated_crashes,
            reason.strip(),
        )
        if self._isolated_crashes == _MAX_ISOLATED_CRASHES:
            crashes = f"crashed its trainer {_MAX_ISOLATED_CRASHES} times while training in isolation"
            return {"failed": f"{crashes}: {reason.strip()}"}
        self._is_isolated = False
        self._trainer = None
        time.sleep(_RESTART_PAUSE_S)
        return None
