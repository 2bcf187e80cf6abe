"""Ray Tune's side of a study: what it is told to try, and what is done with what it hears.

Tune asks the searcher for configurations and tells it and the callback what became of them. Both run in Tune's own
loop, in the driver's main thread, so nothing here needs a lock.
"""

import json
import re
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pandas as pd
from ray import tune
from ray.tune.experiment import Trial
from ray.tune.search import Searcher

from study.analysis.aggregation import REPORT_KEY, aggregate_trial
from study.errors import RunError
from study.search.sampler import PastTrial, Search
from study.spec import Baseline, Scalar, Spec, TrialId
from study.store.writer import StudyWriter

__all__ = ["LOSSES", "StudyCallback", "StudySearcher"]

LOSSES = 100
"""So often a trial may lose its place, with its machine or its process, which is no fault of its own. What is its own,
it counts itself (`study.training.client`)."""


class StudySearcher(Searcher):
    """Hands out trials by number: the baseline, those that were interrupted, then numbers that have no trial yet.

    Args:
        spec: a resolved spec.
        past: the trials so far.
        target: how many trials the study shall have.
        with_plain_vae: whether the baseline that is trained as trials are is still to be trained.
        writer: gets a row for each trial that begins.

    Attributes:
        allowed: how many trials may be there now; asked before each is handed out.
    """

    def __init__(
        self, spec: Spec, past: Iterable[PastTrial], target: int, with_plain_vae: bool, writer: StudyWriter
    ) -> None:
        super().__init__()
        past = list(past)
        known = {trial.number for trial in past}
        self._spec = spec
        self._search = Search(spec, past)
        self._writer = writer
        self._interrupted: dict[TrialId, dict[str, Scalar]] = {Baseline.PLAIN_VAE: {}} if with_plain_vae else {}
        self._interrupted |= {trial.number: trial.parameters for trial in past if trial.state in _UNFINISHED}
        self._queue: list[TrialId] = [*self._interrupted, *(number for number in range(target) if number not in known)]
        self.numbers: dict[str, TrialId] = {}
        self.parameters: dict[TrialId, dict[str, Scalar]] = {}
        self.final_values: dict[TrialId, list[float]] = {}
        self.allowed: Callable[[], int] = lambda: 1
        self._under_way = 0

    @property
    def remaining(self) -> int:
        """Trials that are still to be handed out."""
        return len(self._queue)

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:  # type: ignore[override]  # as its docstring has it
        """The next trial's number and parameters; none while enough are under way."""
        if not self._queue and not self._under_way:
            return str(Searcher.FINISHED)
        if not self._queue or self._under_way >= self.allowed():  # one that is under way may come back
            return None
        self._under_way += 1
        number = self._queue.pop(0)
        if number in self._interrupted:
            parameters = self._interrupted[number]
        else:
            assert isinstance(number, int)  # noqa: S101  # baselines are never asked for
            parameters = self._search.ask(number)
        self.numbers[trial_id], self.parameters[number] = number, parameters
        self.record(number, "running")
        return {"trial": number, "parameters": parameters}

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Tell Optuna: a value only if the trial is complete, else pruned or failed."""
        self._under_way -= 1
        number = self.numbers[trial_id]
        if isinstance(number, Baseline) or error:  # of an error the callback hears why, and says what became of it
            return
        if result is None or "failed" in result:
            self._search.failed(number)
            return
        values = self.values(result) if result["step"] == self._spec.train.steps else None
        if values is not None:
            self._search.complete(number, values)
            self.final_values[number] = values
        else:
            self._search.pruned(number)

    def lost(self, number: TrialId) -> None:
        """A trial has lost its place before it had begun, which Tune does not forgive: it is handed out once more."""
        self._interrupted[number] = self.parameters[number]
        self._queue.insert(0, number)

    def broke(self, number: TrialId) -> None:
        """A trial broke as often as it may."""
        if not isinstance(number, Baseline):
            self._search.failed(number)

    def values(self, result: dict[str, Any]) -> list[float] | None:
        """Values of the objectives in a result; none when it lacks one, or a replicate, as early reports may."""
        names = [*REPORT_KEY, *self._spec.objectives]  # those of all others take twice as long again
        rows = [{name: row[name] for name in names if name in row} for row in result["rows"]]
        means = aggregate_trial(pd.DataFrame(rows), self._spec.replicates)
        if means["replicates"] < self._spec.replicates or any(name not in means for name in self._spec.objectives):
            return None
        return [means[name] for name in self._spec.objectives]

    def record(self, number: TrialId, state: str, error: str | None = None, step: int = 0) -> None:
        """Add a row for a trial whose state changes."""
        parameters = self.parameters[number]
        self._writer.add(
            "trials",
            {
                "trial": number,
                "state": state,
                "error": error,
                "step": step,
                "sampler": json.dumps({} if isinstance(number, Baseline) else self._search.attributes(number)),
                **{f"config/{name}": parameters.get(name) for name in self._spec.space},
            },
        )

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the store has all that a search needs to go on."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing: a search goes on from the store."""

    def __getstate__(self) -> dict[str, Any]:
        """Nothing, when Tune pickles all that it was given: a study is never restored from that."""
        return {}


class StudyCallback(tune.Callback):
    """Records what Tune hears, and calls `tick` several times a second.

    Args:
        searcher: knows the trials by number.
        writer: writes rows.
        steps: the full budget.
        changed: told of each trial whose state changes: number, state and, where there is one, the reason.
        tick: called in Tune's loop; what it raises ends the run.
    """

    def __init__(
        self,
        searcher: StudySearcher,
        writer: StudyWriter,
        steps: int,
        changed: Callable[[TrialId, str, str | None], None],
        tick: Callable[[], None],
    ) -> None:
        self._searcher = searcher
        self._writer = writer
        self._steps = steps
        self._changed = changed
        self._tick = tick
        self._losses: Counter[TrialId] = Counter()
        self._refused: str | None = None

    def __getstate__(self) -> dict[str, Any]:
        """Nothing, as for the searcher."""
        return {}

    def on_step_end(self, iteration: int, trials: list[Trial], **info: Any) -> None:
        """Let the driver do what is due.

        Raises:
            RunError: when a trainer has refused the study.
        """
        if self._refused is not None:  # raised where it was heard of, Tune would make a traceback of it
            raise RunError(self._refused)
        self._writer.tick()
        self._tick()

    def on_trial_start(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """A trial takes its place."""
        self._changed(self._searcher.numbers[trial.trial_id], "running", None)

    def on_trial_result(  # noqa: D102
        self,
        iteration: int,
        trials: list[Trial],
        trial: Trial,
        result: dict[str, Any],
        **info: Any,
    ) -> None:
        self._refused = self._refused or result.get("refused")
        for row in result.get("rows", []):
            self._writer.add("reports", row)

    def on_trial_complete(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """A trial ended without breaking: at its full budget, stopped early, or failed for a reason it knows."""
        number = self._searcher.numbers[trial.trial_id]
        result = trial.last_result or {}
        if "failed" in result:
            self._end(number, "failed", result["failed"])
        elif result.get("step") == self._steps:
            self._end(number, "complete", None, self._steps)
        else:
            self._end(number, "pruned", None, result.get("step", 0))

    def on_trial_recover(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """A trial lost its place and will have another."""
        self._changed(self._searcher.numbers[trial.trial_id], "interrupted", _reason(trial))

    def on_trial_error(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """A trial broke as often as it may, or lost its place while Tune had it wait for one."""
        number, reason = self._searcher.numbers[trial.trial_id], _reason(trial)
        if reason == _GONE and self._losses[number] < LOSSES:
            self._losses[number] += 1
            self._searcher.lost(number)
            self._changed(number, "interrupted", reason)
            return
        self._searcher.broke(number)
        self._end(number, "failed", reason)

    def _end(self, number: TrialId, state: str, error: str | None, step: int = 0) -> None:
        self._searcher.record(number, state, error, step)
        self._changed(number, state, error)


def _reason(trial: Trial) -> str:
    """Why a trial broke, in one line; Tune's get_error reads a copy that is not made yet."""
    traceback = Path(trial.error_file).read_text() if trial.error_file else "unknown"
    *_, reason = filter(None, map(str.strip, traceback.splitlines()))
    # Ray says at length what it knows of a process that it lost.
    return _GONE if _LOST.search(reason) else reason


_LOST = re.compile(r"\b[Aa]ctor\b|\bActor\w*Error\b")
_GONE = "its process or its machine is gone"
_UNFINISHED = ("running", "interrupted")
