"""Progress on a console: a bar or a changing line on a terminal, otherwise lines."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from study.formatting import format_duration

_LINE_EVERY_S = 30.0


@contextmanager
def progress_bar(console: Console, activity: str, unit: str) -> Iterator[Callable[[int, int], None]]:
    """Show how many items are finished: a bar on a terminal, otherwise a line every half minute.

    Args:
        console: Console for messages.
        activity: What is done, such as `preparing`.
        unit: Plural of the items, such as `clips`.

    Yields:
        Function that takes the number of finished items and of all items.
    """
    columns = (TextColumn(activity), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[rate]}"))
    is_terminal = console.is_terminal
    with Progress(*columns, TimeRemainingColumn(), console=console, transient=True, disable=not is_terminal) as bar:
        task = bar.add_task(activity, total=None, rate="")
        start: tuple[float, int] | None = None
        printed = time.monotonic()

        def show(done: int, total: int) -> None:
            nonlocal start, printed
            now = time.monotonic()
            start = start or (now, done)  # items that earlier runs finished do not count for the rate
            rate = (done - start[1]) / (now - start[0]) if now > start[0] else 0.0
            speed = f"{rate:,.0f} {unit}/s" if rate >= 10 else f"{rate:.1f} {unit}/s"
            bar.update(task, completed=done, total=total, rate=speed)
            if not is_terminal and now - printed > _LINE_EVERY_S:
                printed = now
                left = f", {format_duration((total - done) / rate)} left" if rate else ""
                line = f"{activity}: {done:,} of {total:,} {unit}, {speed}{left}"
                console.print(line, markup=False, soft_wrap=True)

        yield show


@contextmanager
def progress_line(console: Console) -> Iterator[Callable[[str], None]]:
    """Show the current step of a command: one line that changes on a terminal, otherwise a line for each step.

    Yields:
        Function that takes the name of a step.
    """
    if console.is_terminal:
        with console.status("") as status:
            yield status.update
    else:
        yield lambda step: console.print(f"{step} …", markup=False, soft_wrap=True)
