"""What a process that trains finds around it: its threads, how it allocates memory, and where compiled steps are."""

import os
from pathlib import Path

__all__ = ["available_cpus", "cache_folder", "surroundings"]

# Large temporary tensors are kept by the allocator, in huge pages; returned to the kernel, each step would fault them
# in again.
_ALLOCATOR = {
    "MALLOC_MMAP_THRESHOLD_": str(1 << 32),
    "MALLOC_TRIM_THRESHOLD_": str(1 << 34),
    "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1",
}
# Threads of a step wait for each other. By default they do so at full speed, and then any program beside them makes a
# step take twenty times as long.
_THREADS = {"OMP_WAIT_POLICY": "PASSIVE"}


def available_cpus() -> int:
    """How many processors this process may run on, which `taskset` or a container can make fewer than there are."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def cache_folder() -> Path:
    """Where the user's programs keep on this machine what can be made again."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "marl-study"


def surroundings() -> dict[str, str]:
    """Environment variables of a process that trains on this machine, to be set before it starts.

    Compiled steps are code, so they stay on this machine, in a folder of the user's own.
    """
    cache = cache_folder()
    compiled = {"TORCHINDUCTOR_CACHE_DIR": str(cache / "inductor"), "TRITON_CACHE_DIR": str(cache / "triton")}
    return {
        "OMP_NUM_THREADS": str(available_cpus()),
        **{name: os.environ.get(name, policy) for name, policy in _THREADS.items()},
        **_ALLOCATOR,
        **{name: os.environ.get(name, folder) for name, folder in compiled.items()},
    }
