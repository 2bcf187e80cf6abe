"""What the terminal shows while a study runs: a live view, or plain lines when nobody watches."""

import time
from collections import Counter, deque
from collections.abc import Callable, Mapping

import pandas as pd
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from study.analysis import trial_name
from study.analysis.pareto import pareto_front
from study.formatting import format_duration, format_number, objective_label
from study.spec import Baseline, Scalar, Spec, TrialId

__all__ = ["LiveView"]

_LINE_EVERY_S = 30.0
_RATE_OVER_S = 20.0
_SHOWN_TRIALS = 16


class LiveView:
    """Trials running, done and failed, progress and time left, speed, and the front so far.

    Args:
        spec: of the study.
        target: trials that the study shall have.
        done: trials by state that were there before.
        values: objectives of the trials that are complete already.
        console: where to draw; a live view on a terminal, else lines.
        log: is told each line, also those that a live view shows otherwise.
    """

    def __init__(
        self,
        spec: Spec,
        target: int,
        done: Mapping[str, int],
        values: Mapping[int, list[float]],
        console: Console,
        log: Callable[[str], None],
    ) -> None:
        self._spec = spec
        self._target = target
        self._states = Counter(done)
        self._values = dict(values)
        self._console = console
        self._log = log
        self._live = Live(console=console, refresh_per_second=4, transient=True) if console.is_terminal else None
        self._parameters: dict[TrialId, Mapping[str, Scalar]] = {}
        self._running: dict[TrialId, dict[int, int]] = {}
        self._samples: deque[tuple[float, int]] = deque()
        self._phase = "starting Ray"
        self._lined = time.monotonic()

    def __enter__(self) -> "LiveView":
        """Begin to draw."""
        if self._live:
            self._live.start()
            self._draw()
        return self

    def __exit__(self, *_: object) -> None:
        """Leave the terminal as it was."""
        if self._live:
            self._live.stop()

    def say(self, line: str) -> None:
        """Print a line above the view."""
        self._log(line)
        self._console.print(line, highlight=False, markup=False, soft_wrap=True)

    def phase(self, phase: str) -> None:
        """What is being done before training begins."""
        if phase != self._phase:
            self._phase = phase
            self._note(phase)
        self._draw()

    def started(self, trial: TrialId, parameters: Mapping[str, Scalar]) -> None:
        """A trial takes its place, or the plain VAE."""
        self._parameters[trial] = parameters
        self._running[trial] = {}
        what = "what trials are compared with" if isinstance(trial, Baseline) else _short(parameters)
        self._note(f"{trial_name(trial)} started: {what}")

    def ended(self, trial: TrialId, state: str, error: str | None, values: list[float] | None) -> None:
        """A trial is over, or the plain VAE."""
        self._running.pop(trial, None)
        if isinstance(trial, Baseline):
            if error:
                self.say(f"{trial_name(trial)}, which trials are compared with, failed: {error}")
            else:
                self._note(f"{trial_name(trial)} {state}")
            return
        self._states[state] += 1
        if values is not None and state == "complete":
            self._values[trial] = values
        named = ", ".join(
            f"{objective_label(name)} {format_number(value)}"
            for name, value in zip(self._spec.objectives, values or [], strict=False)
        )
        named = f": {named}" if named else ""
        over = sum(self._states.values())
        if error:
            self.say(f"trial {trial} failed: {error} ({over} of {self._target})")
        else:
            self._note(f"trial {trial} {state}{named} ({over} of {self._target})")

    def progress(self, replicates: list[tuple[TrialId, int, int]], trained_steps: int) -> None:
        """Trial, seed and step of each replicate, and steps trained so far by all."""
        for steps in self._running.values():
            steps.clear()
        for trial, seed, step in replicates:
            if trial in self._running:  # a trainer may not have heard yet that one was stopped
                self._running[trial][seed] = step
        now = time.monotonic()
        self._samples.append((now, trained_steps))
        while now - self._samples[0][0] > _RATE_OVER_S:
            self._samples.popleft()
        if now - self._lined >= _LINE_EVERY_S:
            self._lined = now
            self._note(self._summary())
        self._draw()

    def _note(self, line: str) -> None:
        """A line for those who see no live view."""
        if self._live:
            self._log(line)
        else:
            self.say(line)

    @property
    def _rate(self) -> float:
        """Trial-steps a second, over the last samples."""
        if len(self._samples) < 2:
            return 0.0
        (first_time, first_steps), (last_time, last_steps) = self._samples[0], self._samples[-1]
        return (last_steps - first_steps) / (last_time - first_time) if last_time > first_time else 0.0

    def _remaining(self) -> int:
        """Steps of all replicates that are still to be trained, where halving may stop a trial as many as expected."""
        to_come = max(0, self._target - sum(self._states.values()) - self._running_trials())
        now = 0
        for steps in self._running.values():
            if self._is_climbing(steps):
                now += self._spec.expected_steps(steps[0])
            else:
                now += sum(self._spec.train.steps - step for step in steps.values())
        return now + to_come * self._spec.expected_steps()

    def _running_trials(self) -> int:
        """How many; the plain VAE is none."""
        return sum(not isinstance(trial, Baseline) for trial in self._running)

    def _is_climbing(self, steps: Mapping[int, int]) -> bool:
        """Whether seed 0 of a trial is on its way to the last rung, and the other seeds may never start."""
        return set(steps) == {0} and steps[0] <= max(self._spec.rungs(), default=-1)

    def _share_done(self, steps: Mapping[int, int]) -> float:
        """Of all steps of a trial; who is not there any more is at the end."""
        if not steps:
            return 0.0
        full, replicates = self._spec.train.steps, self._spec.replicates
        to_start = replicates - 1 if self._is_climbing(steps) else 0
        left = to_start * full + sum(full - step for step in steps.values())
        return 1 - left / (full * replicates)

    def _summary(self) -> str:
        over = sum(self._states.values())
        ended = "".join(f", {self._states[state]} {state}" for state in ("pruned", "failed") if self._states[state])
        left = f", {format_duration(self._remaining() / self._rate)} left" if self._rate > 0 else ""
        beside = " and the plain VAE" if Baseline.PLAIN_VAE in self._running else ""
        return (
            f"{over} of {self._target} trials done{ended}, {self._running_trials()} running{beside}, "
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
        for trial, steps in running[:_SHOWN_TRIALS]:
            bar, configuration = _bar(self._share_done(steps)), _short(self._parameters.get(trial, {}))
            number = trial.label if isinstance(trial, Baseline) else str(trial)
            trials.add_row(number, bar, self._left(steps), configuration)
        if len(running) > _SHOWN_TRIALS:
            trials.add_row("…", f"and {len(running) - _SHOWN_TRIALS} more", "", "")
        return Group(head, trials, self._front())

    def _left(self, steps: Mapping[int, int]) -> str:
        """Time left of one trial: every lane gets an equal share of the speed."""
        lanes = sum(len(others) for others in self._running.values())
        if not steps or not self._rate or not lanes:
            return ""
        return format_duration((self._spec.train.steps - min(steps.values())) * lanes / self._rate)

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
        for trial, row in front.head(_SHOWN_TRIALS).iterrows():
            table.add_row(str(trial), *(format_number(row[name]) for name in names))
        return table


def _bar(share: float, width: int = 20) -> str:
    full = round(share * width)
    return f"{'━' * full}{'·' * (width - full)} {share:4.0%}"


def _short(parameters: Mapping[str, Scalar]) -> str:
    return " ".join(
        f"{name}={format_number(value) if isinstance(value, float) else value}" for name, value in parameters.items()
    )
