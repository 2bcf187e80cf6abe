"""The front of a running study: a plot beside a table on a terminal, and one line in a log."""

from collections.abc import Mapping

import pandas as pd
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from study.analysis.pareto import pareto_front
from study.formatting import format_number, objective_label
from study.runs.scatter import MARGIN, scatter_plot

_PLOT_WIDTH, _MIN_PLOT_WIDTH = 40, 20
_PLOT_HEIGHT, _MIN_PLOT_HEIGHT = 10, 4
# Lines of the plot around its area: title, frame and the lower axis.
_AROUND_PLOT = 5
_MIN_TABLE_WIDTH = 24
_MAX_IN_LINE = 8


class FrontDisplay:
    """The complete trials of a study and its front, for the progress display.

    Args:
        objectives: Direction of each objective.
    """

    def __init__(self, objectives: Mapping[str, str]) -> None:
        self._objectives = objectives
        self._values: dict[int, list[float]] = {}
        self._front: pd.DataFrame | None = None

    def add(self, trial: int, values: list[float]) -> None:
        """Add a complete trial with the values of its objectives."""
        self._values[trial] = values
        self._front = None

    @property
    def trials(self) -> list[int]:
        """Numbers of the trials on the front, by the first objective."""
        return [int(trial) for trial in self._table().index] if self._values else []

    def line(self) -> str:
        """Return the front in one line."""
        table = self._table()
        points = [
            f"trial {trial} at {' / '.join(map(format_number, row))}"
            for trial, *row in table.head(_MAX_IN_LINE).itertuples()
        ]
        if len(table) > _MAX_IN_LINE:
            points.append(f"and {len(table) - _MAX_IN_LINE} more")
        labels = " / ".join(map(objective_label, self._objectives))
        return f"{self._title}, {len(self._values)} complete, by {labels}: {', '.join(points)}"

    def height(self, console_height: int) -> int:
        """Return the number of lines of `render`."""
        return self._plot_height(console_height) + _AROUND_PLOT if self._values else 1

    def render(self, console_width: int, console_height: int) -> RenderableType:
        """Return the plot, with the table beside it or, on a narrow terminal, below it."""
        if not self._values:
            return Text("no trial is complete yet", style="dim")
        width, height = min(_PLOT_WIDTH, console_width - MARGIN), self._plot_height(console_height)
        if width < _MIN_PLOT_WIDTH:
            return self._render_table(height)
        drawn = scatter_plot(self._values, self.trials, self._objectives, width, height)
        plot = Text(drawn, no_wrap=True)
        plot.highlight_regex(r"\*\d*|\d+(?=\*)|[^\w\s] better|better [^\w\s]", "bold green")
        title = Text(f"{self._title}, {len(self._values)} trials complete (* front, · others)", style="italic")
        if console_width < width + MARGIN + _MIN_TABLE_WIDTH:
            return Group(title, plot, self._render_table(height))
        beside = Table.grid(padding=(0, 2, 0, 0))
        beside.add_column(no_wrap=True)  # the table wraps, not the plot
        beside.add_row(plot, self._render_table(height))
        return Group(title, beside)

    @property
    def _title(self) -> str:
        return "front so far" if len(self._objectives) > 1 else "best so far"

    def _table(self) -> pd.DataFrame:
        if self._front is None:
            names = list(self._objectives)
            values = pd.DataFrame.from_dict(self._values, orient="index", columns=names)
            self._front = values[pareto_front(values, self._objectives)].sort_values(names[0], kind="stable")
        return self._front

    def _plot_height(self, console_height: int) -> int:
        """Return the rows of the plot's area: the plot with its frame takes about half of a low terminal."""
        return max(_MIN_PLOT_HEIGHT, min(_PLOT_HEIGHT, console_height // 2 - _AROUND_PLOT + 1))

    def _render_table(self, max_rows: int) -> RenderableType:
        table = Table(box=None, pad_edge=False, header_style="dim")
        table.add_column("trial")
        for name in self._objectives:
            table.add_column(objective_label(name), justify="right")
        front = self._table()
        for trial, *row in front.head(max_rows).itertuples():
            table.add_row(str(trial), *map(format_number, row))
        if len(front) > max_rows:
            table.add_row("…", f"and {len(front) - max_rows} more")
        return table
