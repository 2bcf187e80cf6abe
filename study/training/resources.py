"""Where the trials of a study have a place: on which devices, how many at once, and what part of one each asks for."""

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
import yaml

from study.spec import Spec
from study.training.client import NAMESPACE, actor_names, study_id
from study.training.planning import DeviceType

__all__ = ["Devices", "ResourcePlan", "cluster_devices", "register_study", "registered_studies", "trials_per_device"]

# Of a cluster that grows and shrinks, and of studies that come and go.
_LOOK_EVERY_S = 5.0
# Where `ray up` leaves the cluster's file on its head.
_CLUSTER_FILE = Path("~/ray_bootstrap_config.yaml")


@dataclass(frozen=True)
class Devices:
    """What a cluster trains on.

    Attributes:
        kind: GPUs where it has any, or can get any; else the processors of its nodes, each node one device.
        count: how many it has, or can have.
        processors: of the node that has fewest; each node trains on all of its own.
    """

    kind: DeviceType
    count: int
    processors: float


def cluster_devices(nodes: Iterable[Mapping[str, Any]], cluster_file: Mapping[str, Any]) -> Devices:
    """The devices of a cluster, those that it could get among them.

    Args:
        nodes: as `ray.nodes()`. One that offers no processor, as a head may, trains nothing.
        cluster_file: as `ray up` takes it; empty where there is none.
    """
    resources = [node["Resources"] for node in nodes if node["Alive"]]
    processors = [here["CPU"] for here in resources if here.get("CPU", 0) > 0]
    gpus = max(int(sum(here.get("GPU", 0) for here in resources)), _could_be("GPU", cluster_file))
    if gpus:
        return Devices("cuda", gpus, min(processors, default=1))
    return Devices("cpu", max(1, len(processors), _could_be(None, cluster_file)), min(processors, default=1))


def trials_per_device(spec: Spec, lanes: int) -> int:
    """As many trials as fill the lanes, and some that wait in line there, so that a free lane is taken at once.

    Under halving most trials are one replicate that climbs.
    """
    training = lanes if spec.halving else -(-lanes // spec.replicates)
    return training + max(1, training // 8)


class ResourcePlan:
    """How many trials of a study may be there at once, on a cluster that grows and is shared.

    Enough are kept pending that the cluster grows to its full size at once. Studies that run beside each other get
    equal parts: one that comes later has its part as soon as enough trials of the others are over.

    Args:
        store_uri: Address of the store.
        spec: of the study.
        lanes: of a stack.
        is_shared: whether others may use this Ray, too.
    """

    def __init__(self, store_uri: str, spec: Spec, lanes: int, is_shared: bool) -> None:
        self._trials_per_device = trials_per_device(spec, lanes)
        self._is_shared = is_shared
        self._most = spec.resources.devices
        self._looked = float("-inf")
        if is_shared:
            self._registration = register_study(store_uri, spec.name)
        self._look()

    @property
    def device(self) -> DeviceType:
        """What trainers use."""
        return self._devices.kind

    @property
    def trial_resources(self) -> dict[str, float]:
        """What a trial asks Ray for: so much of a GPU, or of a node's processors, that so many have a place there."""
        if self._devices.kind == "cuda":
            return {"cpu": 0, "gpu": _rounded_down(1 / self._trials_per_device)}
        return {"cpu": _rounded_down(self._devices.processors / self._trials_per_device)}

    def max_trials(self) -> int:
        """Trials that may be there now."""
        if self._is_shared and time.monotonic() - self._looked > _LOOK_EVERY_S:
            self._look()
        devices = self._devices.count if self._most == "auto" else min(self._most, self._devices.count)
        return max(1, devices * self._trials_per_device // self._studies)

    def _look(self) -> None:
        self._looked = time.monotonic()
        nodes = ray.nodes()  # type: ignore[no-untyped-call]
        self._devices = cluster_devices(nodes, _read_cluster_file() if self._is_shared else {})
        self._studies = max(1, len(registered_studies())) if self._is_shared else 1


def _could_be(resource: str | None, cluster_file: Mapping[str, Any]) -> int:
    """How many of a resource, or of nodes, workers of all types can bring."""
    types = cluster_file.get("available_node_types", {})
    most: int = cluster_file.get("max_workers", 0)
    found = most_each = 0
    for name, node_type in types.items():
        if name == cluster_file.get("head_node_type") and node_type.get("max_workers", 0) == 0:
            continue
        each = 1 if resource is None else int(node_type.get("resources", {}).get(resource, 0))
        found += each * min(int(node_type.get("max_workers", most)), most)
        most_each = max(most_each, each)
    return min(found, most * most_each)


def _read_cluster_file() -> dict[str, Any]:
    try:
        found = yaml.safe_load(_CLUSTER_FILE.expanduser().read_text())
    except (OSError, yaml.YAMLError):
        return {}
    return found if isinstance(found, dict) else {}


def _rounded_down(share: float) -> float:
    return int(share * 10_000) / 10_000  # Ray counts in ten-thousandths


_PREFIX = "study/"


class _Registration:
    """An actor whose name registers a study with the cluster, for as long as its driver lives."""


def register_study(store_uri: str, study: str) -> Any:
    """Register a study with the cluster, and return a handle that keeps it registered."""
    registration = ray.remote(num_cpus=0)(_Registration)
    return registration.options(name=f"{_PREFIX}{study_id(store_uri, study)}", namespace=NAMESPACE).remote()


def registered_studies() -> list[str]:
    """Return the identifiers of the studies that share this cluster now."""
    return [name.removeprefix(_PREFIX) for name in actor_names(_PREFIX)]
