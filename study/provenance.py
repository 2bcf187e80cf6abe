"""Where results come from: the commit and the versions of the code, and the name of the device."""

import hashlib
import platform
import socket
import subprocess
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path

from study.errors import RunError

__all__ = ["code", "commit", "differing_version", "package_versions", "processor", "refuse_other_versions", "versions"]

_CODE = ("marl", "study")
_PACKAGES = ("marl-study", "torch", "torchaudio", "ray", "optuna")


def package_versions() -> dict[str, str]:
    """Versions of the packages that decide about results, by name."""
    return {package: version(package) for package in _PACKAGES}


def versions() -> dict[str, str]:
    """The same with that of Python, and what stands for the code itself."""
    return {"python": platform.python_version(), **package_versions(), "code": code()}


def differing_version(here: Mapping[str, str], there: Mapping[str, str]) -> str | None:
    """The name of the first version that is another in two places."""
    return next((name for name in here if here[name] != there.get(name)), None)


def refuse_other_versions(of_driver: Mapping[str, str]) -> None:
    """Raise a RunError that names both, when this machine has another version than the driver of a study."""
    here = versions()
    name = differing_version(of_driver, here)
    if name is not None:
        raise RunError(
            f"{socket.gethostname()} has {name} {here[name]}, the driver has {of_driver.get(name, 'none')}; all "
            "machines of a study need the same: install requirements.lock on all of them, or renew the cluster's image"
        )


def code() -> str:
    """A hash of the files that train and measure, as they lie here: committed or not, in a checkout or installed."""
    root = Path(__file__).parents[1]
    content = hashlib.sha256()
    for path in sorted(path for package in _CODE for path in (root / package).rglob("*.py")):
        content.update(f"{path.relative_to(root).as_posix()} {path.stat().st_size}\n".encode() + path.read_bytes())
    return content.hexdigest()[:12]


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
