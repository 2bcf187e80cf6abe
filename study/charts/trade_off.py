"""The trade-off chart: two metrics of all trials and baselines, with error bars and the Pareto front."""

from collections.abc import Collection, Mapping
from typing import Any, Literal, NamedTuple

import altair as alt
import numpy as np
import pandas as pd
from altair.typing import ChartType
from pandas.api.types import is_bool_dtype, is_numeric_dtype

from study.analysis import StudyResults
from study.analysis.aggregation import mean_and_spread
from study.analysis.pareto import pareto_front
from study.charts.style import BLUE, GREY, ORANGE, PALE, RED, downsample, parameter_label, spans_decades
from study.formatting import format_number, objective_label
from study.spec import Baseline, Spec

_KINDS = {"on the front": RED, "complete": BLUE, "not complete": PALE, "baseline": ORANGE}
_FRONT, _COMPLETE, _INCOMPLETE, _BASELINE = _KINDS
_SELECTED_COLOUR = "#e8871e"
_NUMBER_WIDTH, _NUMBER_HEIGHT = 0.035, 0.05  # size of a trial's number, as fractions of the chart
_MAX_BARS = 250  # error bars of more trials are faint
_MAX_DISTANCE = 0.5  # from a baseline to the trials, as a fraction of their range; others are drawn at the edge


class Axes(NamedTuple):
    """Metrics along x and y, and parameters that set the colour and the size of points.

    Without a parameter, the colour shows whether a trial is on the front. The parameter of the size is numeric.
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
) -> pd.DataFrame:
    """Return a row for each trial and baseline that has both metrics of the axes.

    `limits` are the worst values of metrics. Trials without a value or beyond it are removed; baselines stay.

    Returns:
        `x`, `y` with `x_low`, `x_high`, `y_low`, `y_high` (one standard deviation over replicates below and above),
        `is_baseline`, `final` (whether the trial is complete), `front` (of the remaining complete trials, in these two
        metrics), `kind`, `selected`, and of the results: the trial or the baseline, its state, its configuration and
        both metrics.
    """
    axes, trials = axes or default_axes(results.spec), results.results()
    for name, limit in (limits or {}).items():
        measured = trials.get(name, pd.Series(np.nan, index=trials.index))
        trials = trials[measured <= limit if results.spec.direction(name) == "min" else measured >= limit]
    metrics = [column for name in (axes.x, axes.y) for column in (name, f"{name}/sd")]
    columns = ["trial", "baseline", "state", *metrics, *(f"config/{name}" for name in results.spec.space)]
    tables = [rows.reindex(columns=dict.fromkeys(columns)) for rows in (trials, results.baselines())]
    table = pd.concat([rows for rows in tables if len(rows)] or tables[:1], ignore_index=True)
    table = table.dropna(subset=[axes.x, axes.y]).reset_index(drop=True)
    table["trial"] = table["trial"].astype("Int64")
    values: dict[str, Any] = {}
    for axis, name in (("x", axes.x), ("y", axes.y)):
        mean, low, high = mean_and_spread(table, name).values()
        values |= {axis: mean, f"{axis}_low": low.fillna(mean), f"{axis}_high": high.fillna(mean)}
    is_baseline = table["baseline"].notna()
    final = (table["state"] == "complete") & ~is_baseline
    directions = {name: results.spec.direction(name) for name in dict.fromkeys((axes.x, axes.y))}
    front = np.zeros(len(table), dtype=bool)
    front[final] = pareto_front(table[final], directions)
    kind = np.select([front, final, is_baseline], [_FRONT, _COMPLETE, _BASELINE], _INCOMPLETE)
    marks = {"is_baseline": is_baseline, "final": final, "front": front, "kind": kind}
    marks["selected"] = table["trial"].isin(list(selected))
    return pd.concat([table, pd.DataFrame(values | marks, index=table.index)], axis=1)


def trade_off_chart(
    results: StudyResults, axes: Axes | None = None, data: pd.DataFrame | None = None, is_selectable: bool = False
) -> ChartType:
    """Draw `trade_off_data`: complete trials filled, others hollow, the front as a line, baselines as diamonds.

    `data` is a result of `trade_off_data` for these axes. If the chart is selectable, clicks select trials (parameter
    `picked`), and so do areas (parameter `brush`).
    """
    spec = results.spec
    axes = axes or default_axes(spec)
    data = trade_off_data(results, axes) if data is None else data
    x_range, y_range = _range(data, "x"), _range(data, "y")
    keep = data["front"] | data["selected"] | data["is_baseline"]
    points, parameters = _chart_columns(downsample(data, keep), spec, axes)
    points = _with_labels(points, x_range, y_range)
    base = alt.Chart(points).encode(
        x=alt.X("x:Q", title=_title(spec, axes.x), scale=alt.Scale(domain=x_range, nice=False)),
        y=alt.Y("y:Q", title=_title(spec, axes.y), scale=alt.Scale(domain=y_range, nice=False)),
    )
    tooltip = [
        alt.Tooltip("name:N", title="trial"),
        alt.Tooltip("state:N"),
        alt.Tooltip("x_text:N", title=objective_label(axes.x)),
        alt.Tooltip("y_text:N", title=objective_label(axes.y)),
    ]
    colour = {"color": _colour(points, axes)}
    configuration = [alt.Tooltip(f"{name}:{kind}") for name, kind in parameters.items()]
    trial: dict[str, Any] = {**colour, "tooltip": tooltip + configuration}
    if axes.size is not None:
        legend = alt.Legend(orient="top", symbolFillColor=GREY, symbolStrokeColor=GREY)
        scale = alt.Scale(range=[30, 300], zero=False)
        trial["size"] = alt.Size("size:Q", title=parameter_label(axes.size), scale=scale, legend=legend)
    # Between two points of the front, the value of the one that is better in x is known to be reachable.
    steps: Literal["step-before", "step-after"] = "step-before" if spec.direction(axes.x) == "max" else "step-after"
    front = base.transform_filter("datum.front").encode(order=alt.Order("x:Q"))
    front = front.mark_line(color=_KINDS[_FRONT], strokeDash=[4, 3], opacity=0.7, interpolate=steps)
    bars = base.transform_filter("!datum.is_baseline").mark_rule(opacity=0.45 if len(points) <= _MAX_BARS else 0.15)
    bars_x = bars.encode(x="x_low:Q", x2="x_high:Q", **colour)
    bars_y = bars.encode(y="y_low:Q", y2="y_high:Q", **colour)
    ring = base.transform_filter("datum.selected")
    ring = ring.mark_point(size=260, strokeWidth=2.5, color=_SELECTED_COLOUR, opacity=1)
    hollow = base.transform_filter("!datum.final && !datum.is_baseline").encode(**trial)
    hollow = hollow.mark_point(size=70, strokeWidth=1.5, opacity=1)
    filled = base.transform_filter("datum.final").mark_point(size=70, filled=True, opacity=1).encode(**trial)
    if is_selectable:
        picked = alt.selection_point(name="picked", fields=["trial"], on="click", empty=False)
        brush = alt.selection_interval(name="brush", encodings=["x", "y"], empty=False)
        filled = filled.add_params(picked, brush)
    baselines = base.transform_filter("datum.is_baseline")
    diamonds = baselines.mark_point(shape="diamond", size=110, filled=True, opacity=1, color=_KINDS[_BASELINE])
    middle = sum(x_range) / 2  # names are written towards it, to stay inside of the chart
    sides: tuple[tuple[str, int, Literal["left", "right"]], ...] = (("<=", -6, "left"), (">", 6, "right"))
    names = [
        baselines.transform_filter(f"datum.x {side} {middle}")
        .mark_text(dy=-12, dx=dx, align=align, color=_KINDS[_BASELINE])
        .encode(text="label:N")
        for side, dx, align in sides
    ]
    numbers = base.transform_filter("datum.number != ''").encode(text="number:N")
    numbers = numbers.mark_text(dx=-7, dy=-9, align="right", color=_KINDS[_FRONT], fontWeight="bold")
    layers = [front, bars_x, bars_y, ring, hollow, filled, diamonds.encode(tooltip=tooltip), *names, numbers]
    title = alt.Title(f"Study {spec.name}", subtitle=_subtitle(data, len(points), spec), subtitleColor=GREY)
    return alt.layer(*layers).properties(title=title, width=640, height=420)


def _chart_columns(data: pd.DataFrame, spec: Spec, axes: Axes) -> tuple[pd.DataFrame, dict[str, str]]:
    """Return the columns of the chart, and the parameters among them with the type of their values for Vega.

    Names of parameters are without dots and slashes, which Vega reads as paths.
    """
    parameters = {f"config/{name}": name.replace(".", " ") for name in spec.space if f"config/{name}" in data}
    columns = ["trial", "baseline", "is_baseline", "state", "x", "y", "x_low", "x_high", "y_low", "y_high"]
    columns += ["final", "front", "kind", "selected"]
    points = data[[*columns, *parameters]].rename(columns=parameters)
    for column, name in (("colour", axes.colour), ("size", axes.size)):
        if name is not None:
            points[column] = data.get(f"config/{name}")
    return points, {name: "Q" if is_numeric_dtype(points[name]) else "N" for name in parameters.values()}


def _colour(points: pd.DataFrame, axes: Axes) -> alt.Color:
    legend = alt.Legend(orient="top", symbolOpacity=1)
    if axes.colour is None:
        kinds = [kind for kind in _KINDS if (points["kind"] == kind).any()]
        scale = alt.Scale(domain=kinds, range=[_KINDS[kind] for kind in kinds])
        return alt.Color("kind:N", title=None, scale=scale, legend=legend)
    if is_bool_dtype(points["colour"]) or not is_numeric_dtype(points["colour"]):
        scale = alt.Scale(domain=sorted(points["colour"].dropna().unique()), scheme="tableau10")
        return alt.Color("colour:N", title=parameter_label(axes.colour), scale=scale, legend=legend)
    scale = alt.Scale(scheme="viridis", type="log" if spans_decades(points["colour"]) else "linear")
    return alt.Color("colour:Q", title=parameter_label(axes.colour), scale=scale, legend=legend)


def _subtitle(data: pd.DataFrame, drawn: int, spec: Spec) -> list[str]:
    complete = int(data["final"].sum())
    spread = f"mean ± standard deviation over {spec.replicates} replicates"
    spread = spread if spec.replicates > 1 else "one replicate each"
    lines = [f"{complete:,} complete trial{'s' * (complete != 1)}, {spread}"]
    if drawn < len(data):
        lines.append(f"{drawn:,} of {len(data):,} are shown: the front, selected trials and a random sample")
    return lines


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


def _title(spec: Spec, name: str) -> str:
    return f"{objective_label(name)} ({'lower' if spec.direction(name) == 'min' else 'higher'} is better)"
