import io

import pytest
from rich.console import Console

from study.configuration import resolve
from study.live import LiveView
from study.spec import parse_spec


@pytest.fixture
def spec(tiny):
    return resolve(parse_spec(tiny, "test"))


@pytest.fixture
def clock(monkeypatch):
    """Seconds, which a test sets."""
    now = [0.0]
    monkeypatch.setattr("study.live.time.monotonic", lambda: now[0])
    return now


def view_on(spec, clock, *, terminal):
    out = io.StringIO()
    console = Console(file=out, force_terminal=terminal, width=110, height=40, color_system=None)
    return LiveView(spec, 4, {"complete": 1}, {0: [10.0, 0.5]}, console), out


def go(view, clock):
    """Two trials begin, train for ten seconds at 3 steps/s each replicate, and one ends."""
    view.phase("starting the trainer")
    for trial in (1, 2):
        view.started(trial, {"loss.private.gamma": 0.12345, "latent.private": 4})
    view.progress([(trial, seed, 0) for trial in (1, 2) for seed in (0, 1)], 0)
    clock[0] = 5.0
    view.progress([(trial, seed, 15) for trial in (1, 2) for seed in (0, 1)], 60)


def test_a_terminal_shows_counts_speed_time_left_progress_and_front(spec, clock):
    view, _ = view_on(spec, clock, terminal=True)
    with view:
        go(view, clock)
        console = Console(file=io.StringIO(), width=110)
        console.print(view._render())
    shown = console.file.getvalue()
    # 60 steps in 5 s; two running trials have 2 x 2 x 15 to go and one to come 2 x 30: 120 steps.
    assert "study tiny: 1 of 4 trials done, 2 running, 12 trial-steps/s, 10 s left" in shown
    (row,) = [line for line in shown.splitlines() if line.startswith("1 ")]
    assert "50%" in row
    assert "5 s" in row  # 15 steps in each of 4 lanes
    assert "loss.private.gamma=0.123" in row
    front = shown[shown.index("front so far") :]
    assert "log-mel RMSE (dB)" in front
    assert "0.5" in front


def test_a_trial_that_ends_leaves_the_list_and_may_enter_the_front(spec, clock):
    view, _ = view_on(spec, clock, terminal=True)
    with view:
        go(view, clock)
        view.ended(1, "complete", None, [9.0, 0.75])
        view.ended(2, "failed", "diverged: the loss of seed 0 is not finite at step 3", None)
        console = Console(file=io.StringIO(), width=110)
        console.print(view._render())
    shown = console.file.getvalue()
    assert "3 of 4 trials done, 1 failed, 0 running" in shown
    front = shown[shown.index("front so far") :].split()
    assert "0.75" in front
    assert "0.5" not in front  # beaten in both


def test_what_went_wrong_is_said_even_on_a_live_terminal(spec, clock):
    view, out = view_on(spec, clock, terminal=True)
    with view:
        go(view, clock)
        view.ended(2, "failed", "diverged: the loss of seed 0 is not finite at step 3", None)
    assert "trial 2 failed: diverged: the loss of seed 0 is not finite at step 3 (2 of 4)" in out.getvalue()


def test_without_a_terminal_there_are_plain_lines(spec, clock):
    view, out = view_on(spec, clock, terminal=False)
    with view:
        go(view, clock)
        clock[0] = 40.0
        view.progress([(1, 0, 20)], 100)
        view.ended(1, "complete", None, [9.0, 0.75])
    assert out.getvalue().splitlines() == [
        "starting the trainer",
        "trial 1 started: loss.private.gamma=0.123 latent.private=4",
        "trial 2 started: loss.private.gamma=0.123 latent.private=4",
        *[line for line in out.getvalue().splitlines() if "trial-steps/s" in line],
        "trial 1 complete: log-mel RMSE (dB) 9, separation 0.75 (2 of 4)",
    ]
    assert "\x1b" not in out.getvalue()
    assert out.getvalue().count("trial-steps/s") == 1


def test_many_trials_are_cut_short(spec, clock):
    view, _ = view_on(spec, clock, terminal=True)
    with view:
        for trial in range(20):
            view.started(trial, {})
        console = Console(file=io.StringIO(), width=110)
        console.print(view._render())
    assert "and 4 more" in console.file.getvalue()
