"""Trials that share a trainer: the results that they wait for, and the isolation of those that may crash trainers."""

import asyncio
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from study.spec import TrialId


class Report(NamedTuple):
    """Metrics of a replicate at a budget: a row of `reports/`."""

    trial: TrialId
    row: dict[str, Any]


class Failure(NamedTuple):
    """Error of a replicate that diverged. It makes the trial of the replicate fail."""

    trial: TrialId
    error: str


@dataclass
class AttachedTrial:
    """Results for a trial that calls its trainer. They arrive in another thread than the calls.

    Attributes:
        changed: Set when a result arrives.
        last_call: Time of the last call.
        after: Step after which the trial last requested a report; -1 before its first call.
        reports: Reports by step and seed.
        failure: Why the trial failed.
    """

    loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.get_running_loop)
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    last_call: float = field(default_factory=time.monotonic)
    after: int = -1
    reports: dict[int, dict[int, dict[str, Any]]] = field(default_factory=dict)
    failure: str | None = None

    def deliver(self, result: Report | Failure) -> None:
        """Add a result of the trial, and wake its call."""
        if isinstance(result, Failure):
            self.failure = result.error
        else:
            self.reports.setdefault(result.row["step"], {})[result.row["seed"]] = result.row
        self.notify()

    def notify(self) -> None:
        """Wake the call of the trial, if one waits."""
        self.loop.call_soon_threadsafe(self.changed.set)

    def next_result(self, after: int, last_rung: int, num_seeds: int) -> dict[str, Any] | None:
        """Return the first budget after a step at which all its seeds have reported, and the reports since that step.

        Up to the last rung only seed 0 trains. The first result after that rung includes earlier reports of the others.
        """
        for step in sorted(self.reports):  # copied by one call, because the training thread adds reports
            is_complete = 0 in self.reports[step] if step <= last_rung else len(self.reports[step]) == num_seeds
            if step > after and is_complete:
                rows = [
                    row
                    for budget, by_seed in sorted(self.reports.items())
                    for seed, row in sorted(by_seed.items())
                    if after < budget <= step or (seed > 0 and budget <= after == last_rung)
                ]
                return {"step": step, "rows": rows}
        return None


class Quarantine:
    """Schedules suspected trials so that each trains in isolation until its client has received the next report.

    While a suspected trial is queued, no trial receives a lane. When all lanes are free, the first suspected trial in
    the queue is `isolated`: it trains alone, after its client has confirmed the isolation. If the trainer then crashes,
    the client attributes the crash to its trial.
    """

    def __init__(self) -> None:
        self.isolated: TrialId | None = None
        self._suspected: set[TrialId] = set()
        self._is_confirmed = False

    @property
    def awaits_confirmation(self) -> bool:
        """True while training pauses until the isolated trial is confirmed."""
        return self.isolated is not None and not self._is_confirmed

    def add(self, trial: TrialId) -> None:
        """Put a trial under suspicion."""
        self._suspected.add(trial)

    def confirm(self, trial: TrialId) -> None:
        """Let the isolated trial train. Has no effect for another trial."""
        self._is_confirmed |= trial == self.isolated

    def release(self, trial: TrialId) -> None:
        """Clear a trial of suspicion: its client has received a report, or the trial has ended."""
        self._suspected.discard(trial)
        if self.isolated == trial:
            self.isolated = None

    def eligible(self, queue: Iterable[TrialId], is_training: bool) -> set[TrialId]:
        """Return the trials that may receive lanes now. The queue has the trial of each queued replicate, in order."""
        queued = list(dict.fromkeys(queue))
        suspected = [trial for trial in queued if trial in self._suspected]
        if self.isolated is None and suspected and not is_training:
            self.isolated, self._is_confirmed = suspected[0], False
        if self.isolated is not None:
            return {self.isolated}.intersection(queued) if self._is_confirmed else set()
        return set() if suspected else set(queued)
