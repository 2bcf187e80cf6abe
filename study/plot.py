"""The trade-off plot: one objective against another, one point a trial, with error bars and the front."""

from pathlib import Path
from typing import Literal

import altair as alt
import pandas as pd
from altair.typing import ChartType

from study.errors import UserError
from study.results import StudyResults
from study.spec import Spec
from study.tables import objective_label

__all__ = ["PIXEL_RATIO", "compared_metrics", "save_chart", "trade_off_chart", "trade_off_data"]

PIXEL_RATIO = 2
"""Pixels of a PNG file for each one of the chart."""

_FORMATS = (".html", ".png", ".svg")


def trade_off_data(results: StudyResults) -> pd.DataFrame:
    """What the trade-off plot draws: a row for each trial that has values of both objectives.

    Returns:
        `x`, `y` with `x_low`, `x_high`, `y_low`, `y_high` (mean plus and minus one standard deviation over replicates),
        `mature`, `front`, and the trial's columns of results.
    """
    table = results.results()
    x, y = _axes(results.spec)
    for name in (x, y):
        if name not in table:
            table[name] = float("nan")
    table = table.dropna(subset=[x, y]).reset_index(drop=True)
    for axis, name in (("x", x), ("y", y)):
        spread = table[f"{name}/sd"].fillna(0.0) if f"{name}/sd" in table else 0.0
        table[axis], table[f"{axis}_low"], table[f"{axis}_high"] = (
            table[name],
            table[name] - spread,
            table[name] + spread,
        )
    table["mature"] = table["state"] == "complete"
    table["front"] = table["trial"].isin(results.front(table)["trial"])
    return table


def trade_off_chart(results: StudyResults) -> alt.LayerChart | alt.FacetChart:
    """Draw `trade_off_data`: complete trials filled, others hollow, the front as a line."""
    data = trade_off_data(results)
    spec = results.spec
    x_name, y_name = _axes(spec)
    x = alt.X("x:Q", title=_title(spec, x_name), scale=_scale(data, "x"))
    y = alt.Y("y:Q", title=_title(spec, y_name), scale=_scale(data, "y"))
    # Column names hold dots and slashes, which Vega reads as paths; the tooltip gets plain ones.
    shown = {f"config/{name}": name.replace(".", " ") for name in spec.space if f"config/{name}" in data}
    drawn = data[["trial", "state", "x", "y", "x_low", "x_high", "y_low", "y_high", "mature", "front", *shown]]
    drawn = drawn.rename(columns=shown).assign(
        x_text=_with_spread(data, "x"), y_text=_with_spread(data, "y"), kind=_kind(data)
    )
    tooltip = [
        alt.Tooltip("trial:Q"),
        alt.Tooltip("state:N"),
        alt.Tooltip("x_text:N", title=objective_label(x_name)),
        alt.Tooltip("y_text:N", title=objective_label(y_name)),
        *(
            alt.Tooltip(f"{name}:{'Q' if pd.api.types.is_numeric_dtype(drawn[name]) else 'N'}")
            for name in shown.values()
        ),
    ]
    base = alt.Chart(drawn)
    # Between two points of the front, the better of both in the other objective is what is known to be reachable.
    steps: Literal["step-before", "step-after"] = (
        "step-before" if spec.objectives.get(x_name) == "max" else "step-after"
    )
    colour = alt.Color(
        "kind:N",
        title=None,
        scale=alt.Scale(domain=["on the front", "complete", "not mature"], range=["#d1495b", "#30638e", "#8d99ae"]),
        legend=alt.Legend(orient="top"),
    )
    bars_x = base.mark_rule(opacity=0.45).encode(x=alt.X("x_low:Q"), x2="x_high:Q", y=y, color=colour)
    bars_y = base.mark_rule(opacity=0.45).encode(y=alt.Y("y_low:Q"), y2="y_high:Q", x=x, color=colour)
    front = (
        base.transform_filter("datum.front")
        .mark_line(color="#d1495b", strokeDash=[4, 3], opacity=0.7, interpolate=steps)
        .encode(x=x, y=y, order=alt.Order("x:Q"))
    )
    circles = base.mark_point(size=70, strokeWidth=1.5, opacity=1).encode(x=x, y=y, color=colour, tooltip=tooltip)
    points = (
        base.transform_filter("datum.mature")
        .mark_point(size=70, filled=True, opacity=1)
        .encode(x=x, y=y, color=colour, tooltip=tooltip)
    )
    labels = (
        base.transform_filter("datum.front").mark_text(dx=-7, dy=-9, align="right").encode(x=x, y=y, text="trial:Q")
    )
    complete = int(data["mature"].sum())
    count = f"{complete} complete trial{'s' * (complete != 1)}, " + (
        f"mean ± standard deviation over {spec.replicates} replicates" if spec.replicates > 1 else "one replicate each"
    )
    return alt.layer(front, bars_x, bars_y, circles, points, labels).properties(
        title=alt.Title(f"Study {spec.name}", subtitle=count), width=640, height=420
    )


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


def _axes(spec: Spec) -> tuple[str, str]:
    """The two metrics to plot."""
    first, second = compared_metrics(spec)[:2]
    return first, second


def _scale(data: pd.DataFrame, axis: str) -> alt.Scale:
    """From the lowest to the highest value; around a single one there is room, or its tick is labelled as zero."""
    low, high = data[f"{axis}_low"].min(), data[f"{axis}_high"].max()
    if low < high or data.empty:
        return alt.Scale(zero=False)
    return alt.Scale(domain=[low - 0.1 * max(abs(low), 1.0), low + 0.1 * max(abs(low), 1.0)])


def _title(spec: Spec, name: str) -> str:
    mode = spec.objectives.get(name)
    return objective_label(name) + {"min": " (lower is better)", "max": " (higher is better)", None: ""}[mode]


def _with_spread(data: pd.DataFrame, axis: str) -> list[str]:
    half = (data[f"{axis}_high"] - data[f"{axis}_low"]) / 2
    return [f"{mean:.3f} ± {spread:.3f}" for mean, spread in zip(data[axis], half, strict=True)]


def _kind(data: pd.DataFrame) -> list[str]:
    return [
        "on the front" if front else "complete" if mature else "not mature"
        for front, mature in zip(data["front"], data["mature"], strict=True)
    ]
