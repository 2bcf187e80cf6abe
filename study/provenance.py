"""Where results come from: the commit of the code, and the name of the device."""

import platform
import subprocess
from pathlib import Path

__all__ = ["commit", "processor"]


def commit() -> str | None:
    """The commit that this code was checked out from, with `-dirty` if it was changed since; none if it was not."""
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
    # An installed package may lie within somebody else's checkout.
    return done.stdout.strip() or None if (folder / ".git").exists() else None


def processor() -> str:
    """Name of the processor as its maker sells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")
