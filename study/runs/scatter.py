"""Scatter plot of complete trials in characters."""

import math
from collections.abc import Container, Mapping, Sequence

from study.formatting import format_number, objective_label

# Maximum width of the frame's sides and the numbers beside it.
MARGIN = 12


def scatter_plot(
    trials: Mapping[int, Sequence[float]],
    front: Container[int],
    objectives: Mapping[str, str],
    width: int = 40,
    height: int = 10,
) -> str:
    """Draw trials as dots, and those on the front as stars with their numbers where these cover no other trial.

    The axes are the first two objectives, or the number of the trial and the only objective.

    Args:
        trials: Objectives of each complete trial. Trials with a value that is not finite are left out.
        front: Numbers of the trials on the front.
        objectives: Direction of each objective, `min` or `max`.
        width: Columns inside of the frame.
        height: Rows inside of the frame.

    Returns:
        Lines of at most `width + MARGIN` characters; empty if no trial is drawn.
    """
    names, has_two = list(objectives)[:2], len(objectives) > 1
    points = {trial: values[:2] if has_two else (trial, *values) for trial, values in sorted(trials.items())}
    points = {trial: point for trial, point in points.items() if all(map(math.isfinite, point))}
    if not points:
        return ""
    left, right = _axis_range([x for x, _ in points.values()])
    bottom, top = _axis_range([y for _, y in points.values()])
    rows = [[" "] * width for _ in range(height)]
    cells = {
        trial: (rows[_cell(y, top, bottom, height)], _cell(x, left, right, width)) for trial, (x, y) in points.items()
    }
    for row, column in cells.values():
        row[column] = "·"
    stars = {trial: cell for trial, cell in cells.items() if trial in front}
    for row, column in stars.values():
        row[column] = "*"
    for trial, (row, column) in stars.items():
        _write_number(row, column, str(trial))

    is_right, is_up = has_two and objectives[names[0]] == "max", objectives[names[-1]] == "max"
    arrow = "↙↘↖↗"[2 * is_up + is_right] if has_two else "↓↑"[is_up]
    better = f" better {arrow}".rjust(width, "─") if is_right else f"{arrow} better ".ljust(width, "─")
    upper, lower = (better, "─" * width) if is_up else ("─" * width, better)
    high, low, start, end = map(format_number, (top, bottom, left, right))
    indent, room = max(len(high), len(low)), width - len(start) - len(end)
    return "\n".join(
        [
            _cut(objective_label(names[-1]), width + indent + 2),
            f"{high:>{indent}}┌{upper}┐",
            *(f"{'':{indent}}│{''.join(row)}│" for row in rows),
            f"{low:>{indent}}└{lower}┘",
            f"{'':{indent}} {start}{_cut(objective_label(names[0]) if has_two else 'trial', room - 2):^{room}}{end}",
        ]
    )


def _axis_range(values: Sequence[float]) -> tuple[float, float]:
    """Return the lowest and the highest value, or numbers around the only value."""
    low, high = min(values), max(values)
    pad = 0.0 if low < high else abs(low) / 20 or 1.0
    return low - pad, high + pad


def _cell(value: float, start: float, end: float, cells: int) -> int:
    """Return the index of a value's cell on an axis from `start` to `end`."""
    span = end / 2 - start / 2  # the difference itself may overflow
    return round((value / 2 - start / 2) / span * (cells - 1)) if span else 0


def _write_number(row: list[str], column: int, number: str) -> None:
    """Write a number to the right or to the left of a star, if a blank separates it from the next trial or number."""
    for first, around in (
        (column + 1, row[column + 1 : column + len(number) + 2]),
        (column - len(number), row[max(0, column - len(number) - 1) : column]),
    ):
        if 0 <= first <= len(row) - len(number) and not "".join(around).strip():
            row[first : first + len(number)] = number
            return


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else f"{text[: width - 1]}…"
