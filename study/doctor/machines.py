"""What the facts of a machine say: each function takes facts as data and gives findings."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from study.doctor.facts import Disk, Facts, Gpu, Listener
from study.doctor.finding import Finding, Verdict
from study.formatting import format_bytes
from study.provenance import differing_version

__all__ = [
    "check_disk",
    "check_gpu",
    "check_lock",
    "check_machine",
    "check_ports",
    "check_token",
    "check_versions",
    "locked_versions",
]

_GIGABYTE = 1_000_000_000
_LEAST_DISK, _ENOUGH_DISK = 1 * _GIGABYTE, 5 * _GIGABYTE
# Ray writes no more objects to a disk that is fuller than that.
_FULLEST_DISK = 0.95
# A trainer takes about 2 GB on a processor, each trial 0.13 GB.
_LEAST_MEMORY, _ENOUGH_MEMORY = 2 * _GIGABYTE, 4 * _GIGABYTE
_SHARE_OF_OTHERS = 0.1
_PIN = re.compile(r"^([A-Za-z0-9._-]+)==([^\s;\\]+)")
_NAMED_AT_MOST = 4
_MATTERS = ("torch", "torchaudio", "ray", "optuna")


def check_machine(facts: Facts, mine: Mapping[str, str], lock: Mapping[str, str]) -> Iterator[Finding]:
    """All checks of one machine but those that measure.

    Args:
        facts: of the machine.
        mine: versions of this process, which all machines are to have.
        lock: the exact pins, by normalised name; empty where there are none.
    """
    yield check_versions(facts.versions, mine)
    if lock:
        yield check_lock(facts.packages, lock)
    yield from (check_gpu(gpu) for gpu in facts.gpus)
    yield _check_memory(facts)
    yield from (check_disk(disk) for disk in facts.disks)
    yield check_ports(facts.listeners)


def check_versions(theirs: Mapping[str, str], mine: Mapping[str, str]) -> Finding:
    """Whether a machine has the versions of this process, on which results depend."""
    differing = differing_version(mine, theirs)
    if differing is None:
        return Finding("versions", "pass", ", ".join(f"{name} {version}" for name, version in theirs.items()))
    return Finding(
        "versions",
        "fail",
        f"{differing} {theirs.get(differing, 'unknown')}, but this process has {mine[differing]}",
        "give all machines one environment, from requirements.lock and one commit; results depend on it",
    )


def check_lock(packages: Mapping[str, str], lock: Mapping[str, str]) -> Finding:
    """Whether what is installed is what is pinned."""
    differing = {name: version for name, version in packages.items() if version != lock.get(name, version)}
    if not differing:
        count = len(packages.keys() & lock.keys())
        return Finding("lock", "pass", f"{count} packages as in requirements.lock")
    names = [name for name in _MATTERS if name in differing]
    names += [name for name in differing if name not in names]
    value = ", ".join(f"{name} {differing[name]}, locked {lock[name]}" for name in names[:_NAMED_AT_MOST])
    value += f", and {len(names) - _NAMED_AT_MOST} more" if len(names) > _NAMED_AT_MOST else ""
    verdict: Verdict = "fail" if names[0] in _MATTERS else "warn"
    return Finding("lock", verdict, value, "pip install --require-hashes -r requirements.lock")


def locked_versions() -> dict[str, str]:
    """The pins of requirements.lock beside the code, by normalised name; empty for an installed package."""
    try:
        lines = (Path(__file__).parents[2] / "requirements.lock").read_text().splitlines()
    except OSError:
        return {}
    pins = (_PIN.match(line) for line in lines)
    return {pin[1].lower().replace("_", "-"): pin[2].partition("+")[0] for pin in pins if pin}


def check_gpu(gpu: Gpu) -> Finding:
    """Whether a GPU is there for a study alone."""
    value = f"{gpu.name}, {format_bytes(gpu.memory)}, driver {gpu.driver}"
    if gpu.used > _SHARE_OF_OTHERS * gpu.memory:
        advice = "other programs hold its memory (nvidia-smi names them); lanes will be fewer, or wait for them"
        return Finding("GPU", "warn", f"{value}; {format_bytes(gpu.used)} are taken", advice)
    return Finding("GPU", "pass", value)


def check_disk(disk: Disk) -> Finding:
    """Whether trials and compilers can write, and will be able to."""
    value = f"{format_bytes(disk.free)} free of {format_bytes(disk.total)} in {disk.folder}"
    if not disk.is_writable:
        return Finding("disk", "fail", f"{disk.folder} is not writable", "set TMPDIR, or XDG_CACHE_HOME for the cache")
    if disk.free < _LEAST_DISK:
        return Finding("disk", "fail", value, f"free at least {format_bytes(_LEAST_DISK)}")
    if disk.free < (1 - _FULLEST_DISK) * disk.total:
        return Finding("disk", "warn", value, f"Ray refuses to write where more than {_FULLEST_DISK:.0%} are taken")
    if disk.free < _ENOUGH_DISK:
        return Finding("disk", "warn", value, f"free {format_bytes(_ENOUGH_DISK)}, to be on the safe side")
    return Finding("disk", "pass", value)


def check_ports(found: tuple[Listener, ...]) -> Finding:
    """Whether Ray lets anybody in who reaches it."""
    open_to_all = [one for one in found if not one.asks_for_token]
    if not open_to_all:
        value = f"{len(found)} ports of Ray are open, and ask for a token for all but metrics"
        return Finding("ports", "pass", value if found else "no port of Ray is open to other machines")
    return Finding(
        "ports",
        "fail",
        f"{_named(open_to_all)}: reached from other machines without a token, and by Ray any code is run",
        "set RAY_AUTH_MODE=token where Ray is started, or bind to 127.0.0.1; let the firewall open SSH alone",
    )


def check_token(asks_for_token: bool) -> Finding:
    """Whether the cluster runs the code only of those who know its token."""
    if asks_for_token:
        return Finding("token", "pass", "the cluster asks for a token")
    advice = "start Ray with RAY_AUTH_MODE=token on all machines; `ray get-auth-token --generate` makes the token"
    return Finding("token", "fail", "the cluster asks for no token: whoever reaches it may run any code", advice)


def _named(found: list[Listener]) -> str:
    by_process: dict[str, list[int]] = {}
    for one in found:
        by_process.setdefault(one.process, []).append(one.port)
    return ", ".join(f"{process or 'port'} {_numbers(ports)}" for process, ports in by_process.items())


def _numbers(ports: list[int]) -> str:
    return "/".join(map(str, ports)) if len(ports) <= _NAMED_AT_MOST else f"on {len(ports)} ports"


def _check_memory(facts: Facts) -> Finding:
    value = f"{facts.cpus} × {facts.processor}, {format_bytes(facts.available)} of {format_bytes(facts.memory)} free"
    if facts.available < _LEAST_MEMORY:
        return Finding("memory", "fail", value, f"a trainer needs {format_bytes(_LEAST_MEMORY)}; end other programs")
    if facts.available < _ENOUGH_MEMORY:
        return Finding("memory", "warn", value, f"{format_bytes(_ENOUGH_MEMORY)} leave room for trials, too")
    return Finding("memory", "pass", value)
