"""Launching a study on a cluster from elsewhere: as a Ray Job, which needs nobody's terminal to stay open."""

import re
import shlex
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from study.errors import RunError, UserError

__all__ = ["BEGUN", "on_head", "submit"]

BEGUN = "launch {launch} of study {study}"
"""With this a launch's log begins, as soon as the study is claimed."""

_HAS_BEGUN = re.compile(r"^launch \d+ of study ", re.MULTILINE)
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
