"""Progress of long commands: in place on a terminal, otherwise as lines."""

import io

import pytest
from rich.console import Console

from study import progress
from study.progress import progress_bar, progress_line


@pytest.fixture
def clock(monkeypatch):
    """A clock that a test sets: a list whose last item is the time, in seconds."""
    times = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: times[-1])
    return times


def test_without_a_terminal_progress_is_a_line_every_half_minute(clock):
    console = Console(file=io.StringIO())
    with progress_bar(console, "evaluating", "models") as show:
        show(0, 100)
        for seconds in (10.0, 31.0, 40.0):
            clock.append(seconds)
            show(int(seconds), 100)
    assert console.file.getvalue() == "evaluating: 31 of 100 models, 1.0 models/s, 1 min 09 s left\n"


def test_items_of_earlier_runs_do_not_count_for_the_rate(clock):
    console = Console(file=io.StringIO())
    with progress_bar(console, "preparing", "clips") as show:
        show(5_000, 10_000)
        clock.append(50.0)
        show(6_000, 10_000)
    assert console.file.getvalue() == "preparing: 6,000 of 10,000 clips, 20 clips/s, 3 min 20 s left\n"


def test_on_a_terminal_progress_is_a_bar_that_disappears():
    console = Console(file=io.StringIO(), force_terminal=True, width=80)
    with progress_bar(console, "exporting", "models") as show:
        show(1, 2)
    text = console.file.getvalue()
    assert "exporting" in text
    assert "1/2" in text
    assert text.endswith("\x1b[2K")


def test_steps_are_lines_without_a_terminal_and_replace_each_other_on_one():
    plain, terminal = Console(file=io.StringIO()), Console(file=io.StringIO(), force_terminal=True)
    for console in (plain, terminal):
        with progress_line(console) as show:
            show("planning")
            show("measuring")
    assert plain.file.getvalue() == "planning …\nmeasuring …\n"
    assert "\x1b[2K" in terminal.file.getvalue()
