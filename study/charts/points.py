"""Panels of points with error bars: a metric of trials against one of their parameters."""

import math
from typing import Any

import altair as alt
import numpy as np
import pandas as pd
from altair.typing import ChartType

from study.analysis.aggregation import mean_and_spread
from study.charts.style import INK, value_label
from study.spec import Parameter

__all__ = ["domain_of", "independent", "log_ticks", "panel", "points_data", "spans_decades"]

# Trials of one value stand beside one another in this part of its band.
_BAND = 0.7
# Labels of one axis that have more letters than this are turned, not to touch one another.
_MOST_LETTERS = 36
_MOST_DIGITS = 18
_WIDE = 20


def points_data(trials: pd.DataFrame, name: str, parameter: Parameter, metric: str) -> pd.DataFrame:
    """What a panel draws.

    Args:
        trials: rows of results.
        name: of the parameter.
        parameter: what it is.
        metric: a column of results.

    Returns:
        `trial`, `value` of the parameter and `label` as the spec writes it, `mean`, `low` and `high` (minus and plus
        one standard deviation, not a number where there is none), and `offset` within the band of the label, from -0.5
        to 0.5; sorted by value. Trials without the metric or the parameter are left out.
    """
    if metric not in trials or f"config/{name}" not in trials:
        return pd.DataFrame(columns=["trial", "value", "label", "mean", "low", "high", "offset"])
    rows = trials.dropna(subset=[metric, f"config/{name}"])
    values = rows[f"config/{name}"]
    data = pd.DataFrame(
        {
            "trial": rows["trial"],
            "value": values,
            "label": [value_label(parameter, value) for value in values],
            **mean_and_spread(rows, metric),
        }
    ).sort_values(["value", "trial"], ignore_index=True)
    groups = data.groupby("label")
    place, count = groups.cumcount(), groups["trial"].transform("size")
    return data.assign(offset=((place + 0.5) / count - 0.5) * _BAND)


def domain_of(parts: list[pd.DataFrame]) -> tuple[float, float] | None:
    """Limits that hold the points and error bars of all panels of a metric."""
    values = np.concatenate([part[["mean", "low", "high"]].to_numpy(dtype=float).ravel() for part in parts])
    values = values[np.isfinite(values)]
    if not len(values):
        return None
    low, high = float(values.min()), float(values.max())
    margin = 0.06 * (high - low) or 0.05 * max(abs(high), 1.0)
    return low - margin, high + margin


def independent(chart: ChartType) -> ChartType:
    """The same panels side by side, each with bands of its own; Vega takes the width of one for all."""
    separate: ChartType = chart.resolve_scale(xOffset="independent")
    return separate


def panel(
    data: pd.DataFrame,
    parameter: Parameter,
    x_title: str | None,
    y_title: list[str] | None,
    domain: tuple[float, float],
    size: tuple[int, int],
    is_line: bool = False,
    has_means: bool = False,
    reference: str | None = None,
) -> ChartType:
    """Draw `points_data`: numbers of a range on an axis, choices in bands of the same width.

    Args:
        data: what to draw.
        parameter: whose values are on the axis.
        x_title: of the axis; none where the panel below or beside it has the same one.
        y_title: likewise, its lines.
        domain: limits of the metric.
        size: width and height, pixels.
        is_line: whether the points are of one series.
        has_means: whether to mark the mean over the trials of each value.
        reference: label of the value that all other panels' trials have, which gets a ring.
    """
    y = alt.Y("mean:Q", title=y_title, scale=alt.Scale(domain=list(domain), nice=False, zero=False))
    base = alt.Chart(data).encode(**_position(data, parameter, x_title))
    layers: list[alt.Chart] = []
    if is_line:
        layers.append(base.mark_line(color=INK, strokeWidth=1.5, opacity=0.8).encode(y=y))
    layers.append(
        base.transform_filter("isValid(datum.low)")
        .mark_rule(color=INK, opacity=0.55)
        .encode(y=alt.Y("low:Q"), y2="high:Q")
    )
    if has_means:
        means = data.groupby(["value", "label"], as_index=False)["mean"].mean().assign(offset=0.0)
        tick = alt.Chart(means).encode(**_position(means, parameter, x_title))
        length = 0.8 * _BAND * size[0] / len(parameter.choice or [0])
        layers.append(tick.mark_tick(color="#222222", thickness=2, size=length).encode(y=y))
    layers.append(base.mark_point(filled=True, size=36, color=INK, opacity=1).encode(y=y))
    if reference is not None:
        ring = base.transform_filter(alt.FieldEqualPredicate(field="label", equal=reference))
        layers.append(ring.mark_point(size=130, color=INK, strokeWidth=1.5, opacity=1).encode(y=y))
    return alt.layer(*layers).properties(width=size[0], height=size[1])


def _position(data: pd.DataFrame, parameter: Parameter, title: str | None) -> dict[str, Any]:
    if parameter.choice is None:
        scale = alt.Scale(type="log" if parameter.log_uniform else "linear", nice=False, padding=8, zero=False)
        round_numbers = log_ticks(data["value"]) if parameter.log_uniform else []
        ticks = {"values": round_numbers} if len(round_numbers) > 1 else {"tickCount": 5}
        return {"x": alt.X("value:Q", title=title, scale=scale, axis=alt.Axis(format=".4~g", grid=False, **ticks))}
    # All choices, or one that has no complete trial would not be missed.
    order = [value_label(parameter, choice) for choice in _in_order(parameter)]
    axis = alt.Axis(labelAngle=-35 if sum(map(len, order)) > _MOST_LETTERS else 0, labelLimit=110, grid=False)
    return {
        "x": alt.X("label:N", title=title, scale=alt.Scale(domain=order), axis=axis),
        "xOffset": alt.XOffset("offset:Q", scale=alt.Scale(domain=[-0.5, 0.5])),
    }


def spans_decades(values: pd.Series) -> bool:
    """Whether numbers are best seen by their logarithm: all are positive, and they differ by a large factor."""
    known = values.dropna()
    return bool(len(known) and known.min() > 0 and known.max() / known.min() > _WIDE)


def log_ticks(values: pd.Series) -> list[float]:
    """Round numbers within the values: as many of each decade as leave room for their labels."""
    low, high = float(values.min()), float(values.max())
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    ticks: list[float] = []
    for digits in ((1, 2, 5), (1, 3), (1,)):
        ticks = [digit * 10.0**decade for decade in decades for digit in digits]
        ticks = [tick for tick in ticks if low <= tick <= high]
        if sum(len(f"{tick:g}") for tick in ticks) <= _MOST_DIGITS:
            break
    return ticks


def _in_order(parameter: Parameter) -> list[Any]:
    choices = list(parameter.choice or ())
    return choices if any(isinstance(choice, str | bool) for choice in choices) else sorted(choices)
