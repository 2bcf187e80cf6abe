"""The progress of a run: a live view on a terminal, otherwise lines of text."""

import math
import time
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from study.analysis import trial_name
from study.formatting import format_duration, format_number, format_rough_duration, objective_label
from study.runs.front_display import FrontDisplay
from study.runs.speed import TrainingSpeed
from study.spec import Baseline, Scalar, Spec, TrialId

# Minimum time between two lines of the same kind: the summary, the front, and the evaluation of the front.
_LINE_EVERY_S = 30.0
_MAX_ROWS, _MIN_ROWS = 16, 3
_BAR_WIDTH = 20
# A trial whose replicates left the trainer after this fraction of its steps is being evaluated.
_TRAINED_FRACTION = 0.9


class ProgressDisplay:
    """Shows the trials of a run with their progress, speed, time left, the front so far, and its evaluation.

    Args:
        spec: Spec of the study.
        target: Number of trials that the study is to have.
        console: Console to draw on.
        write_log: Receives each line, even if the live table replaces it on the terminal.
    """

    def __init__(self, spec: Spec, target: int, console: Console, write_log: Callable[[str], None]) -> None:
        self._spec = spec
        self._target = target
        self._states: Counter[str] = Counter()
        self._front = FrontDisplay(spec.objectives)
        self._is_front_new = False
        self._front_logged = -math.inf
        self._console = console
        self._write_log = write_log
        self._live = Live(console=console, refresh_per_second=4, transient=True) if console.is_terminal else None
        self._parameters: dict[TrialId, Mapping[str, Scalar]] = {}
        # Step by seed, of each running trial or baseline.
        self._running: dict[TrialId, dict[int, int]] = {}
        # Trained fraction of each running trial when its steps were last known.
        self._reached: dict[TrialId, float] = {}
        self._speed = TrainingSpeed()
        # Evaluations of front candidates that are done, and all of them.
        self._evaluation: tuple[int, int] | None = None
        self._logged_evaluation: tuple[int, int] | None = None
        self._evaluation_logged = 0.0
        self._phase = "starting Ray"
        self._summarised = time.monotonic()

    def __enter__(self) -> Self:
        if self._live:
            self._live.start()
            self._draw()
        return self

    def __exit__(self, error_type: type[BaseException] | None, *_: object) -> None:
        """Remove the live view. After a run without an error its plot of the front stays."""
        if self._live:
            self._live.stop()
            if self._front.trials and error_type is None:
                self._console.print(self._front.render(*self._console.size))

    def add_finished(self, state: str, trial: int, values: list[float] | None) -> None:
        """Count a finished trial, and keep the values of its objectives if it is complete."""
        self._states[state] += 1
        if values is not None and state == "complete":
            self._front.add(trial, values)

    def log(self, line: str) -> None:
        """Print a line, above the live table if there is one."""
        self._write_log(line)
        self._console.print(line, highlight=False, markup=False, soft_wrap=True)

    def set_phase(self, phase: str) -> None:
        """Show what the run does until training starts."""
        if phase != self._phase:
            self._phase = phase
            self._log_if_not_live(phase)
        self._draw()

    def start_trial(self, trial: TrialId, parameters: Mapping[str, Scalar]) -> None:
        """Add a trial or baseline to the running ones."""
        self._parameters[trial] = parameters
        self._running[trial] = {}
        self._reached[trial] = 0.0
        description = "baseline for comparison" if isinstance(trial, Baseline) else _assignments(parameters)
        self._log_if_not_live(f"{trial_name(trial)} started: {description}")

    def end_trial(self, trial: TrialId, state: str, error: str | None, values: list[float] | None) -> None:
        """Remove a finished trial or baseline from the running ones, and log its error or values."""
        self._running.pop(trial, None)
        self._reached.pop(trial, None)
        count = labels = ""
        if not isinstance(trial, Baseline):
            before = self._front.trials
            self.add_finished(state, trial, values)
            self._is_front_new |= self._front.trials != before
            named = zip(self._spec.objectives, values or [], strict=False)
            labels = ", ".join(f"{objective_label(name)} {format_number(value)}" for name, value in named)
            count = f" ({sum(self._states.values())} of {self._target})"
        if error:
            self.log(f"{trial_name(trial)} failed: {error}{count}")
        else:
            self._log_if_not_live(f"{trial_name(trial)} {state}{': ' if labels else ''}{labels}{count}")
        if self._are_all_finished:
            self._log_news()

    def set_evaluation(self, done: int, total: int) -> None:
        """Show how many evaluations of front candidates are done, beside or after training."""
        if done == 0:  # the caller logs the start
            self._logged_evaluation, self._evaluation_logged = (done, total), time.monotonic()
        self._evaluation = (done, total)
        if done == total:
            self._log_news()
        self._draw()

    def update(self, replicates: list[tuple[TrialId, int, int]], trained_steps: int) -> None:
        """Show trial, seed and step of each replicate that trains, and the speed from the steps of all replicates."""
        for steps in self._running.values():
            steps.clear()
        for trial, seed, step in replicates:
            if trial in self._running:  # its trainer may not know yet that the trial was stopped
                self._running[trial][seed] = step
        self._reached |= {trial: self._fraction_done(steps) for trial, steps in self._running.items() if steps}
        now = time.monotonic()
        self._speed.add(now, replicates, trained_steps)
        if now - self._summarised >= _LINE_EVERY_S and (self._running or not self._is_evaluating):
            self._summarised = now
            self._log_if_not_live(self._summary())
        self._log_news()
        self._draw()

    def _log_news(self) -> None:
        """Log the front and the progress of its evaluation, if they changed and were not logged recently."""
        now = time.monotonic()
        if self._is_front_new and (self._are_all_finished or now - self._front_logged >= _LINE_EVERY_S):
            self._is_front_new, self._front_logged = False, now
            self._log_if_not_live(self._front.line())
        if self._evaluation != self._logged_evaluation and (
            not (self._is_evaluating or self._running) or now - self._evaluation_logged >= _LINE_EVERY_S
        ):
            self._logged_evaluation, self._evaluation_logged = self._evaluation, now
            self._log_if_not_live(self._evaluation_text())

    @property
    def _are_all_finished(self) -> bool:
        return self._states.total() >= self._target

    def _log_if_not_live(self, line: str) -> None:
        """Log a line, without printing it if the live table shows the same."""
        if self._live:
            self._write_log(line)
        else:
            self.log(line)

    def _remaining_steps(self) -> int:
        """Return the steps of all replicates that are left to train, as many as halving is expected to leave."""
        to_start = max(0, self._target - sum(self._states.values()) - self._running_trials())
        full, expected = self._spec.train.steps, self._spec.expected_steps
        running = sum(
            expected(steps[0]) if self._is_climbing(steps) else sum(full - step for step in steps.values())
            for steps in self._running.values()
        )
        return running + to_start * expected()

    def _running_trials(self) -> int:
        return sum(not isinstance(trial, Baseline) for trial in self._running)

    def _is_climbing(self, steps: Mapping[int, int]) -> bool:
        """Return whether halving may still stop a trial: only seed 0 trains, and it is not past the last rung."""
        return set(steps) == {0} and steps[0] <= max(self._spec.rungs(), default=-1)

    def _fraction_done(self, steps: Mapping[int, int]) -> float:
        """Return the trained fraction of a trial's steps. Replicates without a step have reached the full budget."""
        if not steps:
            return 0.0
        full, replicates = self._spec.train.steps, self._spec.replicates
        to_start = replicates - 1 if self._is_climbing(steps) else 0
        left = to_start * full + sum(full - step for step in steps.values())
        return 1 - left / (full * replicates)

    def _summary(self) -> str:
        finished = sum(self._states.values())
        ended = "".join(f", {self._states[state]} {state}" for state in ("pruned", "failed") if self._states[state])
        baseline = " and the plain VAE" if Baseline.PLAIN_VAE in self._running else ""
        rate, steps = self._speed.total, self._remaining_steps()
        speed = f", {rate:.0f} trial-steps/s" if self._running else ""
        # The last trials are still evaluated when no step is left, which takes a time that is not known.
        left = f", {format_duration(steps / rate)} left" if rate > 0 and steps > 0 and self._running else ""
        return (
            f"{finished} of {self._target} trials done{ended}, {self._running_trials()} running{baseline}"
            f"{speed}{left}{self._next_trial()}"
        )

    def _next_trial(self) -> str:
        """Return when the next trial will be complete. Halving may stop it earlier."""
        name = f"{'next' if self._states.total() else 'first'} {'complete ' if self._spec.halving else ''}trial"
        trials = [trial for trial in self._running if not isinstance(trial, Baseline)]
        if any(map(self._is_being_evaluated, trials)):
            return f", {name} is being evaluated"
        times = [time for trial in trials if (time := self._seconds_left(trial)) is not None]
        return f", {name} in about {format_rough_duration(min(times))}" if times else ""

    def _is_being_evaluated(self, trial: TrialId) -> bool:
        return not self._running[trial] and self._reached[trial] >= _TRAINED_FRACTION

    def _seconds_left(self, trial: TrialId) -> float | None:
        """Return the time left to train a trial, if halving does not stop it; None if it is not known."""
        steps, full = self._running[trial], self._spec.train.steps
        left = {seed: full - step for seed, step in steps.items()}
        if self._is_climbing(steps) and self._spec.replicates > 1:  # the other seeds start after the last rung
            left = {0: full + max(self._spec.rungs()) - steps[0]}
        return self._speed.seconds_for(trial, left)

    @property
    def _is_evaluating(self) -> bool:
        return self._evaluation is not None and self._evaluation[0] < self._evaluation[1]

    def _evaluation_text(self) -> str:
        done, total = self._evaluation or (0, 0)
        return f"evaluat{'ing' if done < total else 'ed'} the front: {done} of {total} model evaluations"

    def _draw(self) -> None:
        if self._live:
            self._live.update(self._render())

    def _render(self) -> RenderableType:
        head = Text(f"study {self._spec.name}: ", style="bold")
        head.append(self._summary() if self._speed.has_samples else f"{self._phase} …", style="not bold")
        evaluation = [Text(self._evaluation_text())] if self._is_evaluating else []
        width, height = self._console.size
        front = self._front.render(width, height)
        # The head takes two lines, and the table's header and last row one each.
        free_rows = height - self._front.height(height) - len(evaluation) - 4
        running = [self._running_table(max(_MIN_ROWS, min(_MAX_ROWS, free_rows)))] if self._running else []
        return Group(head, *evaluation, *running, front)

    def _running_table(self, max_rows: int) -> RenderableType:
        trials = Table(box=None, pad_edge=False, header_style="dim")
        for column in ("trial", "progress", "left"):
            trials.add_column(column, no_wrap=True)
        trials.add_column("configuration")
        running = sorted(self._running, key=lambda trial: -1 if isinstance(trial, Baseline) else trial)
        for trial in running[:max_rows]:
            done = self._fraction_done(self._running[trial])
            left = "" if (seconds := self._seconds_left(trial)) is None else format_duration(seconds)
            if self._is_being_evaluated(trial):
                done, left = 1.0, "evaluation"
            full = round(done * _BAR_WIDTH)
            bar = f"{'━' * full}{'·' * (_BAR_WIDTH - full)} {done:4.0%}"
            name = trial.label if isinstance(trial, Baseline) else str(trial)
            # Rich narrows columns that may wrap first, so this one is cut and not the others.
            configuration = Text(_assignments(self._parameters.get(trial, {})), no_wrap=True, overflow="ellipsis")
            trials.add_row(name, bar, left, configuration)
        if len(running) > max_rows:
            trials.add_row("…", f"and {len(running) - max_rows} more", "", "")
        return trials


def _assignments(parameters: Mapping[str, Scalar]) -> str:
    return " ".join(
        f"{name}={format_number(value) if isinstance(value, float) else value}" for name, value in parameters.items()
    )
