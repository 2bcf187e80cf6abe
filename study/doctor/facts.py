"""Which ports of Ray other machines can reach, and whether they ask for a token.

Whoever reaches Ray may run any code. Its processes are told by their names, and where they belong to another user by
the ports that Ray uses when it is told of no others.
"""

import ipaddress
import os
import re
import socket
import subprocess
import tempfile
from importlib.metadata import distributions
from pathlib import Path
from shutil import disk_usage

import psutil
from pydantic import BaseModel

from study.process_env import available_cpus, surroundings
from study.provenance import processor, versions

__all__ = ["Disk", "Facts", "Gpu", "Listener", "facts_here", "listeners", "packages_here"]

_PORTS = {6379: "GCS", 8265: "dashboard", 10001: "client server", 52365: "dashboard agent"}
# The programs of Ray by path, its modules by name, its workers and agents by the title that they give themselves.
_RAY = re.compile(r"(?:/ray/(?:\S*/)?|-m (?=ray\.)|^(?=ray::))(?P<name>\S+)")
_TOLD_BY = 4  # words of a command line; the rest are its options


class Listener(BaseModel, frozen=True):
    """A port that other machines can reach.

    Attributes:
        port: its number.
        process: what listens there.
        asks_for_token: whether Ray's token authentication is on in that process.
    """

    port: int
    process: str
    asks_for_token: bool


def listeners() -> list[Listener]:
    """Ports of Ray on this machine that listen on more than the loopback interface, in order."""
    found = {}
    for connection in psutil.net_connections("tcp"):
        if connection.status != psutil.CONN_LISTEN or not connection.laddr or _is_loopback(connection.laddr.ip):
            continue
        name, is_ray, asks = _process(connection.pid)
        port = connection.laddr.port
        if is_ray or port in _PORTS:
            found[port] = Listener(port=port, process=name or _PORTS[port], asks_for_token=asks)
    return [found[port] for port in sorted(found)]


def _is_loopback(host: str) -> bool:
    address = ipaddress.ip_address(host.partition("%")[0])
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return (mapped or address).is_loopback


def _process(pid: int | None) -> tuple[str, bool, bool]:
    """Name of a process, whether it is one of Ray's, and whether it asks for a token; of others' little is known."""
    try:
        if pid is None:
            return "", False, False
        process = psutil.Process(pid)
        # Ray's agents write their title over their environment; it is that of the raylet which started them.
        family = [one for one in (process, *process.parents()) if _name_in_ray(one)]
        asks = any(one.environ().get("RAY_AUTH_MODE", "").lower() == "token" for one in family)
        return _name_in_ray(process) or process.name(), process in family, asks
    except psutil.Error:
        return "", False, False


def _name_in_ray(process: psutil.Process) -> str:
    """As what a process serves Ray; empty for others."""
    found = _RAY.search(" ".join(process.cmdline()[:_TOLD_BY]))
    return found["name"].removesuffix(".py") if found else ""


_QUERY = "name,memory.total,memory.used,driver_version"
_MEBIBYTE = 1024**2


class Gpu(BaseModel, frozen=True):
    """A GPU as its driver names it; sizes in bytes."""

    name: str
    memory: int
    used: int
    driver: str


class Disk(BaseModel, frozen=True):
    """A folder that is written to, and the bytes of the disk that it lies on."""

    folder: str
    total: int
    free: int
    is_writable: bool


class Facts(BaseModel, frozen=True):
    """What one machine is.

    Attributes:
        host: its name.
        versions: of what decides about results, by name.
        packages: versions of all that is installed, by normalised name.
        processor: its name.
        cpus: that this process may use.
        memory: bytes.
        available: bytes of memory that nobody uses.
        gpus: as the driver lists them; none where there is no driver.
        disks: folders that trials and compilers write to.
        listeners: ports of Ray that other machines can reach.
        asks_for_token: whether Ray's token authentication is on in this process.
    """

    host: str
    versions: dict[str, str]
    packages: dict[str, str]
    processor: str
    cpus: int
    memory: int
    available: int
    gpus: tuple[Gpu, ...]
    disks: tuple[Disk, ...]
    listeners: tuple[Listener, ...]
    asks_for_token: bool


def facts_here() -> Facts:
    """Of this machine, as this process finds it."""
    memory = psutil.virtual_memory()
    folders = (tempfile.gettempdir(), surroundings()["TORCHINDUCTOR_CACHE_DIR"])
    return Facts(
        host=socket.gethostname(),
        versions=versions(),
        packages=packages_here(),
        processor=processor(),
        cpus=available_cpus(),
        memory=memory.total,
        available=memory.available,
        gpus=_gpus(),
        disks=tuple(_disk(Path(folder)) for folder in folders),
        listeners=tuple(listeners()),
        asks_for_token=os.environ.get("RAY_AUTH_MODE", "").lower() == "token",
    )


def packages_here() -> dict[str, str]:
    """Versions of all that is installed, by normalised name, without what tells one build from another (`+cu130`).

    Of a package that is there twice it is the one that is imported: setuptools, once loaded, puts others that it brings
    along at the end of the path.
    """
    found: dict[str, str] = {}
    for one in distributions():  # in the order of the path
        if one.metadata["Name"]:
            found.setdefault(one.metadata["Name"].lower().replace("_", "-"), one.version.partition("+")[0])
    return dict(sorted(found.items()))


def _gpus() -> tuple[Gpu, ...]:
    command = ["nvidia-smi", f"--query-gpu={_QUERY}", "--format=csv,noheader,nounits"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)  # noqa: S603
    except (OSError, subprocess.SubprocessError):
        return ()
    rows = [[word.strip() for word in line.split(",")] for line in answer.stdout.splitlines()]
    return tuple(
        Gpu(name=name, memory=int(total) * _MEBIBYTE, used=int(used) * _MEBIBYTE, driver=driver)
        for name, total, used, driver in rows
        if total.isdigit() and used.isdigit()  # a driver that cannot tell says [N/A]
    )


def _disk(folder: Path) -> Disk:
    """Of a folder that may not be there yet."""
    there = next(one for one in (folder, *folder.parents) if one.exists())
    usage = disk_usage(there)
    return Disk(folder=str(folder), total=usage.total, free=usage.free, is_writable=os.access(there, os.W_OK | os.X_OK))
