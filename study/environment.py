"""The environment of a study's processes: versions of the code, the processor, environment variables, and caches."""

import hashlib
import os
import platform
import socket
import subprocess
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path

import platformdirs

from study.errors import RunError

_SOURCE_PACKAGES = ("marl", "study")
_PACKAGES = ("marl-study", "torch", "torchaudio", "ray", "optuna")
# The allocator keeps large temporary tensors in huge pages: returned to the kernel, each step faults them in again.
_ALLOCATOR = {
    "MALLOC_MMAP_THRESHOLD_": str(1 << 32),
    "MALLOC_TRIM_THRESHOLD_": str(1 << 34),
    "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1",
}


def package_versions() -> dict[str, str]:
    """Return the versions of the packages that affect results, by name."""
    return {package: version(package) for package in _PACKAGES}


def versions() -> dict[str, str]:
    """Return `package_versions`, the version of Python, and the hash of the code."""
    return {"python": platform.python_version(), **package_versions(), "code": code_hash()}


def differing_version(here: Mapping[str, str], there: Mapping[str, str]) -> str | None:
    """Return the name of the first version that differs between two machines."""
    return next((name for name in here if here[name] != there.get(name)), None)


def check_same_versions(driver_versions: Mapping[str, str]) -> None:
    """Raise a RunError if this machine has other versions than the driver of a study."""
    here = versions()
    name = differing_version(driver_versions, here)
    if name is not None:
        raise RunError(
            f"{socket.gethostname()} has {name} {here[name]}, the driver has {driver_versions.get(name, 'none')}; all "
            "machines of a study need the same: install requirements.lock on all of them, or renew the cluster's image"
        )


def code_hash() -> str:
    """Return a hash of the source files that train and evaluate, as installed on this machine."""
    root = Path(__file__).parents[1]
    content = hashlib.sha256()
    for path in sorted(path for package in _SOURCE_PACKAGES for path in (root / package).rglob("*.py")):
        content.update(f"{path.relative_to(root).as_posix()} {path.stat().st_size}\n".encode() + path.read_bytes())
    return content.hexdigest()[:12]


def commit() -> str | None:
    """Return the commit of this checkout, with `-dirty` after changes; None if the code is not in a checkout."""
    folder = Path(__file__).parents[1]
    try:
        done = subprocess.run(  # noqa: S603
            ["git", "-C", str(folder), "describe", "--always", "--dirty", "--abbrev=12"],  # noqa: S607
            capture_output=True,
            text=True,
            timeout=10,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    # An installed package may lie within another checkout.
    return done.stdout.strip() or None if (folder / ".git").exists() else None


def processor() -> str:
    """Return the name of the processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")


def available_cpus() -> int:
    """Return how many processors this process may use; `taskset` or a container may allow fewer than there are."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def cache_folder() -> Path:
    """Return the folder for files that can be created again."""
    return platformdirs.user_cache_path("marl-study", appauthor=False)


def process_env(threads: int) -> dict[str, str]:
    """Return the environment variables of a process that trains on this machine, to be set before it starts.

    Compiled steps are code, so their cache is a folder of the user on this machine.

    Args:
        threads: Number of threads that compute one operation together.
    """
    defaults = {
        # Threads of a step wait for each other. If they spin, any other program slows a step twentyfold.
        "OMP_WAIT_POLICY": "PASSIVE",
        "TORCHINDUCTOR_CACHE_DIR": str(cache_folder() / "inductor"),
        "TRITON_CACHE_DIR": str(cache_folder() / "triton"),
    }
    users = {name: os.environ.get(name, default) for name, default in defaults.items()}
    return {"OMP_NUM_THREADS": str(threads), **_ALLOCATOR, **users}
