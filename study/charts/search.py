"""Charts of the search: history, halving, parallel coordinates, and a metric over two parameters."""

from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt
import numpy as np
import pandas as pd
from altair.typing import ChartType

from study.analysis import StudyResults
from study.analysis.aggregation import Spread, mean_and_spread
from study.analysis.parameter_effects import is_numeric
from study.charts import style
from study.formatting import format_number, objective_label
from study.spec import Spec

ABSENT = -0.16
"""Position on an axis of parallel coordinates for trials that lack the parameter; present values are from 0 to 1."""

MAX_LINES = 500
"""Maximum number of trials in parallel coordinates. Of more trials a random sample is drawn."""


def history_data(
    table: pd.DataFrame, progress: pd.DataFrame, spec: Spec, metric: str, spread: Spread = "ci"
) -> pd.DataFrame:
    """Return a metric of the complete trials in the order of completion, from the results and `StudyResults.progress`.

    Returns:
        A row for each complete trial that has the metric: `order` from 1; `trial`; `time`; `mean`, `low` and `high`
        (the ends of the error bar, NaN for a single replicate); `best` of all means so far.
    """
    values = table.set_index("trial").reindex(columns=[metric, f"{metric}/{spread}"])
    rows = progress[["trial", "time"]].join(values, on="trial").dropna(subset=[metric])
    data = {"trial": rows["trial"], "time": rows["time"], **mean_and_spread(rows, metric, spread)}
    best = data["mean"].cummin() if spec.direction(metric) == "min" else data["mean"].cummax()
    return pd.DataFrame(data | {"best": best, "order": np.arange(1, len(rows) + 1)}).reset_index(drop=True)


def history_chart(data: pd.DataFrame, spec: Spec, metric: str) -> ChartType:
    """Draw `history_data`: a point for each trial, and a line for the best so far."""
    base = alt.Chart(style.downsample(data)).encode(
        x=alt.X("order:Q", title="complete trials, in order of completion", axis=alt.Axis(tickMinStep=1, format="d"))
    )
    bars = style.error_bars(base, color=style.INK, opacity=0.3)
    points = base.mark_point(filled=True, size=40, color=style.INK, opacity=0.8).encode(
        y=alt.Y("mean:Q", title=style.metric_lines(spec, metric), scale=alt.Scale(zero=False)),
        tooltip=[
            "trial",
            alt.Tooltip("mean:Q", format=".3~g"),
            alt.Tooltip("best:Q", title="best so far", format=".3~g"),
        ],
    )
    best = base.mark_line(interpolate="step-after", color=style.MAGENTA, strokeWidth=2).encode(y="best:Q")
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
    scale = alt.Scale(domain=["continued", "stopped"], range=[style.BLUE, style.GREY])
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
    """Return the positions of complete trials on parallel axes.

    Returns:
        A row for each trial and axis: `trial`, `axis` (a parameter or metric), its `label` and `order`, `position` from
        0 to 1, or `ABSENT` below them where a trial lacks the parameter, and `value` as text.
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
        axis = {"axis": name, "label": label, "order": order}
        axes.append(pd.DataFrame({"trial": rows["trial"], **axis, "position": position, "value": values}))
        absent = trials["trial"][trials[column].isna()]
        axes.append(pd.DataFrame({"trial": absent, **axis, "position": ABSENT, "value": "n/a"}))
    return pd.concat([axis for axis in axes if len(axis)], ignore_index=True)


def within_brushes(data: pd.DataFrame, brushes: Mapping[str, tuple[float, float]]) -> pd.Series:
    """Return whether each row of `parallel_data` belongs to a trial inside of all brushes, by their axes."""
    outside: set[int] = set()
    for axis, (low, high) in brushes.items():
        rows = data[data["axis"] == axis]
        outside |= set(rows["trial"][~rows["position"].between(low, high)])
    return ~data["trial"].isin(outside)


def parallel_chart(
    data: pd.DataFrame, spec: Spec, metric: str, brushes: Mapping[str, tuple[float, float]] | None = None
) -> ChartType:
    """Draw `parallel_data`: lines are coloured by a metric, and each axis is labelled with its range.

    Trials outside of the `brushes`, limits of positions by axis, are faint. Dragging over an axis is the parameter
    `brush` of the chart.
    """
    brushes = brushes or {}
    colours = data[data["axis"] == metric][["trial", "position"]].rename(columns={"position": "colour"})
    labels = data.sort_values("order")["label"].unique().tolist()
    x_axis = alt.Axis(labelAngle=-30, orient="top", labelOverlap=False, domain=False, ticks=False)
    x = alt.X("label:N", sort=labels, title=None, scale=alt.Scale(domain=labels), axis=x_axis)
    lowest = min(-0.06, float(data["position"].min()) - 0.06)
    y = alt.Y("position:Q", axis=None, scale=alt.Scale(domain=[lowest, 1.06], nice=False))
    colours = colours[colours["colour"] >= 0]  # others lack the metric
    drawn = data.merge(colours, on="trial", how="left").assign(is_within=within_brushes(data, brushes).to_numpy())
    low, high = (format_number(value) for value in _range_of(data, metric))
    is_cost = spec.direction(metric) == "min"
    ends = (f"{low} (better)", f"{high}") if is_cost else (f"{low}", f"{high} (better)")
    legend = alt.Legend(
        type="gradient",
        orient="top",
        gradientLength=220,
        values=[0, 1],
        labelExpr=f"datum.value < 0.5 ? '{ends[0]}' : '{ends[1]}'",
        titleLimit=300,
    )
    ramp = alt.Scale(domain=[0, 1], range=list(style.RAMP))
    colour = alt.Color("colour:Q", title=objective_label(metric), scale=ramp, legend=legend)
    base = alt.Chart(drawn)
    faint = base.transform_filter("!datum.is_within").mark_line(opacity=0.12, strokeWidth=1, color=style.GREY)
    bold = base.transform_filter("datum.is_within").mark_line(opacity=0.65, strokeWidth=1.6)
    lines = [
        faint.encode(x=x, y=y, detail="trial:N", order="order:Q"),
        bold.encode(x=x, y=y, detail="trial:N", order="order:Q", color=colour, tooltip=["trial:N"]),
    ]
    points = base.mark_point(filled=True, size=25, opacity=0.35).encode(
        x=x, y=y, color=colour, tooltip=["trial:N", alt.Tooltip("label:N", title="axis"), "value:N"]
    )
    points = points.add_params(alt.selection_interval(name="brush", encodings=["x", "y"], empty=False))
    present = data[data["position"] >= 0]
    positions = present.groupby("axis")["position"]
    ends_of_axes = data.loc[pd.concat([positions.idxmin(), positions.idxmax()]).unique()]
    absent = data[data["position"] < 0].drop_duplicates("axis")
    axes = alt.Chart(ends_of_axes).mark_rule(color=style.GREY, opacity=0.6).encode(x=x)
    places = (
        (ends_of_axes[ends_of_axes["position"] < 0.5], 11),
        (ends_of_axes[ends_of_axes["position"] >= 0.5], -10),
        (absent, 12),
    )
    layers = [axes, *lines, points]  # a layer without rows would not be drawn by Streamlit
    for rows, dy in places:
        if len(rows):
            layers.append(alt.Chart(rows).mark_text(dy=dy, fontSize=11).encode(x=x, y=y, text="value:N"))
    label_of_axis = data.drop_duplicates("axis").set_index("axis")["label"]
    ranges = [(label_of_axis[axis], *limits) for axis, limits in brushes.items()]
    if ranges:
        bars = alt.Chart(pd.DataFrame(ranges, columns=["label", "low", "high"]))
        bars = bars.mark_bar(width=14, opacity=0.3, color=style.ACCENT)
        layers.append(bars.encode(x=x, y=alt.Y("low:Q", axis=None), y2="high:Q"))
    return alt.layer(*layers).properties(height=400, width=900)


def _range_of(data: pd.DataFrame, axis: str) -> tuple[float, float]:
    """Return the values at both ends of a numeric axis."""
    rows = data[(data["axis"] == axis) & (data["position"] >= 0)]
    ends = (rows["value"][rows["position"].idxmin()], rows["value"][rows["position"].idxmax()])
    return float(ends[0]), float(ends[1])


def slice_chart(data: pd.DataFrame, spec: Spec, name: str, metric: str) -> ChartType:
    """Draw a metric against one parameter, from `study.analysis.parameter_effects.slice_data`."""
    parameter, label = spec.space[name], style.parameter_label(name)
    if not is_numeric(parameter):
        x = alt.X("value:N", title=label, axis=alt.Axis(labelAngle=-30))
    elif parameter.log_uniform is not None:
        x = alt.X("value:Q", title=label, scale=alt.Scale(type="log", nice=False, padding=10))
    else:
        x = alt.X("value:Q", title=label, scale=alt.Scale(zero=False, nice=False, padding=10))
    base = alt.Chart(style.downsample(data)).encode(x=x)
    points = base.mark_point(filled=True, size=50, opacity=0.9).encode(
        y=alt.Y("mean:Q", title=style.metric_lines(spec, metric), scale=alt.Scale(zero=False)),
        color=alt.Color("state:N", title=None, legend=alt.Legend(orient="top")),
        tooltip=["trial", "state", "value", alt.Tooltip("mean:Q", format=".4g")],
    )
    return alt.layer(style.error_bars(base, opacity=0.4, color=style.BLUE), points).properties(height=320)


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
    scale = alt.Scale(range=list(style.RAMP), zero=False)
    legend = alt.Legend(orient="top", gradientLength=200, titleLimit=320)
    colour = alt.Color("mean:Q", title=style.metric_title(spec, metric), scale=scale, legend=legend)
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
