"""Where the trainers of a launch are: found by name, started where there is none."""

from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from study.surroundings import surroundings
from study.trainer import Trainer

__all__ = ["NAMESPACE", "find_or_start", "start_trainer", "trainers_of"]

NAMESPACE = "marl-study"


def _prefix(study: str, launch: int) -> str:
    """What the names of a launch's trainers begin with."""
    return f"trainer/{study}/{launch}/"


def find_or_start(store_uri: str, study: str, launch: int) -> Any:
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
    return actor.remote(store_uri, study, "cuda" if gpus else "cpu")


def start_trainer(store_uri: str, study: str, launch: int, device: str) -> Any:
    """A handle of a trainer on some node that has such a device; it is started if there is none yet."""
    place = ray.remote(num_cpus=0, num_gpus=1 if device == "cuda" else 0)(find_or_start)
    return ray.get(place.remote(store_uri, study, launch))


def trainers_of(study: str, launch: int) -> list[Any]:
    """Handles of the trainers of a launch."""
    prefix = _prefix(study, launch)
    found = []
    for actor in ray.util.list_named_actors(all_namespaces=True):
        if actor["namespace"] == NAMESPACE and actor["name"].startswith(prefix):
            try:
                found.append(ray.get_actor(actor["name"], namespace=NAMESPACE))
            except ValueError:  # died since it was listed
                continue
    return found
