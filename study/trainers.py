"""Where the trainers of a launch are: found by name, started where there is none."""

import contextlib
from collections.abc import Iterable, Mapping
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from study.surroundings import surroundings
from study.trainer import Trainer

__all__ = ["NAMESPACE", "end_trainers", "find_or_start", "start_trainer", "trainers_of"]

NAMESPACE = "marl-study"


# Of a processor; so a trainer without a GPU is not placed where nothing shall train.
_A_LITTLE = 0.01


def _prefix(study: str, launch: int | None = None) -> str:
    """What the names of a study's trainers begin with, or of those of one launch."""
    return f"trainer/{study}/" if launch is None else f"trainer/{study}/{launch}/"


def find_or_start(store_uri: str, study: str, launch: int, versions: Mapping[str, str]) -> Any:
    """A handle of the trainer of the caller's node and GPU; it is started if there is none yet.

    It is detached and bound to the node, not to the caller's placement group, with which it would die. It asks Ray for
    nothing: the trials that use it have asked for its share.
    """
    node = ray.get_runtime_context().get_node_id()
    gpus = ray.get_gpu_ids()
    environment = surroundings()
    if gpus:
        # Without a GPU of its own to ask for, the actor would see all of them, or none.
        environment |= {"CUDA_VISIBLE_DEVICES": str(gpus[0]), "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}
    place = f"gpu{gpus[0]}" if gpus else "cpu"
    actor = ray.remote(Trainer).options(
        name=f"{_prefix(study, launch)}{node}/{place}",
        namespace=NAMESPACE,
        lifetime="detached",
        get_if_exists=True,
        num_cpus=0,
        max_concurrency=1000,
        scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False),
        runtime_env={"env_vars": environment},
    )
    return actor.remote(store_uri, study, "cuda" if gpus else "cpu", dict(versions))


def start_trainer(store_uri: str, study: str, launch: int, versions: Mapping[str, str], device: str) -> Any:
    """A handle of a trainer on some node that has such a device; it is started if there is none yet."""
    needs = {"num_cpus": 0, "num_gpus": 1} if device == "cuda" else {"num_cpus": _A_LITTLE}
    place = ray.remote(**needs)(find_or_start)
    return ray.get(place.remote(store_uri, study, launch, versions))


def trainers_of(study: str, launch: int) -> list[Any]:
    """Handles of the trainers of a launch."""
    return _found(name for name in _names(study) if name.startswith(_prefix(study, launch)))


def end_trainers(study: str, but_those_of: int | None = None) -> None:
    """End the trainers of a study, those of one launch excepted. They outlive a driver that dies, with their memory."""
    spared = None if but_those_of is None else _prefix(study, but_those_of)
    for trainer in _found(name for name in _names(study) if spared is None or not name.startswith(spared)):
        trainer.end.remote()


def _names(study: str) -> list[str]:
    actors = ray.util.list_named_actors(all_namespaces=True)
    names = [actor["name"] for actor in actors if actor["namespace"] == NAMESPACE]
    return [name for name in names if name.startswith(_prefix(study))]


def _found(names: Iterable[str]) -> list[Any]:
    found = []
    for name in names:
        with contextlib.suppress(ValueError):  # died since it was listed
            found.append(ray.get_actor(name, namespace=NAMESPACE))
    return found
