"""Ray for one process: one of its own, started quietly and stopped without traces, or that of a cluster."""

import logging
import os
import socket
import tempfile
from contextlib import AbstractContextManager

import ray

from study.errors import RunError
from study.training.client import NAMESPACE
from study.training.planning import device_type

__all__ = ["LocalRay", "ray_session"]

_CONNECTS_WITHIN_S = 10.0
_OBJECT_STORE_BYTES = 100 * 1024**2
_SURROUNDINGS = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_DEDUP_LOGS": "1",
    # The store is what a study is resumed from, so Tune writes neither logs nor state of its own.
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_GLOBAL_CHECKPOINT_S": "1000000000",
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    # How many trials are asked for is the searcher's to say; so many may wait for a place, or a cluster would grow node
    # by node.
    "TUNE_MAX_PENDING_TRIALS_PG": "10000",
    "RAY_AIR_NEW_OUTPUT": "0",
    # Threads of a step wait for each other. At Ray's low priority, 15, one busy program beside it makes them wait for
    # most of the time: a study then trains at a twentieth of its speed.
    "RAY_worker_niceness": "0",
}


def ray_session(address: str | None) -> AbstractContextManager[None]:
    """Ray, within the context.

    Args:
        address: none for one on this machine alone; else of a cluster's head, HOST:PORT, or `auto` on the head itself.
    """
    return LocalRay() if address is None else _ClusterRay(address)


class LocalRay(AbstractContextManager[None]):
    """A Ray of this process alone: started quietly, stopped without traces."""

    def __enter__(self) -> None:
        _be_quiet()
        # Sockets in this folder have names of limited length, so it is not put below a long one.
        self._folder = tempfile.TemporaryDirectory(prefix="marl-", dir="/tmp", ignore_cleanup_errors=True)
        try:
            ray.init(
                address="local",
                namespace=NAMESPACE,
                include_dashboard=False,
                log_to_driver=False,
                logging_level=logging.CRITICAL,
                object_store_memory=_OBJECT_STORE_BYTES,
                num_gpus=None if device_type() == "cuda" else 0,
                _temp_dir=self._folder.name,
            )
        except Exception as error:
            self._folder.cleanup()
            raise RunError(f"Ray could not be started on this machine: {error}") from error

    def __exit__(self, *_: object) -> None:
        ray.shutdown()
        self._folder.cleanup()


class _ClusterRay(AbstractContextManager[None]):
    """The Ray of a cluster, which goes on without this process."""

    def __init__(self, address: str) -> None:
        self._address = address

    def __enter__(self) -> None:
        _be_quiet()
        try:
            if self._address != "auto":  # Ray would go on trying for ten minutes
                host, _, port = self._address.rpartition(":")
                socket.create_connection((host, int(port)), _CONNECTS_WITHIN_S).close()
            ray.init(address=self._address, namespace=NAMESPACE, log_to_driver=False, logging_level=logging.CRITICAL)
        except Exception as error:
            raise RunError(
                f"no cluster answers at {self._address}: {str(error).strip().splitlines()[0]}; on its head the address "
                "is `auto`, from elsewhere a study is launched by --cluster FILE, and one that asks for a token needs "
                "RAY_AUTH_MODE=token here, too"
            ) from error

    def __exit__(self, *_: object) -> None:
        ray.shutdown()


def _be_quiet() -> None:
    for name, value in _SURROUNDINGS.items():
        os.environ.setdefault(name, value)
    for name in ("ray", "ray.tune", "ray.train"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
