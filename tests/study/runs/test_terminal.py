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
        display.update([(2, 0, 20)], 100)
    phase, first, second, _, ended, front = out.getvalue().splitlines()
    assert phase == "starting the trainer"
    for number, line in enumerate((first, second), start=1):
        assert_mentions(line, f"trial {number}", "started", "loss.private.gamma=0.123", "latent.private=4")
    assert_mentions(ended, "trial 1", "complete", "log-mel RMSE (dB) 9", "separation (strong reader) 0.75", "2 of 4")
    assert_mentions(front, "front so far", "2 complete", "separation (strong reader)", "trial 1 at 9 / 0.75")
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


def lines_of(out):
    """Return the lines that were printed since the last call."""
    lines = out.getvalue().splitlines()
    out.truncate(0)
    out.seek(0)
    return lines


def complete(display, trial, values):
    display.start_trial(trial, {})
    display.end_trial(trial, "complete", None, values)


def test_the_front_is_logged_when_it_changes_but_at_most_every_thirty_seconds(spec, clock):
    display, out = display_on(spec, clock, terminal=False)

    def logged_front():
        display.update([], 0)
        return [line for line in lines_of(out) if line.startswith("front so far")]

    display._target = 10
    assert logged_front() == []  # trial 0 is of an earlier run
    complete(display, 1, [9.0, 0.4])
    (front,) = logged_front()
    assert_mentions(front, "trial 1 at 9 / 0.4, trial 0 at 10 / 0.5")
    clock[0] = 10.0
    complete(display, 2, [8.0, 0.3])
    clock[0] = 29.0
    assert logged_front() == []
    clock[0] = 30.0
    (front,) = logged_front()
    assert_mentions(front, "trial 2 at 8 / 0.3", "trial 1 at 9 / 0.4")
    clock[0] = 90.0
    complete(display, 3, [11.0, 0.1])  # dominated
    assert logged_front() == []


def test_the_front_is_logged_at_once_with_the_last_trial(spec, clock):
    display, out = display_on(spec, clock, terminal=False)
    for trial in (1, 2, 3):
        complete(display, trial, [10.0 - trial, 0.5 - trial / 10])
    (front,) = [line for line in lines_of(out) if line.startswith("front so far")]
    assert_mentions(front, "4 complete", "trial 3", "trial 2", "trial 1", "trial 0")


def test_a_run_without_earlier_trials_logs_its_first_trials_as_the_front(spec, clock):
    out = io.StringIO()
    display = ProgressDisplay(spec, 4, Console(file=out, width=110), lambda line: None)
    display.start_trial(0, {})
    display.end_trial(0, "failed", "diverged", None)
    complete(display, 1, [9.0, 0.4])
    complete(display, 2, [8.0, 0.3])
    display.update([], 0)  # trials that end together are logged together
    (front,) = [line for line in lines_of(out) if "front" in line]
    assert_mentions(front, "2 complete", "log-mel RMSE (dB) / separation (strong reader)")
    assert_mentions(front, "trial 2 at 8 / 0.3, trial 1 at 9 / 0.4")


@pytest.mark.parametrize("width", [110, 80, 40, 20])
def test_the_live_view_draws_the_front_within_the_terminal(spec, clock, width):
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, width=width, height=24, color_system=None)
    display = ProgressDisplay(spec, 40, console, lambda line: None)
    display.start_trial(0, {})
    assert "┌" not in shown_on(console, display)
    for trial in range(30):
        complete(display, trial, [10.0 - trial / 10, 0.5 - trial / 100])
    for trial in range(30, 40):
        display.start_trial(trial, {"loss.private.gamma": 0.12345})
    shown = shown_on(console, display)
    assert max(map(len, shown.splitlines())) <= width
    assert ("↖ better" in shown) == (width > 32)
    assert "front so far" in shown or width == 20
    if width >= 80:  # nothing is cut off
        assert len(shown.splitlines()) <= 24
        assert_mentions(shown, "log-mel RMSE (dB)", "10", "7.1")
        assert_mentions(shown, "29", "7.1", "0.21")


def shown_on(console, display):
    with console.capture() as captured:
        console.print(display._render())
    return captured.get()


def test_with_one_objective_the_best_trial_is_shown_among_all_in_order(tiny, clock):
    spec = resolve(parse_spec({**tiny, "objectives": {"fidelity/log_mel_rmse_db": "min"}}, "test")).spec
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, width=110, height=40, color_system=None)
    display = ProgressDisplay(spec, 4, console, lambda line: None)
    for trial, value in enumerate((9.0, 7.0, 8.0)):
        complete(display, trial, [value])
    assert_mentions(shown_on(console, display), "best so far", "3 trials")
    assert_mentions(shown_on(console, display), "*1")
    assert display._front.line() == "best so far, 3 complete, by log-mel RMSE (dB): trial 1 at 7"


def test_the_plot_of_the_front_stays_on_the_terminal_unless_the_run_fails(spec, clock):
    display, out = display_on(spec, clock, terminal=True)
    with display:
        pass
    assert "↖ better" in out.getvalue().rsplit("\x1b", 1)[1]
    display, out = display_on(spec, clock, terminal=True)
    with pytest.raises(KeyboardInterrupt), display:
        raise KeyboardInterrupt
    assert "↖ better" not in out.getvalue().rsplit("\x1b", 1)[1]


def test_the_summary_estimates_when_the_trial_nearest_to_its_end_is_due(spec, clock):
    display, _ = display_on(spec, clock, terminal=False)
    for trial in (1, 2):
        display.start_trial(trial, {})
    display.update([(1, 0, 0), (1, 1, 0), (2, 0, 0)], 0)
    assert "trial in" not in display._summary()
    clock[0] = 10.0
    display.update([(1, 0, 10), (1, 1, 2), (2, 0, 10)], 22)
    # Trial 1 waits for its seed 1, which has 28 steps to go at 0.2 steps/s; trial 2 has 20 to go at 1 step/s.
    assert display._summary().endswith("next trial in about 20 s")
    display.start_trial(Baseline.PLAIN_VAE, {})
    display.update([(Baseline.PLAIN_VAE, 0, 29), (1, 0, 10), (1, 1, 2), (2, 0, 10)], 22)
    assert display._summary().endswith("next trial in about 20 s")
    clock[0] = 28.0
    display.update([(1, 0, 28), (1, 1, 6), (2, 0, 28)], 62)
    clock[0] = 30.0
    display.update([(1, 0, 30), (1, 1, 6)], 66)
    assert display._summary().endswith("next trial is being evaluated")
    (row,) = [line for line in shown_by(display).splitlines() if line.startswith("2 ") and "%" in line]
    assert "100%" in row


def test_until_a_trial_has_finished_the_first_one_is_due(spec, clock):
    display = ProgressDisplay(spec, 4, Console(file=io.StringIO()), lambda line: None)
    display.start_trial(0, {})
    display.update([(0, 0, 0)], 0)
    clock[0] = 10.0
    display.update([(0, 0, 2)], 2)
    assert display._summary().endswith("first trial in about 2 min")
    display.end_trial(0, "failed", "diverged", None)
    assert "first" not in display._summary()


def test_with_halving_the_next_complete_trial_has_all_rungs_and_the_other_seeds_to_go(halving, clock):
    display, _ = display_on(halving, clock, terminal=False)
    display.start_trial(1, {})
    display.update([(1, 0, 0)], 0)
    clock[0] = 10.0
    display.update([(1, 0, 60)], 60)
    assert display._summary().endswith("next complete trial in about 20 s")  # 20 to the last rung and 100, at 6 steps/s


def test_the_evaluation_of_the_front_replaces_the_summary_after_training(spec, clock):
    display, out = display_on(spec, clock, terminal=False)
    display.update([], 100)
    display.set_evaluation(0, 8)
    for now, done in ((10.0, 1), (29.0, 2), (31.0, 3), (50.0, 4), (62.0, 5)):
        clock[0] = now
        display.set_evaluation(done, 8)
        display.update([], 100)
    assert lines_of(out) == [f"evaluating the front: {done} of 8 model evaluations" for done in (3, 5)]
    clock[0] = 200.0
    display.update([], 100)
    assert lines_of(out) == []  # no progress
    clock[0] = 201.0
    display.set_evaluation(6, 8)
    display.update([], 100)
    clock[0] = 202.0
    display.set_evaluation(8, 8)
    assert lines_of(out) == [
        "evaluating the front: 6 of 8 model evaluations",
        "evaluated the front: 8 of 8 model evaluations",
    ]


def test_an_evaluation_beside_training_leaves_the_summary_as_it_is(spec, clock):
    display, out = display_on(spec, clock, terminal=False)
    display.start_trial(1, {})
    display.update([(1, 0, 0)], 0)
    lines_of(out)
    display.set_evaluation(0, 8)
    for now, done in ((10.0, 8), (31.0, 8)):
        clock[0] = now
        display.set_evaluation(done, 8)
        display.update([(1, 0, round(now) // 2)], round(now) // 2)
    evaluated, summary = lines_of(out)
    assert evaluated == "evaluated the front: 8 of 8 model evaluations"
    assert_mentions(summary, "1 of 4 trials", "1 running", "trial-steps/s")


def test_the_live_view_shows_the_evaluation_until_it_is_done(spec, clock):
    display, _ = display_on(spec, clock, terminal=True)
    with display:
        display.update([], 100)
        display.set_evaluation(3, 8)
        assert_mentions(shown_by(display), "evaluating the front", "3 of 8")
        assert "trial-steps/s" not in shown_by(display)
        display.set_evaluation(8, 8)
        assert "evaluat" not in shown_by(display)


def test_a_long_configuration_is_cut_and_not_the_progress(spec, clock):
    display, _ = display_on(spec, clock, terminal=True)
    display.start_trial(1, {f"parameter.{number}": number for number in range(20)})
    display.update([(1, 0, 0), (1, 1, 0)], 0)
    clock[0] = 10.0
    display.update([(1, 0, 15), (1, 1, 15)], 30)
    (row,) = [line for line in shown_by(display).splitlines() if line.startswith("1 ")]
    assert_mentions(row, "50%", "10 s", "parameter.0=0", "…")


def test_the_live_view_has_no_table_of_running_trials_when_none_runs(spec, clock):
    display, _ = display_on(spec, clock, terminal=True)
    assert "configuration" not in shown_by(display)
    display.start_trial(1, {})
    assert "configuration" in shown_by(display)


def test_on_a_low_terminal_the_plot_is_lower_and_fewer_trials_are_listed(spec):
    console = Console(file=io.StringIO(), force_terminal=True, width=110, height=16, color_system=None)
    display = ProgressDisplay(spec, 40, console, lambda line: None)
    for trial in range(10):
        complete(display, trial, [10.0 - trial / 10, 0.5 - trial / 100])
        display.start_trial(10 + trial, {})
    shown = shown_on(console, display)
    assert len(shown.splitlines()) <= 16
    assert_mentions(shown, "7 more")
    assert sum("│" in line for line in shown.splitlines()) == 4
