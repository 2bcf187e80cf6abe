"""What one check found, and how that is shown."""

from collections.abc import Iterable
from typing import Literal, NamedTuple

from rich.table import Table
from rich.text import Text

__all__ = ["Finding", "Verdict", "merged", "shown"]

Verdict = Literal["pass", "warn", "fail"]

_COLOURS: dict[Verdict, str] = {"pass": "green", "warn": "yellow", "fail": "bold red"}
_WIDEST_CHECK = 10


class Finding(NamedTuple):
    """What one check found.

    Attributes:
        check: its name.
        verdict: a study is in danger of failing for `fail`, of being slow or unlike others for `warn`.
        value: what was measured.
        advice: what to do, when it did not pass.
        where: host, or hosts; none for what concerns all.
    """

    check: str
    verdict: Verdict
    value: str
    advice: str = ""
    where: tuple[str, ...] = ()


def merged(findings: Iterable[Finding]) -> list[Finding]:
    """Findings of several hosts; those that say the same are one, in the order of the first."""
    hosts: dict[Finding, tuple[str, ...]] = {}
    for finding in findings:
        same = finding._replace(where=())
        hosts[same] = (*hosts.get(same, ()), *finding.where)
    return [finding._replace(where=where) for finding, where in hosts.items()]


def shown(finding: Finding) -> Table:
    """Verdict, check, and value with advice and hosts below it; the last folds at the width of the terminal."""
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(width=len("pass"))
    table.add_column(width=_WIDEST_CHECK)
    table.add_column(overflow="fold")
    lines = [Text(finding.value)]
    lines += [Text(f"→ {finding.advice}", style="bold")] if finding.advice else []
    lines += [Text(f"on {', '.join(finding.where)}", style="dim")] if finding.where else []
    table.add_row(Text(finding.verdict, _COLOURS[finding.verdict]), finding.check, Text("\n").join(lines))
    return table
