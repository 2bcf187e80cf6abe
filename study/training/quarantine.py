"""Trials that seem to kill trainers: each trains alone until its next report, so that nobody else is blamed."""

from collections.abc import Iterable

__all__ = ["Suspects"]


class Suspects:
    """Whose turn it is to train alone.

    No lane is given to others while a suspected trial waits in line. When all lanes are free it is the turn of the
    first, which trains once it was admitted, up to its next report.

    Attributes:
        turn: the trial that trains alone, or will when it is admitted.
    """

    def __init__(self) -> None:
        self.turn: int | None = None
        self._trials: set[int] = set()
        self._is_admitted = False

    @property
    def waits_to_admit(self) -> bool:
        """Whether nothing goes on until the trial whose turn it is has been admitted."""
        return self.turn is not None and not self._is_admitted

    def add(self, trial: int) -> None:
        """From now on a trial is suspected."""
        self._trials.add(trial)

    def admit(self, trial: int) -> None:
        """Let the trial whose turn it is train."""
        if trial == self.turn:
            self._is_admitted = True

    def clear(self, trial: int) -> None:
        """A trial has come to its next report, or is over."""
        self._trials.discard(trial)
        if self.turn == trial:
            self.turn = None

    def allowed(self, in_line: Iterable[int], is_anyone_training: bool) -> set[int]:
        """Of the trials in line, those that may be given lanes now."""
        waiting = list(dict.fromkeys(in_line))
        suspected = [trial for trial in waiting if trial in self._trials]
        if self.turn is None and suspected and not is_anyone_training:
            self.turn, self._is_admitted = suspected[0], False
        if self.turn is not None:
            return {self.turn}.intersection(waiting) if self._is_admitted else set()
        return set() if suspected else set(waiting)
