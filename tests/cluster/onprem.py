"""The cluster of clusters/onprem.yaml on hosts of this machine, started and stopped by `ray up` and `ray down`."""

import contextlib
import os
import secrets
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.cluster.hosts import Hosts, hosts
from tests.study.commands import ROOT, TINY
from tests.study.s3_server import S3Server, s3_server

__all__ = ["Cluster", "cluster_on_hosts", "wait_until"]

BUCKET = "studies"
_PROGRAMS = Path(sys.executable).parent
_STARTED_S = 300
_ENDED_S = 300
_SIZE = "--memory=2000000000 --object-store-memory=100000000"  # else each node claims the memory of the whole machine

# One program polls: a program for each poll would slow the start of the nodes.
_NODES = """
import time
import ray
ray.init("auto", logging_level="ERROR", log_to_driver=False)
def alive():
    return [node["NodeManagerAddress"] for node in ray.nodes() if node["Alive"]]
until = time.monotonic() + 30
while len(alive()) < {wait_for} and time.monotonic() < until:
    time.sleep(0.5)
print("alive", *alive())
"""


@dataclass(frozen=True)
class Cluster:
    """A Ray cluster. Host 0 is the head without trainers; the others are workers of one processor each.

    Attributes:
        hosts: Machines of the cluster.
        file: Cluster file for `ray up`: clusters/onprem.yaml with the addresses of these hosts.
        token: Authentication token of Ray.
        s3: Server of the store, which hosts and this machine can reach.
        environment: Variables of a process on this machine that uses the store, such as `marl-study run … --cluster
            FILE`. Hosts have the same from `ray up`.
    """

    hosts: Hosts
    file: Path
    token: str
    s3: S3Server
    environment: dict[str, str]

    def up(self) -> None:
        """Run `ray up` and wait until all nodes are alive."""
        self.ray("up", "-y", self.file)
        self.wait_for_nodes(self.hosts.count)

    def down(self) -> None:
        """Run `ray down` and wait until no host has a process of Ray.

        Workers exit about two minutes after they lose the head.
        """
        self.ray("down", "-y", self.file)
        everywhere = range(self.hosts.count)
        wait_until(lambda: not any(self.hosts.processes(host) for host in everywhere), _ENDED_S, "Ray to end")

    def ray(self, *arguments: object, timeout_s: float = 300) -> str:
        """Return the output of the `ray` command on this machine, which is not part of the cluster."""
        done = subprocess.run(
            [_PROGRAMS / "ray", *map(str, arguments)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=timeout_s,
            env={**os.environ, **self.environment},
            check=False,
        )
        assert done.returncode == 0, f"ray {arguments}: {done.stdout[-4000:]}"
        return done.stdout

    def python(self, host: int, program: str, check: bool = True, timeout_s: float = 120) -> str:
        """Return the output of a Python program on a host, where `ray.init("auto")` finds the cluster."""
        self.hosts.write(host, "program.py", program)
        return self.hosts.shell(host, "python /tmp/program.py", check=check, timeout_s=timeout_s)

    def nodes(self, wait_for: int = 0) -> set[int]:
        """Return the hosts whose node is alive according to the head; none without a head.

        Args:
            wait_for: Number of nodes to wait for, for at most 30 s.
        """
        lines = self.python(0, _NODES.format(wait_for=wait_for), check=False).splitlines()
        line = next((line for line in lines if "alive" in line), "")
        return {host for host in range(self.hosts.count) if self.hosts.address(host) in line.split()}

    def wait_for_nodes(self, count: int, timeout_s: float = _STARTED_S) -> None:
        """Return when `count` nodes are alive, including the head."""
        wait_until(lambda: len(self.nodes(wait_for=count)) == count, timeout_s, f"{count} nodes")


@contextlib.contextmanager
def cluster_on_hosts(folder: Path, workers: int = 2) -> Iterator[Cluster]:
    """Create hosts, a store and a cluster file. `up` starts Ray on them.

    Args:
        folder: Empty folder for the files of this machine.
        workers: Number of hosts besides the head.
    """
    with hosts(1 + workers) as made, s3_server(folder / "s3", BUCKET, made.machine) as s3:
        token = secrets.token_hex(32)
        environment = {
            **s3.environment,
            "MARL_STORE": f"s3://{BUCKET}",
            "PATH": f"{_PROGRAMS}:{os.environ['PATH']}",
            "RAY_USAGE_STATS_ENABLED": "0",
        }
        file = folder / "onprem.yaml"
        file.write_text(yaml.safe_dump(_cluster_file(made, folder, token, s3), sort_keys=False))
        try:
            yield Cluster(made, file, token, s3, environment)
        finally:
            for left in Path("/tmp/ray").glob(f"cluster-{made.name}.*"):  # the client's records of this cluster
                left.unlink()


def wait_until(happened: Callable[[], bool], timeout_s: float, what: str) -> None:
    """Return when the condition holds.

    Raises:
        AssertionError: If it does not hold in time.
    """
    deadline = time.monotonic() + timeout_s
    while not happened():
        assert time.monotonic() < deadline, f"waited {timeout_s:.0f} s for {what}"
        time.sleep(1)


def _cluster_file(made: Hosts, folder: Path, token: str, s3: S3Server) -> dict[str, Any]:
    """Return the shipped cluster file with addresses, paths and sizes of these hosts."""
    text = (ROOT / "clusters/onprem.yaml").read_text()
    for old, new in {
        # The hosts share this machine's environment, so nothing is installed.
        "make -C ~/marl-study PYTHON=python3 VENV=$HOME/venv $HOME/venv/.installed": f"test -x {_PROGRAMS}/marl-study",
        "$HOME/venv/bin": str(_PROGRAMS),
        "marl-study compile tradeoff": "marl-study compile ~/marl-study/tradeoff.yaml",
        "http://192.168.1.2:9000": s3.endpoint,
        "s3://studies": f"s3://{BUCKET} AWS_DEFAULT_REGION={s3.environment['AWS_DEFAULT_REGION']}",
        "--num-gpus=0": f"--num-gpus=0 {_SIZE}",
        "--address=$RAY_HEAD_IP:6379": f"--address=$RAY_HEAD_IP:6379 --num-cpus=1 --num-gpus=0 {_SIZE}",
    }.items():
        assert old in text, f"clusters/onprem.yaml no longer has {old}"
        text = text.replace(old, new)
    config: dict[str, Any] = yaml.safe_load(text)
    workers = [made.address(host) for host in range(1, made.count)]
    config["cluster_name"] = made.name
    config["provider"].update(head_ip=made.address(0), worker_ips=workers)
    config["auth"].update(ssh_user="root", ssh_private_key=str(made.key))
    config["file_mounts"] = dict(zip(config["file_mounts"], _mounts(folder, token, s3), strict=True))
    return config


def _mounts(folder: Path, token: str, s3: S3Server) -> list[str]:
    """Write the files for every host: parts of the project, the token, and the keys of the store."""
    project = folder / "project"
    for name, content in {
        "tradeoff.yaml": yaml.safe_dump(TINY),
        ".git/config": "not for others",
        ".gitignore": ".venv/\n",
        ".venv/large": "",
    }.items():
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        (project / name).write_text(content)
    credentials = "\n".join(f"{name.lower()} = {s3.environment[name]}" for name in _KEYS)
    secret = {folder / "auth_token": token, folder / "credentials": f"[default]\n{credentials}\n"}
    for path, content in secret.items():
        path.touch(mode=0o600)
        path.write_text(content)
    return [str(project), *map(str, secret)]


_KEYS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
