"""Ray for one process: on this machine alone, started quietly and stopped without traces."""

import logging
import os
import tempfile

import ray

from study.errors import RunError
from study.trainers import NAMESPACE

__all__ = ["LocalRay"]

_OBJECT_STORE_BYTES = 100 * 1024**2
_SURROUNDINGS = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_DEDUP_LOGS": "1",
    # The store is what a study is resumed from, so Tune writes neither logs nor state of its own.
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_GLOBAL_CHECKPOINT_S": "1000000000",
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "RAY_AIR_NEW_OUTPUT": "0",
    # Threads of a step wait for each other. At Ray's low priority, 15, one busy program beside it makes them wait for
    # most of the time: a study then trains at a twentieth of its speed.
    "RAY_worker_niceness": "0",
}


class LocalRay:
    """A Ray of this process alone: started quietly, stopped without traces."""

    def __enter__(self) -> None:
        for name, value in _SURROUNDINGS.items():
            os.environ.setdefault(name, value)
        for name in ("ray", "ray.tune", "ray.train"):
            logging.getLogger(name).setLevel(logging.CRITICAL)
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
                _temp_dir=self._folder.name,
            )
        except Exception as error:
            self._folder.cleanup()
            raise RunError(f"Ray could not be started on this machine: {error}") from error

    def __exit__(self, *_: object) -> None:
        ray.shutdown()
        self._folder.cleanup()
