"""Results, progress and status of a study as text for a terminal."""

import math
from typing import Any

import pandas as pd
from rich.table import Table

from study.analysis.leakage import PROBES
from study.formatting import cell_text, format_number, objective_label, printable
from study.spec import Baseline, Spec

__all__ = ["leakage_table", "progress_table", "results_table", "status_lines", "volume_line"]


def results_table(results: pd.DataFrame, spec: Spec, title: str) -> Table:
    """Return a table of results: state, objectives with 90 % intervals, probability of the front, configuration."""
    table = _table(title)
    table.add_column("trial", justify="right")
    table.add_column("state")
    for name, mode in spec.objectives.items():
        better = "lower" if mode == "min" else "higher"
        table.add_column(f"{objective_label(name)}\n({better} is better)", justify="right")
    table.add_column("probability of\nthe front", justify="right")
    for name in spec.space:
        table.add_column(name.replace(".", ".\n"), justify="right")
    for _, row in results.iterrows():
        if row["kind"] == "baseline":
            cells = ["", Baseline(row["baseline"]).label]
        else:
            cells = [str(row["trial"]), printable(str(row["state"]))]
        cells += [_with_spread(row.get(name), row.get(f"{name}/ci")) for name in spec.objectives]
        cells.append(cell_text(row.get("front_probability")))
        cells += [cell_text(row.get(f"config/{name}")) for name in spec.space]
        table.add_row(*cells)
    return table


def progress_table(progress: pd.DataFrame, title: str) -> Table:
    """Return a table of the front's growth: a row for each complete trial."""
    table = _table(title)
    for heading in ("time (UTC)", "trial", "complete", "trial-steps", "device-hours", "hypervolume"):
        table.add_column(heading, justify="right")
    for row in progress.itertuples():
        counts = str(row.trial), str(row.complete), f"{row.trial_steps:,}", f"{row.device_hours:.3f}"
        table.add_row(f"{row.time:%Y-%m-%d %H:%M:%S}", *counts, cell_text(row.hypervolume))
    return table


def leakage_table(leaks: pd.DataFrame, title: str) -> Table:
    """Return a table of `leakage`: a row for each factor and subspace, a column for each probe."""
    table = _table(title)
    table.add_column("factor")
    table.add_column("subspace")
    kinds = list(PROBES.values())
    for probe, of in kinds:
        table.add_column(f"{probe} probe\non {of}", justify="right")
    for (factor, subspace), rows in leaks.groupby(["factor", "subspace"], sort=False):
        cells = {(row.probe, row.of): f"{row.leakage:.3f} ± {row.ci:.3f}" for row in rows.itertuples()}
        mark = "" if rows["belongs"].all() else " (leak)"
        table.add_row(str(factor), f"{subspace}{mark}", *(cells.get(kind, "–") for kind in kinds))
    return table


def status_lines(status: dict[str, Any]) -> str:
    """Return the status of a study as lines of text."""
    states = ", ".join(f"{count} {state}" for state, count in status["trials"].items() if count)
    lines = [
        f"study {status['study']}: {status['state']}",
        f"trials: {states or 'none yet'}, of {status['target']}",
        f"front: {', '.join(map(str, status['front'])) or 'no complete trial yet'}",
        f"reached: {volume_line(status['hypervolume'], status['trial_steps'])}",
        f"runs: {status['runs']}, last heartbeat {status['last_heartbeat'] or 'none'}",
        f"store: {status['uri']}",
    ]
    if status["state"] == "interrupted":
        lines.append(f"resume with: {status['resume']}")
    return "\n".join(lines)


def volume_line(hypervolume: float | None, trial_steps: int) -> str:
    """Return the hypervolume, if it is known, and the number of steps that it took."""
    if hypervolume is None or math.isnan(hypervolume):
        return f"{trial_steps:,} trial-steps"
    return f"hypervolume {format_number(hypervolume)} after {trial_steps:,} trial-steps"


def _table(title: str) -> Table:
    return Table(title=title, title_justify="left", header_style="bold", box=None, pad_edge=False)


def _with_spread(mean: float | None, spread: float | None) -> str:
    if mean is None or math.isnan(mean):
        return "–"
    if spread is None or math.isnan(spread):
        return f"{mean:.3f}"
    return f"{mean:.3f} ± {spread:.3f}"
