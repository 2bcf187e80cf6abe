"""A metric over two parameters, as a map with the trials on it."""

from typing import Any

import altair as alt
import pandas as pd
from altair.typing import ChartType

from study.analysis.parameter_effects import is_numeric
from study.charts.style import parameter_label, sample_of, value_label
from study.formatting import objective_label
from study.spec import Spec

__all__ = ["contour_chart"]


def contour_chart(
    data: pd.DataFrame, table: pd.DataFrame, spec: Spec, first: str, second: str, metric: str
) -> ChartType:
    """Draw `study.analysis.surface.surface`, and the complete trials that it goes through.

    Args:
        data: the surface.
        table: results.
        spec: of the study.
        first: parameter along x.
        second: parameter along y.
        metric: a column of results.
    """
    trials = table[table["state"] == "complete"].dropna(subset=[metric, f"config/{first}", f"config/{second}"])
    trials = sample_of(trials)
    points = pd.DataFrame(
        {
            "trial": trials["trial"],
            "x": _values(trials, spec, first),
            "y": _values(trials, spec, second),
            "mean": trials[metric],
        }
    )
    colour = alt.Color(
        "mean:Q",
        title=objective_label(metric),
        scale=alt.Scale(scheme="viridis", zero=False),
        legend=alt.Legend(orient="top"),
    )
    cells = data.dropna(subset=["mean"]).copy()
    for axis, name in (("x", first), ("y", second)):
        if not is_numeric(spec.space[name]):
            cells[axis] = [value_label(spec.space[name], value) for value in cells[axis]]
    x, y = _channel(spec, first, "x"), _channel(spec, second, "y")
    rect = alt.Chart(cells).mark_rect().encode(color=colour, **_extent(spec, first, "x"), **_extent(spec, second, "y"))
    marks = (
        alt.Chart(points)
        .mark_point(filled=True, size=45, stroke="white", strokeWidth=1, opacity=1)
        .encode(x=x, y=y, color=colour, tooltip=["trial", "x", "y", alt.Tooltip("mean:Q", format=".4g")])
    )
    return alt.layer(rect, marks).properties(height=320)


def _values(trials: pd.DataFrame, spec: Spec, name: str) -> Any:
    values = trials[f"config/{name}"]
    return values if is_numeric(spec.space[name]) else [value_label(spec.space[name], value) for value in values]


def _channel(spec: Spec, name: str, axis: str, field: str | None = None) -> Any:
    """Along x or y: a range on its own scale, or a band for each choice."""
    channel: Any = alt.X if axis == "x" else alt.Y
    if spec.space[name].choice is not None:
        return channel(f"{axis}:O", title=parameter_label(name), axis=alt.Axis(labelAngle=-30 if axis == "x" else 0))
    is_log = spec.space[name].log_uniform is not None
    scale = alt.Scale(type="log", nice=False) if is_log else alt.Scale(nice=False, zero=False)
    return channel(f"{field or axis}:Q", title=parameter_label(name), scale=scale)


def _extent(spec: Spec, name: str, axis: str) -> dict[str, Any]:
    """From where to where a cell goes."""
    if spec.space[name].choice is not None:
        return {axis: _channel(spec, name, axis)}
    return {axis: _channel(spec, name, axis, f"{axis}_low"), f"{axis}2": f"{axis}_high:Q"}
