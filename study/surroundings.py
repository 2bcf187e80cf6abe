"""What a process that trains finds around it: how it allocates memory, and where compiled steps are kept."""

import os
from pathlib import Path

__all__ = ["surroundings"]

# Large temporary tensors are kept by the allocator, in huge pages; returned to the kernel, each step would fault them
# in again.
_ALLOCATOR = {
    "MALLOC_MMAP_THRESHOLD_": str(1 << 32),
    "MALLOC_TRIM_THRESHOLD_": str(1 << 34),
    "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1",
}


def surroundings() -> dict[str, str]:
    """Environment variables of a process that trains, to be set before it starts.

    Compiled steps are code, so they stay on this machine, in a folder of the user's own.
    """
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "marl-study"
    compiled = {"TORCHINDUCTOR_CACHE_DIR": str(cache / "inductor"), "TRITON_CACHE_DIR": str(cache / "triton")}
    return _ALLOCATOR | {name: os.environ.get(name, folder) for name, folder in compiled.items()}
