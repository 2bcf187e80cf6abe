"""Results as a table that a person reads: numbers with their spread and unit."""

import math

import pandas as pd
from rich.table import Table

from study.spec import Spec
from study.store.study_objects import printable

_LABELS = {
    "fidelity/log_mel_rmse_db": "log-mel RMSE (dB)",
    "disentanglement/separation": "separation",
    "disentanglement/mig": "MIG",
}

__all__ = [
    "cell_text",
    "format_bytes",
    "format_duration",
    "format_number",
    "objective_label",
    "progress_table",
    "results_table",
]


def results_table(results: pd.DataFrame, spec: Spec, title: str) -> Table:
    """Trial, state, objectives as mean ± 90 % interval over seeds, how probably it is on the front, configuration."""
    table = Table(title=title, title_justify="left", header_style="bold", box=None, pad_edge=False)
    table.add_column("trial", justify="right")
    table.add_column("state")
    for name, mode in spec.objectives.items():
        table.add_column(
            f"{objective_label(name)}\n({'lower' if mode == 'min' else 'higher'} is better)", justify="right"
        )
    table.add_column("probability of\nthe front", justify="right")
    for name in spec.space:
        table.add_column(name.replace(".", ".\n"), justify="right")
    for _, row in results.iterrows():
        cells = [str(row["trial"]) if row["trial"] >= 0 else "", printable(str(row["state"]))]
        cells += [_with_spread(row.get(name), row.get(f"{name}/ci")) for name in spec.objectives]
        cells.append(cell_text(row.get("front_probability")))
        cells += [cell_text(row.get(f"config/{name}")) for name in spec.space]
        table.add_row(*cells)
    return table


def progress_table(progress: pd.DataFrame, title: str) -> Table:
    """How the front grew: a row for each trial that completed."""
    table = Table(title=title, title_justify="left", header_style="bold", box=None, pad_edge=False)
    for heading in ("time (UTC)", "trial", "complete", "trial-steps", "device-hours", "hypervolume"):
        table.add_column(heading, justify="right")
    for row in progress.itertuples():
        table.add_row(
            f"{row.time:%Y-%m-%d %H:%M:%S}",
            str(row.trial),
            str(row.complete),
            f"{row.trial_steps:,}",
            f"{row.device_hours:.3f}",
            cell_text(row.hypervolume),
        )
    return table


def objective_label(name: str) -> str:
    """A metric's name as it is read, with its unit."""
    if name in _LABELS:
        return _LABELS[name]
    group, _, rest = name.partition("/")
    return rest.replace("/", " ") if group == "disentanglement" else name.replace("/", " ")


def format_number(value: float) -> str:
    """Three significant digits, and whole numbers up to a million."""
    return f"{value:.0f}" if 1000 <= abs(value) < 1e6 else f"{value:.3g}"


def format_bytes(size: float) -> str:
    """Three significant digits, in decimal units."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if size < 999.5:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:,.3g} TB" if size < 999.5 else f"{size:,.0f} TB"


def format_duration(seconds: float) -> str:
    """The two largest units of hours, minutes and seconds."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {seconds:02d} s" if minutes else f"{seconds} s"


def _with_spread(mean: float | None, spread: float | None) -> str:
    if mean is None or math.isnan(mean):
        return "–"
    if spread is None or math.isnan(spread):
        return f"{mean:.3f}"
    return f"{mean:.3f} ± {spread:.3f}"


def cell_text(value: object) -> str:
    """A value of a table as it is read; a dash for what is absent."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "–"
    return format_number(value) if isinstance(value, float) else printable(str(value))
