"""Where results come from: the commit and the versions of the code, and the name of the device."""

import platform
import socket
import subprocess
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path

from study.errors import RunError

__all__ = ["commit", "differing_version", "package_versions", "processor", "refuse_other_versions", "versions"]

_PACKAGES = ("marl-study", "torch", "torchaudio", "ray", "optuna")


def package_versions() -> dict[str, str]:
    """Versions of the packages that decide about results, by name."""
    return {package: version(package) for package in _PACKAGES}


def versions() -> dict[str, str]:
    """The same with that of Python, and the commit where it is known."""
    found = {"python": platform.python_version(), **package_versions()}
    here = commit()
    return found if here is None else {**found, "commit": here}


def differing_version(here: Mapping[str, str], there: Mapping[str, str]) -> str | None:
    """The name of the first version that is another in two places; of what one does not know nothing is said."""
    return next((name for name in here if name in there and here[name] != there[name]), None)


def refuse_other_versions(of_driver: Mapping[str, str]) -> None:
    """Raise a RunError that names both, when this machine has another version than the driver of a study."""
    here = versions()
    name = differing_version(of_driver, here)
    if name is not None:
        raise RunError(
            f"{socket.gethostname()} has {name} {here[name]}, the driver has {of_driver[name]}; all machines of a "
            "study need the same: install requirements.lock on all of them, or renew the cluster's image"
        )


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
