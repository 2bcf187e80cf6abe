"""Charts as files, and which metrics a chart of a study compares."""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

import altair as alt
import numpy as np
import pandas as pd
from altair.typing import ChartType

from study.analysis import StudyResults
from study.analysis.aggregation import mean_and_spread
from study.analysis.pareto import pareto_front
from study.charts.points import spans_decades
from study.charts.style import BLUE, GREY, ORANGE, PALE, RED, parameter_label, sample_of
from study.errors import UserError
from study.formatting import format_number, objective_label
from study.spec import Spec

__all__ = [
    "PIXEL_RATIO",
    "Axes",
    "axes_of",
    "compared_metrics",
    "save_chart",
    "trade_off_chart",
    "trade_off_data",
    "within",
]

PIXEL_RATIO = 2
"""Pixels of a PNG file for each one of the chart."""

_FORMATS = (".html", ".png", ".svg")


def compared_metrics(spec: Spec) -> tuple[str, ...]:
    """The objectives of a study; that of a study of one is seen against fidelity, or else separation."""
    names = [*spec.objectives, "fidelity/log_mel_rmse_db", "disentanglement/separation"]
    return tuple(dict.fromkeys(names))[: max(2, len(spec.objectives))]


def save_chart(chart: ChartType, path: Path) -> None:
    """Write a chart as HTML that needs no network, PNG at twice the screen's resolution, or SVG.

    Raises:
        UserError: when the file's ending is none of these, or it cannot be written.
    """
    if path.suffix.lower() not in _FORMATS:
        raise UserError(f"a plot is written as {', '.join(_FORMATS)}; got {path.name!r}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix.lower() == ".html":
            chart.save(str(path), inline=True)
        else:
            chart.save(str(path), scale_factor=PIXEL_RATIO)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or error}") from None


_KINDS = {"on the front": RED, "complete": BLUE, "not mature": PALE, "baseline": ORANGE}
_FRONT, _COMPLETE, _IMMATURE, _BASELINE = _KINDS
_CHOSEN = "#e8871e"
# Of the number of a trial, as parts of the chart.
_WIDTH, _HEIGHT = 0.035, 0.05
# Error bars of more trials are faint.
_MOST_BARS = 250
# A baseline farther from the trials than this part of their range is drawn at the edge.
_NEAR = 0.5
_MARGIN = 0.05


class Axes(NamedTuple):
    """What is drawn how.

    Attributes:
        x: a metric.
        y: a metric.
        colour: a parameter of the space; without one, whether a trial is on the front.
        size: a parameter of the space that is a number.
    """

    x: str
    y: str
    colour: str | None = None
    size: str | None = None


def axes_of(spec: Spec) -> Axes:
    """The objectives of a study, or its objective and what it is seen against."""
    return Axes(*compared_metrics(spec)[:2])


def trade_off_data(
    results: StudyResults,
    axes: Axes | None = None,
    chosen: Collection[int] = (),
    limits: Mapping[str, Any] | None = None,
) -> pd.DataFrame:
    """What the trade-off plot draws: a row for each trial and baseline that has values of both metrics.

    Args:
        results: the study.
        axes: which metrics.
        chosen: trials that are drawn whatever else is.
        limits: by metric the worst value that a trial may have; trials without a value, and those beyond it, are left
            out. Baselines stay.

    Returns:
        `x`, `y` with `x_low`, `x_high`, `y_low`, `y_high` (mean plus and minus one standard deviation over replicates),
        `mature`, `front` (of the complete trials that are left, in these two metrics), `kind`, `chosen`, and of the
        columns of results the trial, its state, its configuration and both metrics with their spread.
    """
    axes = axes or axes_of(results.spec)
    trials = within(results.results(), results.spec, limits or {})
    metrics = [column for name in (axes.x, axes.y) for column in (name, f"{name}/sd")]
    columns = ["trial", "state", *metrics, *(f"config/{name}" for name in results.spec.space)]
    known = [part.reindex(columns=dict.fromkeys(columns)) for part in (trials, results.baselines())]
    table = pd.concat([part for part in known if len(part)] or known[:1], ignore_index=True)
    table = table.dropna(subset=[axes.x, axes.y]).reset_index(drop=True)
    table["trial"] = table["trial"].astype(int)
    values: dict[str, Any] = {}
    for axis, name in (("x", axes.x), ("y", axes.y)):
        mean, low, high = mean_and_spread(table, name).values()
        values |= {axis: mean, f"{axis}_low": low.fillna(mean), f"{axis}_high": high.fillna(mean)}
    mature = table["state"] == "complete"
    directions = {name: results.spec.direction(name) for name in dict.fromkeys((axes.x, axes.y))}
    front = np.zeros(len(table), dtype=bool)
    front[mature] = pareto_front(table[mature], directions)
    kind = np.select([front, mature, table["trial"] < 0], [_FRONT, _COMPLETE, _BASELINE], _IMMATURE)
    marks = {"mature": mature, "front": front, "kind": kind, "chosen": table["trial"].isin(list(chosen))}
    return pd.concat([table, pd.DataFrame(values | marks, index=table.index)], axis=1)


def within(trials: pd.DataFrame, spec: Spec, limits: Mapping[str, float]) -> pd.DataFrame:
    """The trials that are no worse than a limit in each metric that has one."""
    for name, limit in limits.items():
        values = trials[name] if name in trials else pd.Series(np.nan, index=trials.index)
        trials = trials[values <= limit if spec.direction(name) == "min" else values >= limit]
    return trials


def trade_off_chart(
    results: StudyResults, axes: Axes | None = None, data: pd.DataFrame | None = None, is_selectable: bool = False
) -> ChartType:
    """Draw `trade_off_data`: complete trials filled, others hollow, the front as a line, baselines as diamonds.

    Args:
        results: the study.
        axes: as for the data; its objectives without them.
        data: the same, if it is there already.
        is_selectable: whether clicks select, as parameter `picked`, and areas do, as `brush`.
    """
    spec = results.spec
    axes = axes or axes_of(spec)
    data = trade_off_data(results, axes) if data is None else data
    x_range, y_range = _range(data, "x"), _range(data, "y")
    drawn, shown = _drawn(sample_of(data, data["front"] | data["chosen"] | (data["trial"] < 0)), spec, axes)
    drawn = _moved_into(drawn, x_range, y_range)
    drawn["number"] = _numbers(drawn, x_range, y_range)
    base = alt.Chart(drawn)
    x = alt.X("x:Q", title=_title(spec, axes.x), scale=alt.Scale(domain=x_range, nice=False))
    y = alt.Y("y:Q", title=_title(spec, axes.y), scale=alt.Scale(domain=y_range, nice=False))
    colour = _colour(drawn, axes)
    tooltip = [
        alt.Tooltip("name:N", title="trial"),
        alt.Tooltip("state:N"),
        alt.Tooltip("x_text:N", title=objective_label(axes.x)),
        alt.Tooltip("y_text:N", title=objective_label(axes.y)),
        *(
            alt.Tooltip(f"{name}:{'Q' if pd.api.types.is_numeric_dtype(drawn[name]) else 'N'}")
            for name in shown.values()
        ),
    ]
    size: dict[str, Any] = {}
    legend = alt.Legend(orient="top", symbolFillColor=GREY, symbolStrokeColor=GREY)
    if axes.size is not None:
        scale = alt.Scale(range=[30, 300], zero=False)
        size = {"size": alt.Size("size:Q", title=parameter_label(axes.size), scale=scale, legend=legend)}
    # Between two points of the front, the better of both in the other metric is what is known to be reachable.
    steps: Literal["step-before", "step-after"] = "step-before" if spec.direction(axes.x) == "max" else "step-after"
    front = (
        base.transform_filter("datum.front")
        .mark_line(color=_KINDS[_FRONT], strokeDash=[4, 3], opacity=0.7, interpolate=steps)
        .encode(x=x, y=y, order=alt.Order("x:Q"))
    )
    faint = 0.45 if len(drawn) <= _MOST_BARS else 0.15
    bars = base.transform_filter("datum.trial >= 0")
    bars_x = bars.mark_rule(opacity=faint).encode(x=alt.X("x_low:Q"), x2="x_high:Q", y=y, color=colour)
    bars_y = bars.mark_rule(opacity=faint).encode(y=alt.Y("y_low:Q"), y2="y_high:Q", x=x, color=colour)
    ring = (
        base.transform_filter("datum.chosen")
        .mark_point(size=260, strokeWidth=2.5, color=_CHOSEN, opacity=1)
        .encode(x=x, y=y)
    )
    circles = (
        base.transform_filter("!datum.mature && datum.trial >= 0")
        .mark_point(size=70, strokeWidth=1.5, opacity=1)
        .encode(x=x, y=y, color=colour, tooltip=tooltip, **size)
    )
    points = (
        base.transform_filter("datum.mature")
        .mark_point(size=70, filled=True, opacity=1)
        .encode(x=x, y=y, color=colour, tooltip=tooltip, **size)
    )
    baselines = base.transform_filter("datum.trial < 0").encode(x=x, y=y)
    diamonds = baselines.mark_point(shape="diamond", size=110, filled=True, opacity=1, color=_KINDS[_BASELINE])
    middle = sum(x_range) / 2  # a name goes towards it, not out of the chart
    sides: tuple[tuple[str, int, Literal["left", "right"]], ...] = (("<=", -6, "left"), (">", 6, "right"))
    names = [
        baselines.transform_filter(f"datum.x {side} {middle}")
        .mark_text(dy=-12, dx=dx, align=align, color=_KINDS[_BASELINE])
        .encode(text="label:N")
        for side, dx, align in sides
    ]
    if is_selectable:
        picked = alt.selection_point(name="picked", fields=["trial"], on="click", empty=False)
        brush = alt.selection_interval(name="brush", encodings=["x", "y"], empty=False)
        points = points.add_params(picked, brush)
    layers = [front, bars_x, bars_y, ring, circles, points, diamonds.encode(tooltip=tooltip[:4]), *names]
    numbers = base.transform_filter("datum.number != ''").mark_text(
        dx=-7, dy=-9, align="right", color=_KINDS[_FRONT], fontWeight="bold"
    )
    layers.append(numbers.encode(x=x, y=y, text="number:N"))
    title = alt.Title(f"Study {spec.name}", subtitle=_subtitle(data, drawn, spec), subtitleColor=GREY)
    return alt.layer(*layers).properties(title=title, width=640, height=420)


def _drawn(data: pd.DataFrame, spec: Spec, axes: Axes) -> tuple[pd.DataFrame, dict[str, str]]:
    """The columns that the chart needs, and names of parameters: Vega reads dots and slashes in names as paths."""
    shown = {f"config/{name}": name.replace(".", " ") for name in spec.space if f"config/{name}" in data}
    columns = ["trial", "state", "x", "y", "x_low", "x_high", "y_low", "y_high", "mature", "front", "kind", "chosen"]
    drawn = data[[*columns, *shown]].rename(columns=shown)
    if axes.colour is not None:
        drawn["colour"] = data.get(f"config/{axes.colour}")
    if axes.size is not None:
        drawn["size"] = data.get(f"config/{axes.size}")
    return drawn, shown


def _colour(drawn: pd.DataFrame, axes: Axes) -> alt.Color:
    legend = alt.Legend(orient="top", symbolOpacity=1)
    if axes.colour is None:
        kinds = [kind for kind in _KINDS if (drawn["kind"] == kind).any()]
        scale = alt.Scale(domain=kinds, range=[_KINDS[kind] for kind in kinds])
        return alt.Color("kind:N", title=None, scale=scale, legend=legend)
    if pd.api.types.is_bool_dtype(drawn["colour"]) or not pd.api.types.is_numeric_dtype(drawn["colour"]):
        scale = alt.Scale(domain=sorted(drawn["colour"].dropna().unique()), scheme="tableau10")
        return alt.Color("colour:N", title=parameter_label(axes.colour), scale=scale, legend=legend)
    scale = alt.Scale(scheme="viridis", type="log" if spans_decades(drawn["colour"]) else "linear")
    return alt.Color("colour:Q", title=parameter_label(axes.colour), scale=scale, legend=legend)


def _subtitle(data: pd.DataFrame, drawn: pd.DataFrame, spec: Spec) -> list[str]:
    complete = int(data["mature"].sum())
    lines = [
        f"{complete:,} complete trial{'s' * (complete != 1)}, "
        + (
            f"mean ± standard deviation over {spec.replicates} replicates"
            if spec.replicates > 1
            else "one replicate each"
        )
    ]
    if len(drawn) < len(data):
        lines.append(f"{len(drawn):,} of {len(data):,} are drawn: the front, what is selected, and a random sample")
    return lines


def _range(data: pd.DataFrame, axis: str) -> list[float]:
    """What an axis shows: all trials with their bars, and the baselines that are not far from them."""
    is_trial = data["trial"] >= 0
    shown = data[is_trial] if is_trial.any() else data
    low, high = float(shown[f"{axis}_low"].min()), float(shown[f"{axis}_high"].max())
    room = (high - low) or 0.2 * max(abs(low), 1.0)
    near = data[~is_trial & data[axis].between(low - _NEAR * room, high + _NEAR * room)]
    low, high = min([low, *near[axis]]), max([high, *near[axis]])
    margin = _MARGIN * ((high - low) or room)
    return [low - margin, high + margin]


def _moved_into(data: pd.DataFrame, x_range: list[float], y_range: list[float]) -> pd.DataFrame:
    """Baselines that lie far from all trials are at the edge, and their names say where they are."""
    is_far = ~data["x"].between(*x_range) | ~data["y"].between(*y_range)
    name = np.where(data["trial"] >= 0, data["trial"].astype(str), data["state"])
    label = [
        f"{one} (at {format_number(row.x)}, {format_number(row.y)})" if far else one
        for one, far, row in zip(name, is_far, data.itertuples(), strict=True)
    ]
    moved = data.assign(name=name, label=label, x_text=_with_spread(data, "x"), y_text=_with_spread(data, "y"))
    for axis, limits in (("x", x_range), ("y", y_range)):
        inner = 0.02 * (limits[1] - limits[0])
        columns = [axis, f"{axis}_low", f"{axis}_high"]
        far = moved.loc[is_far, columns].clip(limits[0] + inner, limits[1] - inner)
        moved.loc[is_far, columns] = far
    return moved


def _numbers(drawn: pd.DataFrame, x_range: list[float], y_range: list[float]) -> list[str]:
    """Numbers of the trials on the front, but for those that would hide another one."""
    shown: list[tuple[float, float]] = []
    found = []
    for row in drawn.itertuples():
        place = (row.x - x_range[0]) / (x_range[1] - x_range[0]), (row.y - y_range[0]) / (y_range[1] - y_range[0])
        is_free = all(abs(place[0] - x) > _WIDTH or abs(place[1] - y) > _HEIGHT for x, y in shown)
        if row.front and is_free:
            shown.append(place)
        found.append(str(row.trial) if row.front and is_free else "")
    return found


def _title(spec: Spec, name: str) -> str:
    return f"{objective_label(name)} ({'lower' if spec.direction(name) == 'min' else 'higher'} is better)"


def _with_spread(data: pd.DataFrame, axis: str) -> list[str]:
    half = (data[f"{axis}_high"] - data[f"{axis}_low"]) / 2
    return [f"{format_number(mean)} ± {format_number(spread)}" for mean, spread in zip(data[axis], half, strict=True)]
