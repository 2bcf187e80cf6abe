"""Detection of preemption: this machine is about to be reclaimed.

EC2 announces the loss of a spot instance two minutes ahead, in a metadata service that only this instance can query.
The instance then requests Ray to drain its node, so that Ray places no more work there. Nodes that other tools drain
(`ray drain-node`, an autoscaler) are detected through Ray.
"""

import json
import logging
import os
import time
import urllib.error
import urllib.request
from datetime import datetime
from typing import Any

import ray
from ray.core.generated import autoscaler_pb2

__all__ = ["MetadataService", "wait_for_preemption"]

logger = logging.getLogger(__name__)

_ENDPOINT = "http://169.254.169.254"
_TIMEOUT_S = 1.0
_TOKEN_TTL_S = 21600
_POLL_S = 5.0
_DRAIN_PAUSES_S = (1.0, 2.0, 4.0)  # between attempts


class MetadataService:
    """Client of EC2's instance metadata service, version 2.

    The environment variable AWS_EC2_METADATA_SERVICE_ENDPOINT replaces its address. With AWS_EC2_METADATA_DISABLED set
    to `true` the service is not queried.
    """

    def __init__(self) -> None:
        self._endpoint = os.environ.get("AWS_EC2_METADATA_SERVICE_ENDPOINT", _ENDPOINT).rstrip("/")
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
            with urllib.request.urlopen(request, timeout=_TIMEOUT_S) as response:  # noqa: S310
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
    context: Any = ray.get_runtime_context()
    gcs_client = ray._raylet.GcsClient(address=context.gcs_address)  # type: ignore[attr-defined]  # compiled
    reason: int = autoscaler_pb2.DRAIN_NODE_REASON_PREEMPTION  # type: ignore[attr-defined]  # generated
    deadline_ms = int(deadline.timestamp() * 1000)
    is_accepted, rejection = gcs_client.drain_node(node_id, reason, "the spot instance is reclaimed", deadline_ms)
    return is_accepted, rejection
