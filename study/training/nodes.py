"""Nodes and named actors of a cluster: what trials request of nodes, and the detection of nodes that are reclaimed.

EC2 announces the loss of a spot instance two minutes ahead, in a metadata service that only this instance can query.
The instance then requests Ray to drain its node, so that Ray places no more work there. Nodes that other tools drain
(`ray drain-node`, an autoscaler) are detected through Ray.
"""

import hashlib
import json
import logging
import math
import os
import time
import urllib.error
import urllib.request
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ray
import yaml

from study.spec import Spec

if TYPE_CHECKING:
    from study.training.planning import DeviceType  # torch, which is not to be imported in the thread that watches

logger = logging.getLogger(__name__)

NAMESPACE = "marl-study"
"""Ray namespace of all actors."""

# Nodes and studies come and go, so a shared cluster is examined again after this long.
_REFRESH_INTERVAL_S = 5.0
# `ray up` leaves the cluster's configuration there, on the head node.
_CLUSTER_FILE = Path("~/ray_bootstrap_config.yaml")
# Prefix of the names of actors that register studies.
_PREFIX = "study/"
_METADATA_ENDPOINT = "http://169.254.169.254"
_METADATA_TIMEOUT_S = 1.0
_TOKEN_TTL_S = 21600
_POLL_S = 5.0
_DRAIN_PAUSES_S = (1.0, 2.0, 4.0)  # between attempts


@dataclass(frozen=True)
class Devices:
    """Devices of a cluster, including those that it can still get.

    Attributes:
        kind: `cuda` if the cluster has or can get a GPU; otherwise `cpu`, with each node one device.
        count: Number of devices.
        min_cpus: CPUs of the smallest node.
        min_memory_gib: Memory of the smallest node.
    """

    kind: "DeviceType"
    count: int
    min_cpus: float
    min_memory_gib: float = math.inf


def cluster_devices(nodes: Iterable[Mapping[str, Any]], cluster_file: Mapping[str, Any]) -> Devices:
    """Return the devices of a cluster.

    Args:
        nodes: Nodes as of `ray.nodes()`. A node that offers no CPU, such as some heads, is no device.
        cluster_file: Configuration of the cluster, as of `ray up`; empty without an autoscaler.
    """
    resources = [node["Resources"] for node in nodes if node["Alive"]]
    with_cpus = [on_node for on_node in resources if on_node.get("CPU", 0) > 0]
    cpus = [on_node["CPU"] for on_node in with_cpus]
    min_memory_gib = min((on_node.get("memory", math.inf) / 2**30 for on_node in with_cpus), default=math.inf)
    gpus = max(int(sum(on_node.get("GPU", 0) for on_node in resources)), _max_of_workers(cluster_file, "GPU"))
    min_cpus = min(cpus, default=1)
    if gpus:
        return Devices("cuda", gpus, min_cpus, min_memory_gib)
    return Devices("cpu", max(1, len(cpus), _max_of_workers(cluster_file)), min_cpus, min_memory_gib)


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
        lanes: Lanes of a stack.
        target: Number of trials that the study is to have.
        is_shared: Whether other studies may use this Ray.

    Attributes:
        trainers: Number of trainers on each device: one on a GPU, and several on a node without GPUs.
    """

    def __init__(self, store_uri: str, spec: Spec, lanes: int, target: int, is_shared: bool) -> None:
        self._spec, self._lanes, self._is_shared = spec, lanes, is_shared
        self._stacks = -(-target * spec.replicates // lanes)
        self._max_devices = spec.resources.devices
        if is_shared:
            self._registration = register_study(store_uri, spec.name)
        self._refresh()

    @property
    def device(self) -> "DeviceType":
        """Kind of the devices."""
        return self._devices.kind

    @property
    def description(self) -> str:
        """Trainers of a device, for users."""
        if self.device == "cuda":
            return "one trainer on each GPU"
        trainers = "one trainer" if self.trainers == 1 else f"{self.trainers} trainers of one thread"
        return f"{trainers} on {self._devices.min_cpus:g} CPUs"

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
        size = self._devices.min_cpus, self._devices.min_memory_gib
        self.trainers = 1 if self.device == "cuda" else self._spec.trainers(self._stacks, *size)
        self._trials_per_device = trials_per_device(self._spec, self._lanes * self.trainers)


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


def study_id(store_uri: str, study: str) -> str:
    """Return the identifier of a study in names of actors. It differs for studies of the same name in two stores."""
    return f"{hashlib.sha256(store_uri.encode()).hexdigest()[:16]}/{study}"


def actor_names(prefix: str) -> list[str]:
    """Return the names in `NAMESPACE` that begin with a prefix."""
    actors = ray.util.list_named_actors(all_namespaces=True)
    return [actor["name"] for actor in actors if actor["namespace"] == NAMESPACE and actor["name"].startswith(prefix)]


class _Registration:
    """An actor whose name registers a study with the cluster, for as long as its driver lives."""


def register_study(store_uri: str, study: str) -> Any:
    """Register a study with the cluster, and return a handle that keeps it registered."""
    registration = ray.remote(num_cpus=0)(_Registration)
    return registration.options(name=f"{_PREFIX}{study_id(store_uri, study)}", namespace=NAMESPACE).remote()


def registered_studies() -> list[str]:
    """Return the identifiers of the studies that share this cluster now."""
    return [name.removeprefix(_PREFIX) for name in actor_names(_PREFIX)]


class MetadataService:
    """Client of EC2's instance metadata service, version 2.

    The environment variable AWS_EC2_METADATA_SERVICE_ENDPOINT replaces its address. With AWS_EC2_METADATA_DISABLED set
    to `true` the service is not queried.
    """

    def __init__(self) -> None:
        self._endpoint = os.environ.get("AWS_EC2_METADATA_SERVICE_ENDPOINT", _METADATA_ENDPOINT).rstrip("/")
        self._token: str | None = None

    def is_available(self) -> bool:
        """Request a token, and return whether this machine is an EC2 instance."""
        if os.environ.get("AWS_EC2_METADATA_DISABLED", "").lower() == "true":
            return False
        ttl = {"X-aws-ec2-metadata-token-ttl-seconds": str(_TOKEN_TTL_S)}
        self._token = self._request("/latest/api/token", "PUT", ttl)
        return self._token is not None

    def preemption_time(self) -> datetime | None:
        """Return when this instance will be reclaimed, or None without an announcement."""
        token = {"X-aws-ec2-metadata-token": self._token or ""}
        response = self._request("/latest/meta-data/spot/instance-action", "GET", token)
        try:
            return datetime.fromisoformat(json.loads(response)["time"]) if response else None
        except (ValueError, KeyError, TypeError):  # not an announcement
            return None

    def _request(self, path: str, method: str, headers: dict[str, str]) -> str | None:
        request = urllib.request.Request(self._endpoint + path, method=method, headers=headers)  # noqa: S310  # http only
        try:
            with urllib.request.urlopen(request, timeout=_METADATA_TIMEOUT_S) as response:  # noqa: S310
                return str(response.read(10_000).decode())
        except urllib.error.HTTPError as error:
            if error.code == 401:  # the token has expired
                self.is_available()
            return None
        except (OSError, ValueError):
            return None


def wait_for_preemption(node_id: str) -> None:
    """Block until a node of Ray is about to be reclaimed.

    The calls into Ray are not part of its public interface. If one fails, the error is logged, and the watch continues.
    """
    service = MetadataService()
    is_ec2, is_failing = service.is_available(), False
    while True:
        try:
            if node_id in _draining_nodes():
                logger.warning("node %s is draining", node_id)
                return
            is_failing = False
        except Exception:
            if not is_failing:
                logger.exception("cannot list the draining nodes of Ray; retrying every %g s", _POLL_S)
            is_failing = True
        if is_ec2 and (reclaimed_at := service.preemption_time()) is not None:
            logger.warning("the spot instance of node %s will be reclaimed at %s", node_id, reclaimed_at)
            _drain(node_id, reclaimed_at)
            return
        time.sleep(_POLL_S)


def _drain(node_id: str, deadline: datetime) -> None:
    """Request Ray to drain a node. If Ray rejects all requests, only this process acts on the preemption."""
    for pause_s in (*_DRAIN_PAUSES_S, None):
        try:
            is_accepted, reason = _request_drain(node_id, deadline)
        except Exception as error:
            is_accepted, reason = False, repr(error)
        if is_accepted:
            logger.info("Ray drains node %s", node_id)
            return
        logger.warning("Ray rejects draining node %s: %s", node_id, reason)
        if pause_s:
            time.sleep(pause_s)


def _draining_nodes() -> dict[str, int]:
    nodes: dict[str, int] = ray._private.state.state.get_draining_nodes()
    return nodes


def _request_drain(node_id: str, deadline: datetime) -> tuple[bool, str]:
    """Send one drain request; return whether Ray accepts it, and why not."""
    from ray.core.generated import autoscaler_pb2  # private, so that a change of Ray affects nothing else

    context: Any = ray.get_runtime_context()
    gcs_client = ray._raylet.GcsClient(address=context.gcs_address)  # type: ignore[attr-defined]  # compiled
    reason: int = autoscaler_pb2.DRAIN_NODE_REASON_PREEMPTION  # type: ignore[attr-defined]  # generated
    deadline_ms = int(deadline.timestamp() * 1000)
    is_accepted, rejection = gcs_client.drain_node(node_id, reason, "the spot instance is reclaimed", deadline_ms)
    return is_accepted, rejection
