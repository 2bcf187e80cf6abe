"""Facts of a machine: versions, devices, memory, disks, and ports of Ray that other machines can reach.

Facts are plain numbers and words and are collected without Ray.
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

from study.environment import available_cpus, process_env, processor, versions

_PORTS = {6379: "GCS", 8265: "dashboard", 10001: "client server", 52365: "dashboard agent"}
# Ray's programs by path, its modules by name, and its workers and agents by process title.
_RAY = re.compile(r"(?:/ray/(?:\S*/)?|-m (?=ray\.)|^(?=ray::))(?P<name>\S+)")
_NAME_WORDS = 4  # leading words of a command line that hold the program; options follow


class OpenPort(BaseModel, frozen=True):
    """A port of Ray that other machines can reach, with the process that listens."""

    number: int
    process: str
    requires_token: bool


def open_ports() -> list[OpenPort]:
    """Return the ports of Ray on this machine that are not bound to the loopback interface, in ascending order.

    Anyone who can connect to Ray can run code. Processes of Ray are recognised by name; processes of other users, whose
    names are hidden, by Ray's default ports.
    """
    ports = {}
    for connection in psutil.net_connections("tcp"):
        if connection.status != psutil.CONN_LISTEN or not connection.laddr or _is_loopback(connection.laddr.ip):
            continue
        name, is_ray, requires_token = _process(connection.pid)
        port = connection.laddr.port
        if is_ray or port in _PORTS:
            ports[port] = OpenPort(number=port, process=name or _PORTS[port], requires_token=requires_token)
    return [ports[port] for port in sorted(ports)]


def _is_loopback(host: str) -> bool:
    address = ipaddress.ip_address(host.partition("%")[0])
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return (mapped or address).is_loopback


def _process(pid: int | None) -> tuple[str, bool, bool]:
    """Return the name of a process, whether it is part of Ray, and whether it requires a token."""
    try:
        if pid is None:
            return "", False, False
        process = psutil.Process(pid)
        # Agents overwrite their environment with their title, so the environment of the parent raylet counts as well.
        ray_processes = [candidate for candidate in (process, *process.parents()) if _ray_name(candidate)]
        requires_token = any(
            candidate.environ().get("RAY_AUTH_MODE", "").lower() == "token" for candidate in ray_processes
        )
        return _ray_name(process) or process.name(), process in ray_processes, requires_token
    except psutil.Error:
        return "", False, False


def _ray_name(process: psutil.Process) -> str:
    """Return the name of a process of Ray; empty for other processes."""
    match = _RAY.search(" ".join(process.cmdline()[:_NAME_WORDS]))
    return match["name"].removesuffix(".py") if match else ""


_QUERY = "name,memory.total,memory.used,driver_version"
_MEBIBYTE = 1024**2


class Gpu(BaseModel, frozen=True):
    """A GPU as listed by its driver. Sizes are in bytes."""

    name: str
    memory: int
    used: int
    driver: str


class Disk(BaseModel, frozen=True):
    """A folder that trials or compilers write to, with the size of its disk in bytes."""

    folder: str
    total: int
    free: int
    is_writable: bool


class Facts(BaseModel, frozen=True):
    """Facts of one machine. Memory is in bytes.

    Attributes:
        versions: Versions that results depend on, by name.
        packages: Versions of all installed packages, by normalised name.
        cpus: Number of processors that this process may use.
        gpus: GPUs as listed by the driver; empty without a driver.
        requires_token: Whether token authentication of Ray is on in this process.
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
    open_ports: tuple[OpenPort, ...]
    requires_token: bool


def facts_here() -> Facts:
    """Return the facts of this machine."""
    memory = psutil.virtual_memory()
    folders = (tempfile.gettempdir(), process_env(1)["TORCHINDUCTOR_CACHE_DIR"])
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
        open_ports=tuple(open_ports()),
        requires_token=os.environ.get("RAY_AUTH_MODE", "").lower() == "token",
    )


def packages_here() -> dict[str, str]:
    """Return the versions of all installed packages by normalised name, without build suffixes such as `+cu130`.

    If a package is installed twice, the version that is imported counts: setuptools, once imported, appends its own
    copies of packages to the path.
    """
    versions_by_name: dict[str, str] = {}
    for package in distributions():  # in the order of sys.path
        if package.metadata["Name"]:
            name = package.metadata["Name"].lower().replace("_", "-")
            versions_by_name.setdefault(name, package.version.partition("+")[0])
    return dict(sorted(versions_by_name.items()))


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
        if total.isdigit() and used.isdigit()  # the driver prints [N/A] for unknown values
    )


def _disk(folder: Path) -> Disk:
    """Return the disk of a folder that may not exist yet."""
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    usage = disk_usage(existing)
    is_writable = os.access(existing, os.W_OK | os.X_OK)
    return Disk(folder=str(folder), total=usage.total, free=usage.free, is_writable=is_writable)
