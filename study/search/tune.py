"""Integration with Ray Tune: a Searcher that proposes trials, and a Callback that records their results.

Both are called in Tune's loop, in the main thread of the driver, so they need no lock.
"""

import json
import logging
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
from ray import cloudpickle, tune
from ray.exceptions import ActorPlacementGroupRemoved, RayActorError, RayTaskError
from ray.tune.experiment import Trial
from ray.tune.search import Searcher

from study.analysis.aggregation import REPORT_KEY, aggregate_trial
from study.errors import RunError
from study.search.sampler import PastTrial, Search
from study.spec import Baseline, Scalar, Spec, TrialId
from study.store.writer import StudyWriter

logger = logging.getLogger(__name__)

MAX_ACTOR_RESTARTS = 100
"""Maximum number of actor losses per trial. `study.training.client` counts failures that the trial itself causes."""

_ACTOR_LOST = "its process or its machine was lost"
_UNFINISHED = ("running", "interrupted")


class StudySearcher(Searcher):
    """Proposes the plain VAE if it is to be trained, interrupted trials, and then new trials up to the target.

    Attributes:
        max_running: Returns the number of trials that may run now.
        trainers: Number of trainers on each device. A trial is trained by the one that has the fewest trials.
        trials: Trials and baselines by Tune's trial ID.
        parameters: Parameters by trial.
        final_values: Values of the objectives by complete trial.
    """

    def __init__(
        self, spec: Spec, past: Iterable[PastTrial], target: int, with_plain_vae: bool, writer: StudyWriter
    ) -> None:
        super().__init__()
        past = list(past)
        self._spec = spec
        self._search = Search(spec, past)
        self._writer = writer
        self._resumed: dict[TrialId, dict[str, Scalar]] = {Baseline.PLAIN_VAE: {}} if with_plain_vae else {}
        self._resumed |= {trial.number: trial.parameters for trial in past if trial.state in _UNFINISHED}
        new = set(range(target)) - {trial.number for trial in past}
        self._queue: list[TrialId] = [*self._resumed, *sorted(new)]
        self._running: dict[str, int] = {}  # trainer of each running trial
        self.max_running: Callable[[], int] = lambda: 1
        self.trainers = 1
        self.trials: dict[str, TrialId] = {}
        self.parameters: dict[TrialId, dict[str, Scalar]] = {}
        self.final_values: dict[TrialId, list[float]] = {}
        self._trainer_of: dict[TrialId, int] = {}

    @property
    def remaining(self) -> int:
        """Number of trials that were not proposed yet."""
        return len(self._queue)

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:  # type: ignore[override]  # as its docstring has it
        """Return the next trial and its parameters, or None while enough trials run."""
        if not self._queue and not self._running:
            return str(Searcher.FINISHED)
        if not self._queue or len(self._running) >= self.max_running():  # a running trial may be queued again
            return None
        trial = self._queue.pop(0)
        counts = Counter(self._running.values())
        trainer = self._running[trial_id] = min(range(self.trainers), key=lambda number: counts[number])
        if trial in self._resumed:
            parameters = self._resumed[trial]
        else:
            assert isinstance(trial, int)  # noqa: S101  # baselines have no point of the space
            parameters = self._search.ask(trial)
        self.trials[trial_id], self.parameters[trial], self._trainer_of[trial] = trial, parameters, trainer
        self.record(trial, "running")
        return {"trial": trial, "parameters": parameters, "trainer": trainer}

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Report a finished trial to Optuna: with its values if it is complete, else as pruned or failed."""
        del self._running[trial_id]
        trial = self.trials[trial_id]
        if isinstance(trial, Baseline) or error:  # errors are handled by the callback
            return
        if result is None or "failed" in result:
            self._search.tell(trial, "failed")
        elif result["step"] == self._spec.train.steps and (values := self.values(result)) is not None:
            self._search.tell(trial, "complete", values)
            self.final_values[trial] = values
        else:
            self._search.tell(trial, "pruned")

    def requeue(self, trial: TrialId) -> None:
        """Propose a trial again. Tune ends a trial whose actor is lost before the trial has started."""
        self._resumed[trial] = self.parameters[trial]
        self._queue.insert(0, trial)

    def fail(self, trial: TrialId) -> None:
        """Report to Optuna that a trial failed by an error."""
        if not isinstance(trial, Baseline):
            self._search.tell(trial, "failed")

    def values(self, result: dict[str, Any]) -> list[float] | None:
        """Return the values of the objectives in a result, or None if it lacks an objective or a replicate."""
        names = [*REPORT_KEY, *self._spec.objectives]  # to aggregate all metrics takes twice as long
        rows = [{name: row[name] for name in names if name in row} for row in result["rows"]]
        means = aggregate_trial(pd.DataFrame(rows), self._spec.replicates)
        if means["replicates"] < self._spec.replicates or any(name not in means for name in self._spec.objectives):
            return None
        return [means[name] for name in self._spec.objectives]

    def record(self, trial: TrialId, state: str, error: str | None = None, step: int = 0) -> None:
        """Write a row for a trial whose state changes."""
        parameters = self.parameters[trial]
        self._writer.add(
            "trials",
            {
                "trial": trial,
                "state": state,
                "error": error,
                "step": step,
                "trainer": self._trainer_of.get(trial),
                "sampler": json.dumps({} if isinstance(trial, Baseline) else self._search.attributes(trial)),
                **{f"config/{name}": parameters.get(name) for name in self._spec.space},
            },
        )

    def save(self, checkpoint_path: str) -> None:
        """Do nothing: a search resumes from the store."""

    restore = save

    def __getstate__(self) -> dict[str, Any]:
        """Return nothing to Tune, which pickles all its components; a study never resumes from that."""
        return {}


@dataclass(eq=False)
class StudyCallback(tune.Callback):
    """Records reports and states of trials, and calls the driver in each iteration of Tune's loop.

    Attributes:
        searcher: Searcher of the same run.
        steps: Full budget.
        on_state: Called with each trial whose state changes, its state, and the reason of a failure or interruption.
        on_step: Called several times a second; an error that it raises ends the run.
    """

    searcher: StudySearcher
    writer: StudyWriter
    steps: int
    on_state: Callable[[TrialId, str, str | None], None]
    on_step: Callable[[], None]
    _restarts: Counter[TrialId] = field(default_factory=Counter, init=False)
    _refused: str | None = field(default=None, init=False)

    def __getstate__(self) -> dict[str, Any]:
        """Return nothing, as the searcher does."""
        return {}

    def on_step_end(self, iteration: int, trials: list[Trial], **info: Any) -> None:
        """Call the driver.

        Raises:
            RunError: If a trainer has refused the study.
        """
        if self._refused is not None:  # Tune would wrap an error that `on_trial_result` raises
            raise RunError(self._refused)
        self.on_step()

    def on_trial_start(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """Announce that a trial has started."""
        self.on_state(self.searcher.trials[trial.trial_id], "running", None)

    def on_trial_result(
        self, iteration: int, trials: list[Trial], trial: Trial, result: dict[str, Any], **info: Any
    ) -> None:
        """Record the reports of a result."""
        self._refused = self._refused or result.get("refused")
        for row in result.get("rows", []):
            self.writer.add("reports", row)

    def on_trial_complete(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """Record a trial that reached the full budget, was stopped early, or returned that it failed."""
        trial_id, result = self.searcher.trials[trial.trial_id], trial.last_result or {}
        if "failed" in result:
            self._end(trial_id, "failed", result["failed"])
        else:
            step = result.get("step", 0)
            self._end(trial_id, "complete" if step == self.steps else "pruned", None, step)

    def on_trial_recover(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """Announce that a trial was interrupted, and that Tune restarts it."""
        trial_id, (reason, _) = self.searcher.trials[trial.trial_id], _failure(trial)
        logger.info("trial %s is restarted: %s", trial_id, reason)
        self.on_state(trial_id, "interrupted", reason)

    def on_trial_error(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """Record a trial that raised an error too often, or queue one whose actor was lost before it started."""
        trial_id, (reason, is_lost) = self.searcher.trials[trial.trial_id], _failure(trial)
        if is_lost and self._restarts[trial_id] < MAX_ACTOR_RESTARTS:
            self._restarts[trial_id] += 1
            logger.info("trial %s is queued again: %s", trial_id, reason)
            self.searcher.requeue(trial_id)
            self.on_state(trial_id, "interrupted", reason)
            return
        self.searcher.fail(trial_id)
        self._end(trial_id, "failed", reason)

    def _end(self, trial: TrialId, state: str, error: str | None, step: int = 0) -> None:
        self.searcher.record(trial, state, error, step)
        self.on_state(trial, state, error)


def _failure(trial: Trial) -> tuple[str, bool]:
    """Return the reason of a trial's last error in one line, and whether the error is the loss of its actor.

    Tune writes the text of every error to a file, and pickles errors of tasks and actors to another one, so the pickled
    error may be older than the text. Tune's own `get_error` reads copies that are made later.
    """
    text = Path(trial.error_file).read_text() if trial.error_file else ""
    pickled = Path(trial.pickled_error_file).read_bytes() if trial.pickled_error_file else None
    # Safe to unpickle: Tune wrote the file in this process, in a private temporary folder, never in the store.
    error = cloudpickle.loads(pickled) if pickled else None
    if error is not None and text.endswith(f"{error}\n"):
        cause = error.cause if isinstance(error, RayTaskError) else error
        is_lost = isinstance(cause, RayActorError) and not cause.actor_init_failed
    else:
        is_lost = text.endswith(f"{ActorPlacementGroupRemoved()}\n")
    *_, reason = ["unknown", *filter(None, map(str.strip, text.splitlines()))]
    return (_ACTOR_LOST if is_lost else reason), is_lost
