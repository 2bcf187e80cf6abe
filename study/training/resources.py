"""Resources of a study on a cluster: its devices, the number of concurrent trials, and the request of each trial."""

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

# Nodes and studies come and go, so a shared cluster is examined again after this long.
_REFRESH_INTERVAL_S = 5.0
# `ray up` leaves the cluster's configuration there, on the head node.
_CLUSTER_FILE = Path("~/ray_bootstrap_config.yaml")
# Prefix of the names of actors that register studies.
_PREFIX = "study/"


@dataclass(frozen=True)
class Devices:
    """Devices of a cluster, including those that it can still get.

    Attributes:
        kind: `cuda` if the cluster has or can get a GPU; otherwise `cpu`, with each node one device.
        count: Number of devices.
        min_cpus: CPUs of the smallest node. A trainer uses all CPUs of its node.
    """

    kind: DeviceType
    count: int
    min_cpus: float


def cluster_devices(nodes: Iterable[Mapping[str, Any]], cluster_file: Mapping[str, Any]) -> Devices:
    """Return the devices of a cluster.

    Args:
        nodes: Nodes as of `ray.nodes()`. A node that offers no CPU, such as some heads, is no device.
        cluster_file: Configuration of the cluster, as of `ray up`; empty without an autoscaler.
    """
    resources = [node["Resources"] for node in nodes if node["Alive"]]
    cpus = [on_node["CPU"] for on_node in resources if on_node.get("CPU", 0) > 0]
    gpus = max(int(sum(on_node.get("GPU", 0) for on_node in resources)), _max_of_workers(cluster_file, "GPU"))
    min_cpus = min(cpus, default=1)
    if gpus:
        return Devices("cuda", gpus, min_cpus)
    return Devices("cpu", max(1, len(cpus), _max_of_workers(cluster_file)), min_cpus)


def trials_per_device(spec: Spec, lanes: int) -> int:
    """Return the number of trials that fill the lanes of a device, plus some that queue, so that no lane stays free.

    Under halving most trials train a single replicate.
    """
    training = lanes if spec.halving else -(-lanes // spec.replicates)
    return training + max(1, training // 8)


class ResourcePlan:
    """Resources of a study's trials on a cluster that may grow, and that other studies may use.

    Nodes that the autoscaler can still add are included: trials that are pending make the cluster grow. Studies of one
    cluster receive equal shares. A new study receives its share as trials of the others end.

    Args:
        is_shared: Whether other studies may use this Ray.
    """

    def __init__(self, store_uri: str, spec: Spec, lanes: int, is_shared: bool) -> None:
        self._trials_per_device, self._is_shared = trials_per_device(spec, lanes), is_shared
        self._max_devices = spec.resources.devices
        if is_shared:
            self._registration = register_study(store_uri, spec.name)
        self._refresh()

    @property
    def device(self) -> DeviceType:
        """Kind of the devices."""
        return self._devices.kind

    @property
    def trial_resources(self) -> dict[str, float]:
        """Request of one trial to Ray: an equal share of a GPU, or of the CPUs of a node."""
        on_gpu = self._devices.kind == "cuda"
        share = (1 if on_gpu else self._devices.min_cpus) / self._trials_per_device
        share = int(share * 10_000) / 10_000  # Ray counts in ten-thousandths
        return {"cpu": 0, "gpu": share} if on_gpu else {"cpu": share}

    def max_trials(self) -> int:
        """Return the maximum number of concurrent trials."""
        if self._is_shared and time.monotonic() - self._refreshed > _REFRESH_INTERVAL_S:
            self._refresh()
        devices = self._devices.count if self._max_devices == "auto" else min(self._max_devices, self._devices.count)
        return max(1, devices * self._trials_per_device // self._studies)

    def _refresh(self) -> None:
        self._refreshed = time.monotonic()
        nodes = ray.nodes()  # type: ignore[no-untyped-call]
        self._devices = cluster_devices(nodes, _read_cluster_file() if self._is_shared else {})
        self._studies = max(1, len(registered_studies())) if self._is_shared else 1


def _max_of_workers(cluster_file: Mapping[str, Any], resource: str | None = None) -> int:
    """Return how much of a resource all workers of a cluster can have together; without a resource, how many nodes."""
    max_workers: int = cluster_file.get("max_workers", 0)
    types, head = cluster_file.get("available_node_types", {}), cluster_file.get("head_node_type")
    workers = [node_type for name, node_type in types.items() if name != head or node_type.get("max_workers", 0)]
    per_node = [int(worker.get("resources", {}).get(resource, 0)) if resource else 1 for worker in workers]
    nodes = [min(int(worker.get("max_workers", max_workers)), max_workers) for worker in workers]
    total = sum(amount * count for amount, count in zip(per_node, nodes, strict=True))
    return min(total, max_workers * max(per_node, default=0))


def _read_cluster_file() -> dict[str, Any]:
    try:
        content = yaml.safe_load(_CLUSTER_FILE.expanduser().read_text())
    except (OSError, yaml.YAMLError):
        return {}
    return content if isinstance(content, dict) else {}


class _Registration:
    """An actor whose name registers a study with the cluster, for as long as its driver lives."""


def register_study(store_uri: str, study: str) -> Any:
    """Register a study with the cluster, and return a handle that keeps it registered."""
    registration = ray.remote(num_cpus=0)(_Registration)
    return registration.options(name=f"{_PREFIX}{study_id(store_uri, study)}", namespace=NAMESPACE).remote()


def registered_studies() -> list[str]:
    """Return the identifiers of the studies that share this cluster now."""
    return [name.removeprefix(_PREFIX) for name in actor_names(_PREFIX)]
