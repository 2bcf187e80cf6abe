"""The trade-off's data: two metrics of all trials and baselines, with error bars and the Pareto front."""

from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from study.analysis.aggregation import Spread, mean_and_spread
from study.analysis.pareto import pareto_front
from study.analysis.results import StudyResults
from study.spec import Spec

PROBABILITY = "front_probability"
"""Name for `Axes.size`: points are as large as the probability that the trial is on the front."""


_FRONT, _COMPLETE, _INCOMPLETE, _BASELINE = KINDS = ("on the front", "complete", "not complete", "baseline")


class Axes(NamedTuple):
    """Metrics along x and y, and what sets the colour (a parameter) and the size (a number, or PROBABILITY) of points.

    Without a parameter, the colour shows whether a trial is on the front.
    """

    x: str
    y: str
    colour: str | None = None
    size: str | None = None


def trade_off_metrics(spec: Spec) -> tuple[str, ...]:
    """Return the objectives of a study; a single objective is compared with fidelity, or else with separation."""
    names = [*spec.objectives, "fidelity/log_mel_rmse_db", "disentanglement/separation"]
    return tuple(dict.fromkeys(names))[: max(2, len(spec.objectives))]


def default_axes(spec: Spec) -> Axes:
    """Return the axes of a study's first two metrics."""
    return Axes(*trade_off_metrics(spec)[:2])


def trade_off_data(
    results: StudyResults,
    axes: Axes | None = None,
    selected: Collection[int] = (),
    limits: Mapping[str, Any] | None = None,
    spread: Spread = "ci",
    probability: pd.Series | None = None,
) -> pd.DataFrame:
    """Return a row for each trial and baseline that has both metrics of the axes.

    `limits` are the worst values of metrics. Trials without a value or beyond it are removed; baselines stay.
    `probability` is `StudyResults.front_probability`, computed here if the axes need it.

    Returns:
        `x`, `y` with error bars `x_low`, `x_high`, `y_low`, `y_high`, `is_baseline`, `final` (whether the trial is
        complete), `front` (of the remaining complete trials, in these two metrics), `kind`, `selected`,
        `front_probability` (NaN if the axes do not need it), and of the results: the trial or the baseline, its state,
        its configuration and both metrics.
    """
    axes, trials = axes or default_axes(results.spec), results.results()
    for name, limit in (limits or {}).items():
        measured = trials.get(name, pd.Series(np.nan, index=trials.index))
        trials = trials[measured <= limit if results.spec.direction(name) == "min" else measured >= limit]
    metrics = [column for name in (axes.x, axes.y) for column in (name, f"{name}/{spread}")]
    columns = ["trial", "baseline", "state", *metrics, *(f"config/{name}" for name in results.spec.space)]
    tables = [rows.reindex(columns=dict.fromkeys(columns)) for rows in (trials, results.baselines())]
    table = pd.concat([rows for rows in tables if len(rows)] or tables[:1], ignore_index=True)
    table = table.dropna(subset=[axes.x, axes.y]).reset_index(drop=True)
    table["trial"] = table["trial"].astype("Int64")
    values: dict[str, Any] = {}
    for axis, name in (("x", axes.x), ("y", axes.y)):
        mean, low, high = mean_and_spread(table, name, spread).values()
        values |= {axis: mean, f"{axis}_low": low.fillna(mean), f"{axis}_high": high.fillna(mean)}
    is_baseline = table["baseline"].notna()
    final = (table["state"] == "complete") & ~is_baseline
    directions = {name: results.spec.direction(name) for name in dict.fromkeys((axes.x, axes.y))}
    front = np.zeros(len(table), dtype=bool)
    front[final] = pareto_front(table[final], directions)
    kind = np.select([front, final, is_baseline], [_FRONT, _COMPLETE, _BASELINE], _INCOMPLETE)
    marks = {"is_baseline": is_baseline, "final": final, "front": front, "kind": kind}
    marks["selected"] = table["trial"].isin(list(selected))
    if probability is None and axes.size == PROBABILITY:
        probability = results.front_probability()
    marks[PROBABILITY] = np.nan if probability is None else table["trial"].map(probability).astype(float)
    return pd.concat([table, pd.DataFrame(values | marks, index=table.index)], axis=1)
