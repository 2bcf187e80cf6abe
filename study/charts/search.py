"""Charts of the search: history, halving, parallel coordinates, and a metric over two parameters."""

from collections.abc import Sequence
from typing import Any

import altair as alt
import numpy as np
import pandas as pd
from altair.typing import ChartType

from study.analysis import StudyResults
from study.analysis.aggregation import mean_and_spread
from study.analysis.parameter_effects import is_numeric
from study.charts import style
from study.formatting import format_number, objective_label
from study.spec import Spec

MAX_LINES = 500
"""Maximum number of trials in parallel coordinates. Of more trials a random sample is drawn."""


def history_data(table: pd.DataFrame, progress: pd.DataFrame, spec: Spec, metric: str) -> pd.DataFrame:
    """Return a metric of the complete trials in the order of completion, from the results and `StudyResults.progress`.

    Returns:
        A row for each complete trial that has the metric: `order` from 1; `trial`; `time`; `mean`, `low` and `high`
        (one standard deviation below and above, NaN for a single replicate); `best` of all means so far.
    """
    values = table.set_index("trial").reindex(columns=[metric, f"{metric}/sd"])
    rows = progress[["trial", "time"]].join(values, on="trial").dropna(subset=[metric])
    data = {"trial": rows["trial"], "time": rows["time"], **mean_and_spread(rows, metric)}
    best = data["mean"].cummin() if spec.direction(metric) == "min" else data["mean"].cummax()
    return pd.DataFrame(data | {"best": best, "order": np.arange(1, len(rows) + 1)}).reset_index(drop=True)


def history_chart(data: pd.DataFrame, metric: str) -> ChartType:
    """Draw `history_data`: a point for each trial, and a line for the best so far."""
    base = alt.Chart(style.downsample(data)).encode(x=alt.X("order:Q", title="complete trials, in order of completion"))
    bars = style.error_bars(base, color=style.INK, opacity=0.3)
    points = base.mark_point(filled=True, size=40, color=style.INK, opacity=0.8).encode(
        y=alt.Y("mean:Q", title=objective_label(metric), scale=alt.Scale(zero=False)),
        tooltip=["trial", alt.Tooltip("mean:Q", format=".4g"), alt.Tooltip("best:Q", format=".4g")],
    )
    best = base.mark_line(interpolate="step-after", color=style.RED, strokeWidth=2).encode(y="best:Q")
    return alt.layer(bars, points, best).properties(height=280)


def rungs_data(results: StudyResults) -> pd.DataFrame:
    """Return the number of trials at each rung.

    Returns:
        `step`; `reached`, trials with a report at this step; `stopped`, trials that halving stopped there; `continued`,
        the others.
    """
    trials = results.trials()
    rungs = pd.Index(results.spec.rungs(), name="step")
    reports = results.steps().reindex(columns=["trial", "step"])
    reached = reports.groupby("step")["trial"].nunique().reindex(rungs, fill_value=0).astype(int)
    stopped = trials[trials["state"] == "pruned"]["step"].value_counts().reindex(rungs, fill_value=0).astype(int)
    return pd.DataFrame({"reached": reached, "stopped": stopped, "continued": reached - stopped}).reset_index()


def rungs_chart(data: pd.DataFrame) -> ChartType:
    """Draw `rungs_data`: a bar for each rung, divided into continued and stopped trials."""
    long = data.melt(["step", "reached"], ["continued", "stopped"], "decision", "trials")
    scale = alt.Scale(domain=["continued", "stopped"], range=[style.BLUE, style.PALE])
    base = alt.Chart(long).mark_bar().properties(height=50 * max(2, len(data)))
    chart: ChartType = base.encode(
        y=alt.Y("step:O", title="rung, steps"),
        x=alt.X("trials:Q", title="trials"),
        color=alt.Color("decision:N", title=None, scale=scale, legend=alt.Legend(orient="top")),
        order=alt.Order("decision:N", sort="ascending"),
        tooltip=["step", "reached", "decision", "trials"],
    )
    return chart


def parallel_data(
    complete: pd.DataFrame, spec: Spec, parameters: Sequence[str], metrics: Sequence[str]
) -> pd.DataFrame:
    """Return the positions of complete trials on parallel axes. A trial has a gap where it lacks a parameter.

    Returns:
        A row for each trial and axis: `trial`, `axis` (a parameter or metric), its `label` and `order`, `position` from
        0 to 1, and `value` as text.
    """
    trials = complete.sample(MAX_LINES, random_state=0).sort_index() if len(complete) > MAX_LINES else complete
    axes = []
    for order, name in enumerate([*parameters, *metrics]):
        parameter = spec.space.get(name)
        column = name if parameter is None else f"config/{name}"
        if column not in trials or trials[column].isna().all():
            continue
        rows = trials.dropna(subset=[column])
        if parameter is not None and not is_numeric(parameter):
            values = [style.value_label(parameter, value) for value in rows[column]]
            position, distinct = pd.factorize(np.array(values), sort=True)
            position = position / max(1, len(distinct) - 1)
        else:
            numbers = rows[column].to_numpy(dtype=float)
            values = [format_number(value) for value in numbers]
            is_log = parameter is not None and style.spans_decades(rows[column])
            position = _scaled(np.log(numbers) if is_log else numbers)
        label = objective_label(name) if parameter is None else style.parameter_label(name)
        axis = {"trial": rows["trial"], "axis": name, "label": label, "order": order}
        axes.append(pd.DataFrame(axis | {"position": position, "value": values}))
    return pd.concat(axes, ignore_index=True)


def parallel_chart(data: pd.DataFrame, metric: str) -> ChartType:
    """Draw `parallel_data`: lines are coloured by a metric, and each axis is labelled with its range."""
    colours = data[data["axis"] == metric][["trial", "position"]].rename(columns={"position": "colour"})
    labels = data.sort_values("order")["label"].unique().tolist()
    x_axis = alt.Axis(labelAngle=-30, orient="top", labelOverlap=False)
    x = alt.X("label:N", sort=labels, title=None, scale=alt.Scale(domain=labels), axis=x_axis)
    y = alt.Y("position:Q", axis=None, scale=alt.Scale(domain=[-0.06, 1.06], nice=False))
    positions = data.groupby("axis")["position"]
    ends = data.loc[pd.concat([positions.idxmin(), positions.idxmax()]).unique()]
    base = alt.Chart(data.merge(colours, on="trial", how="left")).mark_line(opacity=0.5, strokeWidth=1.3)
    colour = alt.Color("colour:Q", scale=alt.Scale(range=[style.BLUE, style.ORANGE, style.RED]), legend=None)
    lines = base.encode(x=x, y=y, detail="trial:N", color=colour, order="order:Q", tooltip=["trial:N"])
    axes = alt.Chart(ends).mark_rule(color=style.PALE, opacity=0.6).encode(x=x)
    low = alt.Chart(ends).transform_filter("datum.position < 0.5").mark_text(dy=10, color=style.PALE)
    high = alt.Chart(ends).transform_filter("datum.position >= 0.5").mark_text(dy=-9, color=style.PALE)
    texts = [layer.encode(x=x, y=y, text="value:N") for layer in (low, high)]
    return alt.layer(axes, lines, *texts).properties(height=340, width=900)


def contour_chart(
    surface: pd.DataFrame, table: pd.DataFrame, spec: Spec, first: str, second: str, metric: str
) -> ChartType:
    """Draw `surface_data` of a metric over two parameters, with the complete trials that it is interpolated from."""
    columns = {f"config/{first}": "x", f"config/{second}": "y", metric: "mean"}
    trials = style.downsample(table[table["state"] == "complete"].dropna(subset=list(columns)))
    points, cells = (
        rows.assign(x=_axis_values(rows["x"], spec, first), y=_axis_values(rows["y"], spec, second))
        for rows in (trials[["trial", *columns]].rename(columns=columns), surface.dropna(subset=["mean"]))
    )
    scale = alt.Scale(scheme="viridis", zero=False)
    colour = alt.Color("mean:Q", title=objective_label(metric), scale=scale, legend=alt.Legend(orient="top"))
    rect = alt.Chart(cells).mark_rect().encode(color=colour, **_extent(spec, first, "x"), **_extent(spec, second, "y"))
    marks = alt.Chart(points).mark_point(filled=True, size=45, stroke="white", strokeWidth=1, opacity=1)
    tooltip = ["trial", "x", "y", alt.Tooltip("mean:Q", format=".4g")]
    marks = marks.encode(x=_channel(spec, first, "x"), y=_channel(spec, second, "y"), color=colour, tooltip=tooltip)
    return alt.layer(rect, marks).properties(height=320)


def _scaled(numbers: np.ndarray) -> np.ndarray:
    """Scale numbers to the range from 0 to 1; equal numbers are placed in the middle."""
    low, high = numbers.min(), numbers.max()
    return np.asarray((numbers - low) / (high - low)) if high > low else np.full(len(numbers), 0.5)


def _axis_values(values: pd.Series, spec: Spec, name: str) -> Any:
    return values if is_numeric(spec.space[name]) else [style.value_label(spec.space[name], value) for value in values]


def _channel(spec: Spec, name: str, axis: str, field: str | None = None) -> Any:
    """Return the encoding of a parameter along x or y: a range on the scale of the space, or a band for each choice."""
    channel, title = (alt.X if axis == "x" else alt.Y), style.parameter_label(name)
    if spec.space[name].choice is not None:
        return channel(f"{axis}:O", title=title, axis=alt.Axis(labelAngle=-30 if axis == "x" else 0))
    is_log = spec.space[name].log_uniform is not None
    scale = alt.Scale(type="log", nice=False) if is_log else alt.Scale(nice=False, zero=False)
    return channel(f"{field or axis}:Q", title=title, scale=scale)


def _extent(spec: Spec, name: str, axis: str) -> dict[str, Any]:
    """Return the encodings of a cell's edges along x or y."""
    if spec.space[name].choice is not None:
        return {axis: _channel(spec, name, axis)}
    return {axis: _channel(spec, name, axis, f"{axis}_low"), f"{axis}2": f"{axis}_high:Q"}
