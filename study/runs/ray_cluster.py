"""Ray for this process, on this machine alone or on a cluster, and submission of commands to a cluster."""

import logging
import os
import re
import shlex
import shutil
import socket
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import ray

from marl.registry import uninstalled_plugins
from study.datasets.shared_memory import remove_unused_files
from study.errors import RunError, UserError, option
from study.extras import check_extra
from study.training.nodes import NAMESPACE
from study.training.planning import device_type

RUN_STARTED = "run {run} of study {study}"
"""Start of the first line of a run, logged when the run has acquired the lease."""

_CONNECT_TIMEOUT_S = 10.0
# Ray kills trainers, which may not have removed what they share in memory.
_END_TIMEOUT_S = 2.0
_OBJECT_STORE_BYTES = 100 * 1024**2
_RAY_ENV = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_DEDUP_LOGS": "1",
    # A study resumes from the store, so Tune writes no logs and no state.
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_GLOBAL_CHECKPOINT_S": "1000000000",
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    # The searcher limits the number of trials. With a low limit here, a cluster would grow node by node.
    "TUNE_MAX_PENDING_TRIALS_PG": "10000",
    "RAY_AIR_NEW_OUTPUT": "0",
    # Threads of a step wait for each other. At Ray's default niceness, 15, one busy program on the machine delays them
    # so often that a study trains at a twentieth of its speed.
    "RAY_worker_niceness": "0",
}
_STARTED = re.compile(r"^run \d+ of study ", re.MULTILINE)
_HEAD_DASHBOARD = "http://127.0.0.1:8265"
_POLL_S = 0.5


def ray_session(address: str | None) -> AbstractContextManager[Any]:
    """Return a context in which this process is connected to Ray.

    Args:
        address: HOST:PORT of a cluster's head node, or `auto` on the head node; None starts Ray on this machine.
    """
    return local_ray() if address is None else _cluster_ray(address)


@contextmanager
def local_ray() -> Iterator[str]:
    """Start Ray on this machine for this process, and yield its temporary folder, which is deleted at the end."""
    configure_ray()
    # Names of sockets in this folder are limited in length, so the path must be short.
    with tempfile.TemporaryDirectory(prefix="marl-", dir="/tmp", ignore_cleanup_errors=True) as folder:
        try:
            ray.init(
                address="local",
                namespace=NAMESPACE,
                include_dashboard=False,
                log_to_driver=False,
                logging_level=logging.CRITICAL,
                object_store_memory=_OBJECT_STORE_BYTES,
                num_gpus=None if device_type() == "cuda" else 0,
                _temp_dir=folder,
                runtime_env=plugin_env(),
            )
        except Exception as error:
            raise RunError(f"Ray could not be started on this machine: {error}") from error
        try:
            yield folder
        finally:
            ray.shutdown()
            remove_unused_files(_END_TIMEOUT_S)


@contextmanager
def _cluster_ray(address: str) -> Iterator[None]:
    """Connect to a cluster, which continues to run when this process disconnects."""
    configure_ray()
    try:
        if address != "auto":  # ray.init would retry for ten minutes
            host, _, port = address.rpartition(":")
            socket.create_connection((host, int(port)), _CONNECT_TIMEOUT_S).close()
        ray.init(
            address=address,
            namespace=NAMESPACE,
            log_to_driver=False,
            logging_level=logging.CRITICAL,
            runtime_env=plugin_env(),
        )
    except Exception as error:
        raise RunError(
            f"no cluster answers at {address}: {str(error).strip().splitlines()[0]}; on its head node the address is "
            f"`auto`, elsewhere use {option('cluster')} with the file of `ray up`; for a cluster that requires a token "
            "set RAY_AUTH_MODE=token here"
        ) from error
    try:
        yield
    finally:
        ray.shutdown()


def plugin_env() -> dict[str, Any] | None:
    """Return the runtime environment that sends loaded plug-ins to all processes; None if all of them are installed."""
    files = [str(path) for path in uninstalled_plugins()]
    return {"py_modules": files} if files else None


def configure_ray() -> None:
    """Set Ray's environment variables, except those that the user has set, and silence its loggers."""
    for name, value in _RAY_ENV.items():
        os.environ.setdefault(name, value)
    for name in ("ray", "ray.tune", "ray.train"):
        logging.getLogger(name).setLevel(logging.CRITICAL)


def submit_job(address: str, arguments: Sequence[str], files: Sequence[Path], log: Callable[[str], None]) -> None:
    """Run `marl-study` on a cluster as a Ray job, and return when the study has started there.

    Args:
        address: Address of the cluster's dashboard, `http://HOST:8265`.
        arguments: Arguments of the command, without `--address`. They contain names of files without their folders.
        files: Files and packages to copy to the working directory of the job: the spec and its plug-ins.
        log: Receives the lines of the job until the study has started.

    Raises:
        UserError: If the cluster cannot be reached, the extra `cluster` is not installed, or the command rejects its
            arguments.
        RunError: If the job ends before the study has started.
    """
    check_extra("cluster", "--address")
    from ray.job_submission import JobSubmissionClient

    try:
        client = JobSubmissionClient(address)
    except (ConnectionError, RuntimeError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(f"{option('address')}: no cluster answers at {address}: {reason}") from None
    with tempfile.TemporaryDirectory(prefix="marl-job-") as folder:
        for file in files:
            if file.is_dir():
                shutil.copytree(file, Path(folder) / file.name, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(file, folder)
        entrypoint = shlex.join(["marl-study", *arguments, "--address", "auto"])
        job = client.submit_job(entrypoint=entrypoint, runtime_env={"working_dir": folder} if files else None)
    log(f"job {job}: {entrypoint}")
    logged = 0
    while True:
        info = client.get_job_info(job)
        output = client.get_job_logs(job)
        has_ended = info.status in ("SUCCEEDED", "FAILED", "STOPPED")
        lines = output.splitlines() if has_ended else output.splitlines()[: output.count("\n")]
        for line in lines[logged:]:
            log(line)
        logged = max(logged, len(lines))
        if _STARTED.search(output) or info.status == "SUCCEEDED":
            return
        if has_ended and info.driver_exit_code == 2:
            raise UserError("the cluster rejected the command; the reason is printed above")
        if has_ended:
            raise RunError(f"job {job} ended before the study started: {info.message or info.status}")
        time.sleep(_POLL_S)


def run_on_head(cluster_file: Path, arguments: Sequence[str], files: Sequence[Path]) -> None:
    """Run `marl-study` on the head node of the cluster of a `ray up` file, over SSH. There it submits itself as a job.

    The files, a spec and its plug-ins, are copied to the head node.

    Raises:
        UserError: If there is no such cluster file, or the extra `cluster` is not installed.
        RunError: If the head node cannot be reached, or the command fails there.
    """
    check_extra("cluster", "--cluster")
    from ray.autoscaler import sdk

    if not cluster_file.is_file():
        raise UserError(f"{option('cluster')}: must be the cluster file of `ray up`; there is no file {cluster_file}")
    command = shlex.join(["marl-study", *arguments, "--address", _HEAD_DASHBOARD])
    cluster: Any = str(cluster_file)
    try:
        sdk.run_on_cluster(cluster, cmd="mkdir -p ~/marl-specs")
        for file in files:
            slash = "/" if file.is_dir() else ""
            sdk.rsync(cluster, source=f"{file}{slash}", target=f"~/marl-specs/{file.name}{slash}", down=False)
        sdk.run_on_cluster(cluster, cmd=f"cd ~/marl-specs && {command}")
    except (Exception, SystemExit) as error:  # Ray raises errors of many types, and sometimes exits
        reason = "could not be reached, or the command failed there; its output is above"
        raise RunError(f"the head node of {cluster_file} {reason}: {type(error).__name__}") from None
