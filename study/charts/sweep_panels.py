"""Panels of metrics against single parameters, with error bars: one grid for numbers, one for choices."""

from typing import Any

import altair as alt
import numpy as np
import pandas as pd
from altair.typing import ChartType

from study.analysis.aggregation import mean_and_spread
from study.analysis.parameter_effects import Sweep, is_numeric
from study.charts.style import (
    GREY,
    INK,
    WIDTH,
    MissingDataError,
    log_ticks,
    metric_lines,
    parameter_description,
    parameter_label,
    value_label,
)
from study.charts.trade_off import trade_off_metrics
from study.spec import Parameter, Spec

__all__ = [
    "Panels",
    "categorical_chart",
    "categorical_panels",
    "common_domain",
    "numeric_chart",
    "numeric_panels",
    "panel_chart",
    "panel_data",
]

Panels = dict[str, dict[str, pd.DataFrame]]
"""`panel_data` for each parameter and metric."""

_MAX_COLUMNS = 3
# Trials with the same value are spread over this part of its band.
_BAND = 0.7
# Labels of one axis with more letters than this are rotated, because they would overlap.
_MAX_LETTERS = 36


def numeric_panels(sweep: Sweep, spec: Spec) -> Panels:
    """Return the panels of the numeric parameters that have at least two values among the trials to draw.

    Raises:
        MissingDataError: If there is none.
    """
    panels = _panels(sweep, spec, numeric=True)
    if not panels:
        raise MissingDataError("no parameter of the study is a number")
    panels = _with_variation(panels, "value")
    if not panels:
        raise MissingDataError("no numeric parameter has two values among the complete trials")
    return panels


def numeric_chart(panels: Panels, sweep: Sweep, spec: Spec) -> ChartType:
    """Draw `numeric_panels`: a column for each parameter, a row for each metric."""
    domains = _domains(panels, spec)
    width = WIDTH // min(max(len(panels), 2), _MAX_COLUMNS) - 70
    columns: list[ChartType] = []
    for index, (name, metrics) in enumerate(panels.items()):
        parameter = spec.space[name]
        reference = (sweep.reference or {}).get(name)
        rows = [
            panel_chart(
                data,
                parameter,
                x_title=parameter_label(name) if metric == list(metrics)[-1] else None,
                y_title=metric_lines(spec, metric) if index % _MAX_COLUMNS == 0 else None,
                domain=domain,
                size=(width, 150),
                is_line=sweep.reference is not None,
                reference=None if reference is None else value_label(parameter, reference),
            )
            for metric, data in metrics.items()
            if (domain := domains[metric]) is not None and len(data)
        ]
        title = alt.Title(parameter_label(name), subtitle=parameter_description(name), subtitleColor=GREY)
        columns.append(_with_own_bands(alt.vconcat(*rows, spacing=8, title=title)))
    return _with_own_bands(alt.concat(*columns, columns=_MAX_COLUMNS, spacing=22))


def categorical_panels(sweep: Sweep, spec: Spec) -> Panels:
    """Return the panels of the categorical parameters that have at least two values among the trials to draw.

    Raises:
        MissingDataError: If there is none.
    """
    panels = _panels(sweep, spec, numeric=False)
    if not panels:
        raise MissingDataError("every parameter of the study is a number")
    panels = _with_variation(panels, "label")
    if not panels:
        raise MissingDataError("no categorical parameter has two values among the complete trials")
    return panels


def categorical_chart(panels: Panels, spec: Spec) -> ChartType:
    """Draw `categorical_panels`: a row for each parameter, a column for each metric."""
    domains = _domains(panels, spec)
    width = WIDTH // max(len(domains), 2) - 80
    rows = []
    for name, metrics in panels.items():
        columns = [
            panel_chart(
                data,
                spec.space[name],
                x_title=parameter_label(name),
                y_title=metric_lines(spec, metric),
                domain=domain,
                size=(width, 200),
                has_means=True,
            )
            for metric, data in metrics.items()
            if (domain := domains[metric]) is not None and len(data)
        ]
        rows.append(_with_own_bands(alt.hconcat(*columns, spacing=30)))
    return _with_own_bands(alt.vconcat(*rows, spacing=24))


def panel_data(trials: pd.DataFrame, name: str, parameter: Parameter, metric: str) -> pd.DataFrame:
    """Return a metric of trials against one parameter.

    Args:
        trials: Rows of results. Trials without the metric or the parameter are skipped.
        name: Name of the parameter.
        parameter: Its range or choices.
        metric: Column of `trials`.

    Returns:
        Sorted by value: `trial`; `value` of the parameter, and `label` as the spec writes it; `mean`, `low` and `high`
        (one standard deviation below and above, NaN for a single replicate); `offset` within the band of the label,
        from -0.5 to 0.5.
    """
    if metric not in trials or f"config/{name}" not in trials:
        return pd.DataFrame(columns=["trial", "value", "label", "mean", "low", "high", "offset"])
    rows = trials.dropna(subset=[metric, f"config/{name}"])
    values = rows[f"config/{name}"]
    labels = [value_label(parameter, value) for value in values]
    columns = {"trial": rows["trial"], "value": values, "label": labels, **mean_and_spread(rows, metric)}
    data = pd.DataFrame(columns).sort_values(["value", "trial"], ignore_index=True)
    groups = data.groupby("label")
    position, count = groups.cumcount(), groups["trial"].transform("size")
    return data.assign(offset=((position + 0.5) / count - 0.5) * _BAND)


def common_domain(panels: list[pd.DataFrame]) -> tuple[float, float] | None:
    """Return limits that contain the points and error bars of several panels; None if they have no points."""
    values = np.concatenate([data[["mean", "low", "high"]].to_numpy(dtype=float).ravel() for data in panels])
    values = values[np.isfinite(values)]
    if not len(values):
        return None
    low, high = float(values.min()), float(values.max())
    margin = 0.06 * (high - low) or 0.05 * max(abs(high), 1.0)
    return low - margin, high + margin


def panel_chart(
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
    """Draw `panel_data`: a range as an axis of numbers, choices as bands of equal width.

    Args:
        data: Points of the panel.
        parameter: Parameter along x.
        x_title: Title of the x axis; None if a neighbouring panel has the same one.
        y_title: Lines of the title of the y axis; None if a neighbouring panel has the same ones.
        domain: Limits of the metric.
        size: Width and height in pixels.
        is_line: Whether to connect the points.
        has_means: Whether to mark the mean over the trials of each value.
        reference: Label of the value to mark with a ring, the reference of a sweep.
    """
    y = alt.Y("mean:Q", title=y_title, scale=alt.Scale(domain=list(domain), nice=False, zero=False))
    base = alt.Chart(data).encode(**_x_encoding(data, parameter, x_title))
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
        tick = alt.Chart(means).encode(**_x_encoding(means, parameter, x_title))
        length = 0.8 * _BAND * size[0] / len(parameter.choice or [0])
        layers.append(tick.mark_tick(color="#222222", thickness=2, size=length).encode(y=y))
    layers.append(base.mark_point(filled=True, size=36, color=INK, opacity=1).encode(y=y))
    if reference is not None:
        ring = base.transform_filter(alt.FieldEqualPredicate(field="label", equal=reference))
        layers.append(ring.mark_point(size=130, color=INK, strokeWidth=1.5, opacity=1).encode(y=y))
    return alt.layer(*layers).properties(width=size[0], height=size[1])


def _panels(sweep: Sweep, spec: Spec, numeric: bool) -> Panels:
    return {
        name: {metric: panel_data(sweep.trials[name], name, parameter, metric) for metric in trade_off_metrics(spec)}
        for name, parameter in spec.space.items()
        if is_numeric(parameter) == numeric
    }


def _with_variation(panels: Panels, column: str) -> Panels:
    """Return the panels of the parameters that have at least two values in a column."""
    return {
        name: metrics
        for name, metrics in panels.items()
        if max(data[column].nunique() for data in metrics.values()) > 1
    }


def _domains(panels: Panels, spec: Spec) -> dict[str, tuple[float, float] | None]:
    return {
        metric: common_domain([metrics[metric] for metrics in panels.values()]) for metric in trade_off_metrics(spec)
    }


def _with_own_bands(chart: ChartType) -> ChartType:
    """Give each panel a separate scale of offsets, because Vega otherwise uses the width of one panel for all."""
    separate: ChartType = chart.resolve_scale(xOffset="independent")
    return separate


def _x_encoding(data: pd.DataFrame, parameter: Parameter, title: str | None) -> dict[str, Any]:
    if parameter.choice is None:
        scale = alt.Scale(type="log" if parameter.log_uniform else "linear", nice=False, padding=8, zero=False)
        round_numbers = log_ticks(data["value"]) if parameter.log_uniform else []
        ticks = {"values": round_numbers} if len(round_numbers) > 1 else {"tickCount": 5}
        return {"x": alt.X("value:Q", title=title, scale=scale, axis=alt.Axis(format=".4~g", grid=False, **ticks))}
    choices = list(parameter.choice)
    if not any(isinstance(choice, str | bool) for choice in choices):
        choices.sort()
    # Choices without a complete trial are shown, too.
    labels = [value_label(parameter, choice) for choice in choices]
    axis = alt.Axis(labelAngle=-35 if sum(map(len, labels)) > _MAX_LETTERS else 0, labelLimit=110, grid=False)
    return {
        "x": alt.X("label:N", title=title, scale=alt.Scale(domain=labels), axis=axis),
        "xOffset": alt.XOffset("offset:Q", scale=alt.Scale(domain=[-0.5, 0.5])),
    }
