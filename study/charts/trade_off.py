"""The trade-off chart: two metrics of all trials and baselines, with error bars and the Pareto front."""

from typing import Any, Literal

import altair as alt
import pandas as pd
from altair.typing import ChartType
from pandas.api.types import is_bool_dtype, is_numeric_dtype

from study.analysis import StudyResults
from study.analysis.aggregation import Spread
from study.analysis.trade_off import KINDS, PROBABILITY, Axes, default_axes, trade_off_data
from study.charts.style import (
    ACCENT,
    BLUE,
    BROWN,
    GREY,
    ORANGE,
    RAMP,
    SHAPES,
    TEXT,
    category_marks,
    downsample,
    metric_title,
    parameter_label,
    spans_decades,
    spread_text,
)
from study.formatting import cell_text, format_number, objective_label
from study.spec import Baseline, Spec

_FRONT, _COMPLETE, _INCOMPLETE, _BASELINE = KINDS
_KINDS = dict(zip(KINDS, (ORANGE, BLUE, GREY, BROWN), strict=True))
_INAPPLICABLE = "does not apply"
_NUMBER_WIDTH, _NUMBER_HEIGHT = 0.035, 0.05  # size of a trial's number, as fractions of the chart
_MAX_BARS = 250  # error bars of more trials are faint
_MAX_DISTANCE = 0.5  # from a baseline to the trials, as a fraction of their range; others are drawn at the edge
_MIN_ZOOM_TRIALS, _MIN_ZOOM = 8, 1.4  # a part of the chart is worth a zoom if all of it is larger by this factor


def is_zoomable(data: pd.DataFrame, spec: Spec, axes: Axes) -> bool:
    """Return whether outliers squeeze the front and most trials into a part of the chart."""
    return any(_extent(_range(data, axis)) > _MIN_ZOOM * _extent(_zoom(data, axis, spec, axes)) for axis in "xy")


def trade_off_chart(
    results: StudyResults,
    axes: Axes | None = None,
    data: pd.DataFrame | None = None,
    is_selectable: bool = False,
    is_zoomed: bool = False,
    spread: Spread = "ci",
) -> ChartType:
    """Draw `trade_off_data`: complete trials filled, others hollow, the front ringed, baselines as diamonds.

    `data` is a result of `trade_off_data` for these axes. If the chart is selectable, clicks select trials (parameter
    `picked`), and so do areas (parameter `brush`). Zoomed, it shows the front and the better three quarters of the
    complete trials.
    """
    spec = results.spec
    axes = axes or default_axes(spec)
    data = trade_off_data(results, axes, spread=spread) if data is None else data
    ranges = [_zoom(data, axis, spec, axes) if is_zoomed else _range(data, axis) for axis in "xy"]
    is_inside = data["is_baseline"] | (data["x"].between(*ranges[0]) & data["y"].between(*ranges[1]))
    inside = data[is_inside]
    keep = inside["front"] | inside["selected"] | inside["is_baseline"]
    points = _with_texts(_with_labels(downsample(inside, keep), *ranges), spec, axes)
    x_scale, y_scale = (alt.Scale(domain=limits, nice=False) for limits in ranges)
    base = alt.Chart(points).encode(
        x=alt.X("x:Q", title=metric_title(spec, axes.x), scale=x_scale, axis=alt.Axis(tickCount=9)),
        y=alt.Y("y:Q", title=metric_title(spec, axes.y), scale=y_scale, axis=alt.Axis(tickCount=7)),
    )
    hover = alt.selection_point(name="hover", fields=["trial"], on="pointerover", clear="pointerout")
    colour, shape = _colour(points, axes)
    tooltip = [
        alt.Tooltip("name:N", title="trial"),
        alt.Tooltip("state:N"),
        alt.Tooltip("x_text:N", title=objective_label(axes.x)),
        alt.Tooltip("y_text:N", title=objective_label(axes.y)),
        alt.Tooltip("probability_text:N", title="probability of the front"),
        alt.Tooltip("configuration:N"),
    ]
    if points["probability_text"].eq("").all():
        del tooltip[4]
    trial: dict[str, Any] = {
        "color": colour,
        "tooltip": tooltip,
        "stroke": _stroke(points, axes, has_legend=axes.colour is not None),
        **shape,
    }
    trial |= {"opacity": alt.condition(hover, alt.value(1), alt.value(0.25)), **_size(points, axes)}
    # Between two points of the front, the value of the one that is better in x is known to be reachable.
    steps: Literal["step-before", "step-after"] = "step-before" if spec.direction(axes.x) == "max" else "step-after"
    front = base.transform_filter("datum.front").encode(order=alt.Order("x:Q"))
    front = front.mark_line(color=_KINDS[_FRONT], strokeDash=[4, 3], opacity=0.7, interpolate=steps, clip=True)
    faint = alt.condition(hover, alt.value(0.5 if len(points) <= _MAX_BARS else 0.15), alt.value(0.05))
    bars = base.transform_filter("!datum.is_baseline").mark_rule(clip=True).encode(color=colour, opacity=faint)
    bars_x = bars.encode(x="x_low:Q", x2="x_high:Q")
    bars_y = bars.encode(y="y_low:Q", y2="y_high:Q")
    ring = base.transform_filter("datum.selected")
    ring = ring.mark_point(size=420, strokeWidth=3, color=ACCENT, opacity=1, clip=True)
    hollow = base.transform_filter("!datum.final && !datum.is_baseline")
    hollow = hollow.encode(**trial | {"stroke": _stroke(points, axes, has_legend=False)})
    hollow = hollow.mark_point(size=70, strokeWidth=1.5, filled=False)
    filled = base.transform_filter("datum.final").mark_point(size=90, strokeWidth=2, filled=True).encode(**trial)
    filled = filled.add_params(hover)
    if is_selectable:
        picked = alt.selection_point(name="picked", fields=["trial"], on="click", empty=False)
        brush = alt.selection_interval(name="brush", encodings=["x", "y"], empty=False)
        filled = filled.add_params(picked, brush)
    baselines = base.transform_filter("datum.is_baseline")
    diamonds = baselines.mark_point(shape="diamond", size=120, filled=True, opacity=1, color=_KINDS[_BASELINE])
    middle = sum(ranges[0]) / 2  # names are written towards it, to stay inside of the chart
    sides: tuple[tuple[str, int, Literal["left", "right"]], ...] = (("<=", -6, "left"), (">", 6, "right"))
    names = [
        baselines.transform_filter(f"datum.x {side} {middle}")
        .mark_text(dy=-12, dx=dx, align=align, color=_KINDS[_BASELINE])
        .encode(text="label:N")
        for side, dx, align in sides
    ]
    numbers = base.transform_filter("datum.number != ''").encode(text="number:N")
    numbers = numbers.mark_text(dx=-8, dy=-10, align="right", color=TEXT, fontWeight="bold")
    layers = [front, bars_x, bars_y, ring, hollow, filled, diamonds.encode(tooltip=tooltip[:4]), *names, numbers]
    lines = _subtitle(data, len(points), int((~is_inside).sum()), spec, spread)
    title = alt.Title(f"Study {spec.name}", subtitle=lines, subtitleColor=GREY)
    chart: ChartType = alt.layer(*layers).resolve_scale(stroke="independent")
    return chart.properties(title=title, width=640, height=420)


def _with_texts(points: pd.DataFrame, spec: Spec, axes: Axes) -> pd.DataFrame:
    """Return the columns of the chart: add the texts of tooltips, and leave out the columns of parameters."""
    texts = [""] * len(points)
    for name in spec.space:
        values = points.get(f"config/{name}")
        if values is not None:
            added = [f"{parameter_label(name)} {cell_text(value)}" if pd.notna(value) else "" for value in values]
            texts = [", ".join(filter(None, pair)) for pair in zip(texts, added, strict=True)]
    columns = ["trial", "baseline", "is_baseline", "state", "x", "y", "x_low", "x_high", "y_low", "y_high"]
    columns += ["final", "front", "kind", "selected", "name", "label", "number", "x_text", "y_text"]
    drawn = points[columns].assign(configuration=texts)
    drawn["probability_text"] = points[PROBABILITY].map(lambda value: "" if pd.isna(value) else f"{value:.2f}")
    if axes.colour is not None:
        values = points[f"config/{axes.colour}"]
        drawn["colour"] = values if _is_number(values) else values.map(str).where(values.notna(), _INAPPLICABLE)
    if axes.size is not None:
        drawn["size"] = points[axes.size if axes.size == PROBABILITY else f"config/{axes.size}"]
    return drawn


def _colour(points: pd.DataFrame, axes: Axes) -> tuple[Any, dict[str, Any]]:
    """Return the encoding of the colour, and of the shape if there are more categories than colours."""
    legend = alt.Legend(orient="top", symbolOpacity=1, columns=6)
    if axes.colour is None:
        kinds = [kind for kind in _KINDS if (points["kind"] == kind).any()]
        scale = alt.Scale(domain=kinds, range=[_KINDS[kind] for kind in kinds])
        return alt.Color("kind:N", title=None, scale=scale, legend=legend), {}
    title = parameter_label(axes.colour)
    if not _is_number(points["colour"]):
        categories = sorted({*points["colour"][~points["is_baseline"]]} - {_INAPPLICABLE})
        colours, shapes = category_marks(len(categories))
        if (points["colour"] == _INAPPLICABLE).any():
            categories, colours, shapes = [*categories, _INAPPLICABLE], [*colours, GREY], [*shapes, SHAPES[0]]
        colour = alt.Color("colour:N", title=title, scale=alt.Scale(domain=categories, range=colours), legend=legend)
        if len(set(shapes)) == 1:
            return colour, {}
        shape = alt.Shape("colour:N", title=title, scale=alt.Scale(domain=categories, range=shapes), legend=legend)
        return colour, {"shape": shape}
    scale = alt.Scale(range=list(RAMP), type="log" if spans_decades(points["colour"]) else "linear")
    gradient = alt.Legend(type="gradient", orient="top", gradientLength=160)
    colour = alt.Color("colour:Q", title=title, scale=scale, legend=gradient)
    return alt.condition("isValid(datum.colour)", colour, alt.value(GREY)), {}


def _is_number(values: pd.Series) -> bool:
    return is_numeric_dtype(values) and not is_bool_dtype(values)


def _stroke(points: pd.DataFrame, axes: Axes, has_legend: bool) -> alt.Stroke:
    """Return the encoding of the outline: a ring for the front. It has a legend if the colour shows a parameter."""
    strokes = {_FRONT: TEXT, _COMPLETE: "transparent", _INCOMPLETE: GREY, _BASELINE: BROWN}
    shown = [kind for kind in (_FRONT, _INCOMPLETE) if (points["kind"] == kind).any()]
    legend = alt.Legend(orient="top", values=shown, symbolFillColor="transparent", symbolStrokeWidth=2)
    scale = alt.Scale(domain=list(strokes), range=list(strokes.values()))
    return alt.Stroke("kind:N", title=None, scale=scale, legend=legend if has_legend and shown else None)


def _size(points: pd.DataFrame, axes: Axes) -> dict[str, Any]:
    if axes.size is None or points["size"].isna().all():
        return {}
    legend = alt.Legend(orient="top", symbolFillColor=GREY, symbolStrokeColor=GREY, tickCount=3)
    if axes.size == PROBABILITY:
        scale, title = alt.Scale(domain=[0, 1], range=[30, 260]), "probability of the front"
    else:
        scale, title = alt.Scale(range=[30, 300], zero=False), parameter_label(axes.size)
    size = alt.Size("size:Q", title=title, scale=scale, legend=legend)
    return {"size": alt.condition("isValid(datum.size)", size, alt.value(50))}


def _subtitle(data: pd.DataFrame, drawn: int, outside: int, spec: Spec, spread: Spread) -> list[str]:
    complete = int(data["final"].sum())
    lines = [f"{complete:,} complete trial{'s' * (complete != 1)}, {spread_text(spec.replicates, spread)}"]
    if drawn < len(data) - outside:
        lines.append(f"{drawn:,} of {len(data):,} are shown: the front, selected trials and a random sample")
    if outside:
        lines.append(f"{outside:,} trial{'s' * (outside != 1)} outside of this part of the chart")
    return lines


def _extent(limits: list[float]) -> float:
    return limits[1] - limits[0]


def _zoom(data: pd.DataFrame, axis: str, spec: Spec, axes: Axes) -> list[float]:
    """Return the limits of an axis for the front and the better three quarters of the complete trials."""
    complete = data[data["final"]]
    if len(complete) < _MIN_ZOOM_TRIALS:
        return _range(data, axis)
    front, is_cost = complete[complete["front"]], spec.direction(axes.x if axis == "x" else axes.y) == "min"
    low, high = float(front[f"{axis}_low"].min()), float(front[f"{axis}_high"].max())
    bulk = float(complete[axis].quantile(0.75 if is_cost else 0.25))
    low, high = min(low, bulk), max(high, bulk)
    margin = 0.05 * ((high - low) or 0.2 * max(abs(low), 1.0))
    return [low - margin, high + margin]


def _range(data: pd.DataFrame, axis: str) -> list[float]:
    """Return the limits of an axis: all trials with their error bars, and the baselines near them."""
    is_trial = ~data["is_baseline"]
    rows = data[is_trial] if is_trial.any() else data
    low, high = float(rows[f"{axis}_low"].min()), float(rows[f"{axis}_high"].max())
    extent = (high - low) or 0.2 * max(abs(low), 1.0)
    distance = _MAX_DISTANCE * extent
    near = data[~is_trial & data[axis].between(low - distance, high + distance)]
    low, high = min([low, *near[axis]]), max([high, *near[axis]])
    margin = 0.05 * ((high - low) or extent)
    return [low - margin, high + margin]


def _with_labels(points: pd.DataFrame, x_range: list[float], y_range: list[float]) -> pd.DataFrame:
    """Add texts, and move baselines that lie outside of the ranges to the edge; their labels give the true values."""
    is_outside = ~points["x"].between(*x_range) | ~points["y"].between(*y_range)
    names = [Baseline(row.baseline).label if row.is_baseline else str(row.trial) for row in points.itertuples()]
    values = " (at " + points["x"].map(format_number) + ", " + points["y"].map(format_number) + ")"
    moved = points.assign(name=names, label=names + values.where(is_outside, ""))
    for axis, limits in (("x", x_range), ("y", y_range)):
        half = (points[f"{axis}_high"] - points[f"{axis}_low"]) / 2
        moved[f"{axis}_text"] = points[axis].map(format_number) + " ± " + half.map(format_number)
        inset = 0.02 * (limits[1] - limits[0])
        columns = [axis, f"{axis}_low", f"{axis}_high"]
        moved.loc[is_outside, columns] = moved.loc[is_outside, columns].clip(limits[0] + inset, limits[1] - inset)
    return moved.assign(number=_numbers(moved, x_range, y_range))


def _numbers(points: pd.DataFrame, x_range: list[float], y_range: list[float]) -> list[str]:
    """Return the numbers of trials on the front as labels; those that would overlap another label are empty."""
    taken: list[tuple[float, float]] = []
    numbers = []
    for row in points.itertuples():
        x, y = (row.x - x_range[0]) / (x_range[1] - x_range[0]), (row.y - y_range[0]) / (y_range[1] - y_range[0])
        is_free = all(abs(x - other[0]) > _NUMBER_WIDTH or abs(y - other[1]) > _NUMBER_HEIGHT for other in taken)
        if row.front and is_free:
            taken.append((x, y))
        numbers.append(str(row.trial) if row.front and is_free else "")
    return numbers
