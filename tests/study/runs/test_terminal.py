import io

import pytest
from rich.console import Console

from study.runs.terminal import ProgressDisplay
from study.spec import Baseline, parse_spec
from study.spec.resolve import resolve
from tests.messages import assert_mentions


@pytest.fixture
def spec(tiny):
    return resolve(parse_spec(tiny, "test")).spec


@pytest.fixture
def clock(monkeypatch):
    """Seconds, which a test sets."""
    now = [0.0]
    monkeypatch.setattr("study.runs.terminal.time.monotonic", lambda: now[0])
    return now


def display_on(spec, clock, *, terminal, log=None):
    out = io.StringIO()
    console = Console(file=out, force_terminal=terminal, width=110, height=40, color_system=None)
    display = ProgressDisplay(spec, 4, console, (log if log is not None else []).append)
    display.add_finished("complete", 0, [10.0, 0.5])
    return display, out


def go(display, clock):
    """Two trials begin, train for ten seconds at 3 steps/s each replicate, and one ends."""
    display.set_phase("starting the trainer")
    for trial in (1, 2):
        display.start_trial(trial, {"loss.private.gamma": 0.12345, "latent.private": 4})
    display.update([(trial, seed, 0) for trial in (1, 2) for seed in (0, 1)], 0)
    clock[0] = 5.0
    display.update([(trial, seed, 15) for trial in (1, 2) for seed in (0, 1)], 60)


def test_a_terminal_shows_counts_speed_time_left_progress_and_front(spec, clock):
    display, _ = display_on(spec, clock, terminal=True)
    with display:
        go(display, clock)
        console = Console(file=io.StringIO(), width=110)
        console.print(display._render())
    shown = console.file.getvalue()
    # 60 steps in 5 s; two running trials have 2 x 2 x 15 to go and one to come 2 x 30: 120 steps.
    assert_mentions(shown, "tiny", "1 of 4 trials", "2 running", "12 trial-steps/s", "10 s")
    (row,) = [line for line in shown.splitlines() if line.startswith("1 ")]
    assert "50%" in row
    assert "5 s" in row  # 15 steps in each of 4 lanes
    assert "loss.private.gamma=0.123" in row
    front = shown[shown.index("front so far") :]
    assert "log-mel RMSE (dB)" in front
    assert "0.5" in front


def test_a_trial_that_ends_leaves_the_list_and_may_enter_the_front(spec, clock):
    display, _ = display_on(spec, clock, terminal=True)
    with display:
        go(display, clock)
        display.end_trial(1, "complete", None, [9.0, 0.75])
        display.end_trial(2, "failed", "diverged: the loss of seed 0 is not finite at step 3", None)
        console = Console(file=io.StringIO(), width=110)
        console.print(display._render())
    shown = console.file.getvalue()
    assert_mentions(shown, "3 of 4 trials", "1 failed", "0 running")
    front = shown[shown.index("front so far") :].split()
    assert "0.75" in front
    assert "0.5" not in front  # beaten in both


def test_errors_are_printed_also_on_a_live_terminal(spec, clock):
    display, out = display_on(spec, clock, terminal=True)
    with display:
        go(display, clock)
        display.end_trial(2, "failed", "diverged: the loss of seed 0 is not finite at step 3", None)
    assert_mentions(
        out.getvalue(), "trial 2", "failed", "diverged: the loss of seed 0 is not finite at step 3", "2 of 4"
    )


def test_the_log_has_the_same_lines_with_a_live_view_as_without(spec, clock):
    logs = []
    for terminal in (True, False):
        clock[0] = 0.0
        logs.append([])
        display, _ = display_on(spec, clock, terminal=terminal, log=logs[-1])
        go(display, clock)
    assert logs[0] == logs[1]
    assert logs[0][0] == "starting the trainer"
    assert_mentions("\n".join(logs[0]), "trial 1", "started")


def test_without_a_terminal_there_are_plain_lines(spec, clock):
    display, out = display_on(spec, clock, terminal=False)
    with display:
        go(display, clock)
        clock[0] = 40.0
        display.update([(1, 0, 20)], 100)
        display.end_trial(1, "complete", None, [9.0, 0.75])
    phase, first, second, _, ended = out.getvalue().splitlines()
    assert phase == "starting the trainer"
    for number, line in enumerate((first, second), start=1):
        assert_mentions(line, f"trial {number}", "started", "loss.private.gamma=0.123", "latent.private=4")
    assert_mentions(ended, "trial 1", "complete", "log-mel RMSE (dB) 9", "separation (strong reader) 0.75", "2 of 4")
    assert "\x1b" not in out.getvalue()
    assert out.getvalue().count("trial-steps/s") == 1


@pytest.fixture
def halving(tiny):
    """100 steps of two replicates, half of the trials stopped at 20, at 40 and at 80."""
    tiny["train"] = {"steps": 100, "batch_pairs": 16, "reports": 1}
    return resolve(parse_spec({**tiny, "halving": {"reduction_factor": 2, "min_steps": 20}}, "test")).spec


def shown_by(display):
    console = Console(file=io.StringIO(), width=110)
    console.print(display._render())
    return console.file.getvalue()


def test_time_left_counts_what_halving_is_expected_to_leave(halving, clock):
    display, _ = display_on(halving, clock, terminal=True)
    with display:
        for trial in (1, 2):
            display.start_trial(trial, {})
        display.update([(1, 0, 0), (2, 0, 0)], 0)
        clock[0] = 10.0
        display.update([(1, 0, 60), (2, 0, 90), (2, 1, 70)], 220)
        shown = shown_by(display)
    # 22 steps/s. Trial 1 climbs: 20, then at half a chance 20 and the other seed's 100; trial 2 has 10 + 30 to go; one
    # is to come: 20 + 20/2 + 40/4 + (20 + 100)/8.
    assert halving.expected_steps(60) == 80
    assert halving.expected_steps() == 55
    assert_mentions(shown, "1 of 4 trials", "2 running", "22 trial-steps/s", "8 s")
    first, second = [line for line in shown.splitlines() if line.startswith(("1 ", "2 ")) and "%" in line]
    assert "30%" in first  # 60 of 200
    assert "80%" in second


def test_a_trial_whose_first_seed_is_done_is_not_set_back(halving, clock):
    display, _ = display_on(halving, clock, terminal=True)
    with display:
        display.start_trial(1, {})
        display.update([(1, 1, 50)], 0)
        (row,) = [line for line in shown_by(display).splitlines() if line.startswith("1 ") and "%" in line]
        assert "75%" in row


def test_pruned_trials_are_counted_and_do_not_come_back(halving, clock):
    display, out = display_on(halving, clock, terminal=False)
    with display:
        display.start_trial(1, {})
        display.update([(1, 0, 20)], 0)
        display.end_trial(1, "pruned", None, None)
        clock[0] = 1.0
        display.update([(1, 0, 21)], 1)  # its trainer still reports it
        clock[0] = 40.0
        display.update([], 1)
    assert_mentions(out.getvalue(), "trial 1", "pruned", "2 of 4")
    assert_mentions(out.getvalue(), "2 of 4 trials", "1 pruned", "0 running")


def test_many_trials_are_cut_short(spec, clock):
    display, _ = display_on(spec, clock, terminal=True)
    with display:
        for trial in range(20):
            display.start_trial(trial, {})
        console = Console(file=io.StringIO(), width=110)
        console.print(display._render())
    assert_mentions(console.file.getvalue(), "4 more")


def test_baselines_are_shown_as_running_but_not_counted_as_trials(spec, clock):
    display, out = display_on(spec, clock, terminal=False)
    display.start_trial(Baseline.PLAIN_VAE, {})
    for trial in (1, 2, 3):
        display.start_trial(trial, {})
        display.end_trial(trial, "complete", None, [9.0, 0.75])
    display.update([(Baseline.PLAIN_VAE, 0, 0), (Baseline.PLAIN_VAE, 1, 0)], 0)
    clock[0] = 10.0
    display.update([(Baseline.PLAIN_VAE, 0, 20), (Baseline.PLAIN_VAE, 1, 20)], 40)
    # 4 steps/s, and each of its two replicates has 10 to go.
    assert_mentions(display._summary(), "4 of 4 trials", "0 running", "plain VAE", "4 trial-steps/s", "5 s")
    assert "plain VAE" in shown_by(display)
    display.end_trial(Baseline.PLAIN_VAE, "failed", "diverged", None)
    assert_mentions(display._summary(), "4 of 4 trials", "0 running")
    assert "plain VAE" not in display._summary()
    lines = out.getvalue().splitlines()
    assert_mentions(lines[0], "plain VAE", "started")
    assert_mentions(lines[-1], "plain VAE", "failed", "diverged")
