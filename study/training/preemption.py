"""Machines that are about to be taken away: how they hear of it, and how the rest of the cluster does.

A spot instance of EC2 learns two minutes before from its metadata service, which nobody but its own processes can ask.
It then tells Ray, which places nothing more there; what Ray was told of any node, by whomever, trainers find there.
"""

import json
import os
import time
import urllib.error
import urllib.request
from datetime import datetime
from typing import Any

import ray
from ray.core.generated import autoscaler_pb2

__all__ = ["MetadataService", "wait_until_leaving"]

_ENDPOINT = "http://169.254.169.254"
_TIMEOUT_S = 1.0
_TOKEN_LIVES_S = 21600
_LOOK_EVERY_S = 5.0


class MetadataService:
    """EC2's service of that name, version 2 of its protocol.

    It is found under AWS_EC2_METADATA_SERVICE_ENDPOINT if that is set, and not asked where AWS_EC2_METADATA_DISABLED is
    true: the usual variables.
    """

    def __init__(self) -> None:
        self._endpoint = os.environ.get("AWS_EC2_METADATA_SERVICE_ENDPOINT", _ENDPOINT).rstrip("/")
        self._token: str | None = None

    def is_there(self) -> bool:
        """Whether this is such an instance."""
        if os.environ.get("AWS_EC2_METADATA_DISABLED", "").lower() == "true":
            return False
        lifetime = {"X-aws-ec2-metadata-token-ttl-seconds": str(_TOKEN_LIVES_S)}
        self._token = self._ask("/latest/api/token", "PUT", lifetime)
        return self._token is not None

    def loss_at(self) -> datetime | None:
        """When this instance will be taken away; none when nothing was announced."""
        answer = self._ask(
            "/latest/meta-data/spot/instance-action", "GET", {"X-aws-ec2-metadata-token": self._token or ""}
        )
        try:
            return datetime.fromisoformat(json.loads(answer)["time"]) if answer else None
        except (ValueError, KeyError, TypeError):  # what it says is no announcement
            return None

    def _ask(self, path: str, method: str, headers: dict[str, str]) -> str | None:
        request = urllib.request.Request(self._endpoint + path, method=method, headers=headers)  # noqa: S310  # http alone
        try:
            with urllib.request.urlopen(request, timeout=_TIMEOUT_S) as response:  # noqa: S310
                return str(response.read(10_000).decode())
        except urllib.error.HTTPError as error:
            if error.code == 401:  # the token has expired
                self.is_there()
            return None
        except (OSError, ValueError):
            return None


def wait_until_leaving(node: str) -> None:
    """Return when this process's node is about to be taken away; if it is the first to hear of that, tell Ray.

    Args:
        node: its identifier.
    """
    service = MetadataService()
    is_told = service.is_there()
    while node not in ray._private.state.state.get_draining_nodes():
        if is_told and (at := service.loss_at()) is not None:
            _announce(node, at)
        else:
            time.sleep(_LOOK_EVERY_S)


def _announce(node: str, at: datetime) -> None:
    """Tell Ray that a node will be taken away; it places nothing more there."""
    context: Any = ray.get_runtime_context()
    ray_service = ray._raylet.GcsClient(address=context.gcs_address)  # type: ignore[attr-defined]  # compiled
    reason: int = autoscaler_pb2.DRAIN_NODE_REASON_PREEMPTION  # type: ignore[attr-defined]  # generated
    ray_service.drain_node(node, reason, "the spot instance is reclaimed", int(at.timestamp() * 1000))
