"""Findings of the checks, and the checks that judge the facts of a machine."""

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Literal, NamedTuple

from rich.table import Table
from rich.text import Text

from study.doctor.facts import Disk, Facts, Gpu, OpenPort
from study.environment import differing_version
from study.formatting import format_bytes

Verdict = Literal["pass", "warn", "fail"]

_COLOURS: dict[Verdict, str] = {"pass": "green", "warn": "yellow", "fail": "bold red"}
_CHECK_WIDTH = 10


class Finding(NamedTuple):
    """Result of one check, on the hosts `where` or on none in particular, with advice unless it passed.

    The verdict is `fail` if a study is likely to fail, `warn` if it may be slow or give other results than elsewhere.
    """

    check: str
    verdict: Verdict
    value: str
    advice: str = ""
    where: tuple[str, ...] = ()


def merge_findings(findings: Iterable[Finding]) -> list[Finding]:
    """Combine equal findings of several hosts into one finding, in the order of their first host."""
    hosts: dict[Finding, tuple[str, ...]] = {}
    for finding in findings:
        same = finding._replace(where=())
        hosts[same] = (*hosts.get(same, ()), *finding.where)
    return [finding._replace(where=where) for finding, where in hosts.items()]


def render_finding(finding: Finding) -> Table:
    """Return a finding as a row of three columns: verdict, check, and value with advice and hosts below it."""
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(width=len("pass"))
    table.add_column(width=_CHECK_WIDTH)
    table.add_column(overflow="fold")
    lines = [Text(finding.value)]
    lines += [Text(f"→ {finding.advice}", style="bold")] if finding.advice else []
    lines += [Text(f"on {', '.join(finding.where)}", style="dim")] if finding.where else []
    table.add_row(Text(finding.verdict, _COLOURS[finding.verdict]), finding.check, Text("\n").join(lines))
    return table


_GIGABYTE = 1_000_000_000
_MIN_DISK, _RECOMMENDED_DISK = 1 * _GIGABYTE, 5 * _GIGABYTE
# Ray stops writing objects to a disk above this share.
_MAX_DISK_USE = 0.95
# A trainer on a processor needs about 2 GB, each trial 0.13 GB.
_MIN_MEMORY, _RECOMMENDED_MEMORY = 2 * _GIGABYTE, 4 * _GIGABYTE
_MAX_SHARE_IN_USE = 0.1
_PIN = re.compile(r"^([A-Za-z0-9._-]+)==([^\s;\\]+)")
_MAX_NAMED = 4
_DECIDES_RESULTS = ("torch", "torchaudio", "ray", "optuna")


def check_machine(facts: Facts, mine: Mapping[str, str], lock: Mapping[str, str]) -> Iterator[Finding]:
    """Yield the findings that follow from the facts of a machine, without measuring anything.

    All machines must have the versions of this process, `mine`. Without a lock, packages are not checked.
    """
    yield check_versions(facts.versions, mine)
    if lock:
        yield check_lock(facts.packages, lock)
    yield from (check_gpu(gpu) for gpu in facts.gpus)
    yield _check_memory(facts)
    yield from (check_disk(disk) for disk in facts.disks)
    yield check_ports(facts.open_ports)


def check_versions(theirs: Mapping[str, str], mine: Mapping[str, str]) -> Finding:
    """Check that a machine has the same versions as this process. Results depend on them."""
    differing = differing_version(mine, theirs)
    if differing is None:
        return Finding("versions", "pass", ", ".join(f"{name} {version}" for name, version in theirs.items()))
    value = f"{differing} {theirs.get(differing, 'unknown')}, but this process has {mine[differing]}"
    advice = "install the same requirements.lock and commit on all machines; results depend on the versions"
    return Finding("versions", "fail", value, advice)


def check_lock(packages: Mapping[str, str], lock: Mapping[str, str]) -> Finding:
    """Check that the installed packages have the versions pinned in requirements.lock."""
    differing = {name: version for name, version in packages.items() if version != lock.get(name, version)}
    if not differing:
        count = len(packages.keys() & lock.keys())
        return Finding("lock", "pass", f"{count} packages as in requirements.lock")
    names = [name for name in _DECIDES_RESULTS if name in differing]
    names += [name for name in differing if name not in names]
    value = ", ".join(f"{name} {differing[name]}, locked {lock[name]}" for name in names[:_MAX_NAMED])
    value += f", and {len(names) - _MAX_NAMED} more" if len(names) > _MAX_NAMED else ""
    verdict: Verdict = "fail" if names[0] in _DECIDES_RESULTS else "warn"
    return Finding("lock", verdict, value, "pip install --require-hashes -r requirements.lock")


def locked_versions() -> dict[str, str]:
    """Return the versions pinned in requirements.lock by normalised name; empty if this is not a source checkout."""
    try:
        lines = (Path(__file__).parents[2] / "requirements.lock").read_text().splitlines()
    except OSError:
        return {}
    pins = (_PIN.match(line) for line in lines)
    return {pin[1].lower().replace("_", "-"): pin[2].partition("+")[0] for pin in pins if pin}


def check_gpu(gpu: Gpu) -> Finding:
    """Check that no other program uses much memory of a GPU."""
    value = f"{gpu.name}, {format_bytes(gpu.memory)}, driver {gpu.driver}"
    if gpu.used > _MAX_SHARE_IN_USE * gpu.memory:
        advice = "end the other programs that use its memory (nvidia-smi lists them), or expect fewer lanes"
        return Finding("GPU", "warn", f"{value}; {format_bytes(gpu.used)} are in use", advice)
    return Finding("GPU", "pass", value)


def check_disk(disk: Disk) -> Finding:
    """Check that trials and compilers can write to a folder, and that its disk has room."""
    value = f"{format_bytes(disk.free)} free of {format_bytes(disk.total)} in {disk.folder}"
    if not disk.is_writable:
        return Finding("disk", "fail", f"{disk.folder} is not writable", "set TMPDIR, or XDG_CACHE_HOME for the cache")
    if disk.free < _MIN_DISK:
        return Finding("disk", "fail", value, f"free at least {format_bytes(_MIN_DISK)}")
    if disk.free < (1 - _MAX_DISK_USE) * disk.total:
        advice = f"free some space: Ray does not write to a disk that is more than {_MAX_DISK_USE:.0%} full"
        return Finding("disk", "warn", value, advice)
    if disk.free < _RECOMMENDED_DISK:
        return Finding("disk", "warn", value, f"{format_bytes(_RECOMMENDED_DISK)} of free space are recommended")
    return Finding("disk", "pass", value)


def check_ports(ports: tuple[OpenPort, ...]) -> Finding:
    """Check that every port of Ray that other machines can reach requires a token."""
    numbers: dict[str, list[int]] = {}
    for port in ports:
        if not port.requires_token:
            numbers.setdefault(port.process, []).append(port.number)
    if not numbers:
        value = f"{len(ports)} ports of Ray are open and require a token, except for metrics"
        return Finding("ports", "pass", value if ports else "no port of Ray is open to other machines")
    names = ", ".join(f"{process or 'port'} {_number_list(group)}" for process, group in numbers.items())
    value = f"{names}: other machines can connect without a token, and Ray runs any code they send"
    advice = "start Ray with RAY_AUTH_MODE=token or bind it to 127.0.0.1; open only SSH in the firewall"
    return Finding("ports", "fail", value, advice)


def check_token(requires_token: bool) -> Finding:
    """Check that a cluster runs code only for clients with its token."""
    if requires_token:
        return Finding("token", "pass", "the cluster requires a token")
    advice = "start Ray with RAY_AUTH_MODE=token on all machines; create a token with `ray get-auth-token --generate`"
    return Finding("token", "fail", "the cluster requires no token: any client that can connect can run code", advice)


def _number_list(numbers: list[int]) -> str:
    return "/".join(map(str, numbers)) if len(numbers) <= _MAX_NAMED else f"on {len(numbers)} ports"


def _check_memory(facts: Facts) -> Finding:
    value = f"{facts.cpus} × {facts.processor}, {format_bytes(facts.available)} of {format_bytes(facts.memory)} free"
    if facts.available < _MIN_MEMORY:
        return Finding("memory", "fail", value, f"end other programs: a trainer needs {format_bytes(_MIN_MEMORY)}")
    if facts.available < _RECOMMENDED_MEMORY:
        advice = f"at least {format_bytes(_RECOMMENDED_MEMORY)} is recommended for a trainer with its trials"
        return Finding("memory", "warn", value, advice)
    return Finding("memory", "pass", value)
