"""The progress of a run: a live view on a terminal, otherwise lines of text."""

import time
from collections import Counter, deque
from collections.abc import Callable, Mapping
from typing import Self

import pandas as pd
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from study.analysis import trial_name
from study.analysis.pareto import pareto_front
from study.formatting import format_duration, format_number, objective_label
from study.spec import Baseline, Scalar, Spec, TrialId

_SUMMARY_EVERY_S = 30.0
_RATE_WINDOW_S = 20.0
_MAX_ROWS = 16
_BAR_WIDTH = 20


class ProgressDisplay:
    """Shows the trials of a run with their progress, speed, time left, and the front so far.

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
        self._values: dict[int, list[float]] = {}
        self._console = console
        self._write_log = write_log
        self._live = Live(console=console, refresh_per_second=4, transient=True) if console.is_terminal else None
        self._parameters: dict[TrialId, Mapping[str, Scalar]] = {}
        # Step by seed, of each running trial or baseline.
        self._running: dict[TrialId, dict[int, int]] = {}
        self._samples: deque[tuple[float, int]] = deque()
        self._phase = "starting Ray"
        self._summarised = time.monotonic()

    def __enter__(self) -> Self:
        if self._live:
            self._live.start()
            self._draw()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live:
            self._live.stop()

    def add_finished(self, state: str, trial: int, values: list[float] | None) -> None:
        """Count a finished trial, and keep the values of its objectives if it is complete."""
        self._states[state] += 1
        if values is not None and state == "complete":
            self._values[trial] = values

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
        description = "baseline for comparison" if isinstance(trial, Baseline) else _assignments(parameters)
        self._log_if_not_live(f"{trial_name(trial)} started: {description}")

    def end_trial(self, trial: TrialId, state: str, error: str | None, values: list[float] | None) -> None:
        """Remove a finished trial or baseline from the running ones, and log its error or values."""
        self._running.pop(trial, None)
        count = labels = ""
        if not isinstance(trial, Baseline):
            self.add_finished(state, trial, values)
            named = zip(self._spec.objectives, values or [], strict=False)
            labels = ", ".join(f"{objective_label(name)} {format_number(value)}" for name, value in named)
            count = f" ({sum(self._states.values())} of {self._target})"
        if error:
            self.log(f"{trial_name(trial)} failed: {error}{count}")
        else:
            self._log_if_not_live(f"{trial_name(trial)} {state}{': ' if labels else ''}{labels}{count}")

    def update(self, replicates: list[tuple[TrialId, int, int]], trained_steps: int) -> None:
        """Show trial, seed and step of each replicate that trains, and the speed from the steps of all replicates."""
        for steps in self._running.values():
            steps.clear()
        for trial, seed, step in replicates:
            if trial in self._running:  # its trainer may not know yet that the trial was stopped
                self._running[trial][seed] = step
        now = time.monotonic()
        self._samples.append((now, trained_steps))
        while now - self._samples[0][0] > _RATE_WINDOW_S:
            self._samples.popleft()
        if now - self._summarised >= _SUMMARY_EVERY_S:
            self._summarised = now
            self._log_if_not_live(self._summary())
        self._draw()

    def _log_if_not_live(self, line: str) -> None:
        """Log a line, without printing it if the live table shows the same."""
        if self._live:
            self._write_log(line)
        else:
            self.log(line)

    @property
    def _rate(self) -> float:
        """Trial-steps per second, over the last samples."""
        if len(self._samples) < 2:
            return 0.0
        (first_time, first_steps), (last_time, last_steps) = self._samples[0], self._samples[-1]
        return (last_steps - first_steps) / (last_time - first_time) if last_time > first_time else 0.0

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
        left = f", {format_duration(self._remaining_steps() / self._rate)} left" if self._rate > 0 else ""
        baseline = " and the plain VAE" if Baseline.PLAIN_VAE in self._running else ""
        return (
            f"{finished} of {self._target} trials done{ended}, {self._running_trials()} running{baseline}, "
            f"{self._rate:.0f} trial-steps/s{left}"
        )

    def _draw(self) -> None:
        if self._live:
            self._live.update(self._render())

    def _render(self) -> RenderableType:
        head = Text(f"study {self._spec.name}: ", style="bold")
        head.append(self._summary() if self._samples else f"{self._phase} …", style="not bold")
        trials = Table(box=None, pad_edge=False, header_style="dim")
        for column in ("trial", "progress", "left", "configuration"):
            trials.add_column(column, no_wrap=True, overflow="ellipsis")
        running = sorted(self._running.items(), key=lambda item: -1 if isinstance(item[0], Baseline) else item[0])
        for trial, steps in running[:_MAX_ROWS]:
            done = self._fraction_done(steps)
            full = round(done * _BAR_WIDTH)
            bar = f"{'━' * full}{'·' * (_BAR_WIDTH - full)} {done:4.0%}"
            name = trial.label if isinstance(trial, Baseline) else str(trial)
            trials.add_row(name, bar, self._time_left(steps), _assignments(self._parameters.get(trial, {})))
        if len(running) > _MAX_ROWS:
            trials.add_row("…", f"and {len(running) - _MAX_ROWS} more", "", "")
        return Group(head, trials, self._front())

    def _time_left(self, steps: Mapping[int, int]) -> str:
        """Return the time left of one trial. Each replicate trains at the same speed."""
        replicates = sum(map(len, self._running.values()))
        if not steps or not self._rate:
            return ""
        return format_duration((self._spec.train.steps - min(steps.values())) * replicates / self._rate)

    def _front(self) -> RenderableType:
        if not self._values:
            return Text("no trial is complete yet", style="dim")
        names = list(self._spec.objectives)
        values = pd.DataFrame.from_dict(self._values, orient="index", columns=names)
        front = values[pareto_front(values, self._spec.objectives)].sort_values(names[0])
        table = Table(box=None, pad_edge=False, header_style="dim", title="front so far", title_justify="left")
        table.add_column("trial")
        for name in names:
            table.add_column(objective_label(name), justify="right")
        for trial, row in front.head(_MAX_ROWS).iterrows():
            table.add_row(str(trial), *(format_number(row[name]) for name in names))
        return table


def _assignments(parameters: Mapping[str, Scalar]) -> str:
    return " ".join(
        f"{name}={format_number(value) if isinstance(value, float) else value}" for name, value in parameters.items()
    )
