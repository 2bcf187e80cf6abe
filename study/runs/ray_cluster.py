"""Ray for one process: one of its own, started quietly and stopped without traces, or that of a cluster."""

import logging
import os
import re
import shlex
import shutil
import socket
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import ray

from study.errors import RunError, UserError
from study.training.client import NAMESPACE
from study.training.planning import device_type

__all__ = ["BEGUN", "LocalRay", "on_head", "ray_session", "submit"]

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


BEGUN = "run {run} of study {study}"
"""With this a run's log begins, as soon as the study is claimed."""

_HAS_BEGUN = re.compile(r"^run \d+ of study ", re.MULTILINE)
_ON_HEAD = "http://127.0.0.1:8265"
_POLL_S = 0.5
_OVER = ("SUCCEEDED", "FAILED", "STOPPED")


def submit(address: str, words: Sequence[str], file: Path | None, say: Callable[[str], None]) -> None:
    """Let a cluster carry a command out as a job; return when the study has begun there.

    Args:
        address: of the cluster's dashboard, `http://HOST:8265`.
        words: of the command, which is `marl-study …` there, too.
        file: which the words name by its last part, and which goes with them.
        say: is told what the job says meanwhile.

    Raises:
        UserError: when the cluster cannot be reached, or the command says that the words were wrong.
        RunError: when the job ends before the study has begun.
    """
    from ray.job_submission import JobSubmissionClient

    try:
        client = JobSubmissionClient(address)
    except (ConnectionError, RuntimeError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(f"--address: no cluster answers at {address}: {reason}") from None
    with tempfile.TemporaryDirectory(prefix="marl-job-") as folder:
        if file is not None:
            shutil.copy(file, folder)
        entrypoint = shlex.join(["marl-study", *words, "--address", "auto"])
        job = client.submit_job(entrypoint=entrypoint, runtime_env={"working_dir": folder} if file else None)
    say(f"job {job}: {entrypoint}")
    _wait_until_begun(client, job, say)


def on_head(cluster_file: Path, words: Sequence[str], file: Path | None) -> None:
    """Carry a command out on the head of a cluster, over SSH, which submits it there.

    Args:
        cluster_file: as `ray up` takes it.
        words: of the command.
        file: which the words name by its last part, and which goes with them.

    Raises:
        UserError: when there is no such file.
        RunError: when the head cannot be reached, or the command fails there.
    """
    from ray.autoscaler import sdk

    if not cluster_file.is_file():
        raise UserError(f"--cluster: there is no file {cluster_file}; it is the one that `ray up` took")
    command = shlex.join(["marl-study", *words, "--address", _ON_HEAD])
    where: Any = str(cluster_file)
    try:
        sdk.run_on_cluster(where, cmd="mkdir -p ~/marl-specs")
        if file is not None:
            sdk.rsync(where, source=str(file), target=f"~/marl-specs/{file.name}", down=False)
        sdk.run_on_cluster(where, cmd=f"cd ~/marl-specs && {command}")
    except (Exception, SystemExit) as error:  # Ray's own errors are of many kinds, and some leave the process
        raise RunError(
            f"the head of {cluster_file} was not reached, or refused; what it said stands above: {type(error).__name__}"
        ) from None


def _wait_until_begun(client: Any, job: str, say: Callable[[str], None]) -> None:
    said = 0
    while True:
        info = client.get_job_info(job)
        log = client.get_job_logs(job)
        lines = log.splitlines() if info.status in _OVER else log.splitlines()[: log.count("\n")]
        for line in lines[said:]:
            say(line)
        said = max(said, len(lines))
        if _HAS_BEGUN.search(log) or info.status == "SUCCEEDED":
            return
        if info.status in _OVER:
            if info.driver_exit_code == 2:
                raise UserError("the cluster refused the command; the reason stands above")
            raise RunError(f"job {job} ended before the study began: {info.message or info.status}")
        time.sleep(_POLL_S)
