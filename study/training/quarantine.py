"""Isolation of trials that may crash trainers."""

from collections.abc import Iterable

from study.spec import TrialId

__all__ = ["Quarantine"]


class Quarantine:
    """Schedules suspected trials so that each trains in isolation until its next report.

    While a suspected trial is queued, no trial receives a lane. When all lanes are free, the first suspected trial in
    the queue is isolated: it trains alone, after its client has confirmed the isolation. If the trainer then crashes,
    the client attributes the crash to its trial.

    Attributes:
        isolated: Trial that trains in isolation, or will after its confirmation.
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
        if trial == self.isolated:
            self._is_confirmed = True

    def release(self, trial: TrialId) -> None:
        """Clear a trial of suspicion: it has reported, or ended."""
        self._suspected.discard(trial)
        if self.isolated == trial:
            self.isolated = None

    def eligible(self, queue: Iterable[TrialId], is_training: bool) -> set[TrialId]:
        """Return the queued trials that may receive lanes now.

        Args:
            queue: Trials of the queued replicates, in order.
            is_training: Whether any lane is occupied.
        """
        queued = list(dict.fromkeys(queue))
        suspected = [trial for trial in queued if trial in self._suspected]
        if self.isolated is None and suspected and not is_training:
            self.isolated, self._is_confirmed = suspected[0], False
        if self.isolated is not None:
            return {self.isolated}.intersection(queued) if self._is_confirmed else set()
        return set() if suspected else set(queued)
