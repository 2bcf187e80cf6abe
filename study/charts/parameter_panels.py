"""Panels of metrics against single parameters, with error bars.

The report draws the trials of a sweep in two grids, of numeric parameters and of choices. The dashboard draws small
multiples of numeric parameters, whose series are the choices of another parameter.
"""

from collections.abc import Sequence
from itertools import product
from typing import Any

import altair as alt
import numpy as np
import pandas as pd
from altair.typing import ChartType

from study.analysis.aggregation import Spread, mean_and_spread
from study.analysis.parameter_effects import Sweep, find_sweep, is_numeric
from study.analysis.trade_off import trade_off_metrics
from study.charts import style
from study.spec import Parameter, Spec

Panels = dict[str, dict[str, pd.DataFrame]]
"""`panel_data` for each parameter and metric."""

_MAX_COLUMNS = 3
_BAND = 0.7  # part of a choice's band over which its trials are spread
_MAX_LETTERS = 36  # labels of an axis with more letters in total would overlap, and are rotated


def sweep_panels(sweep: Sweep, spec: Spec, numeric: bool) -> Panels:
    """Return the panels of the numeric or of the categorical parameters with at least two values among the trials."""
    panels = {
        name: {metric: panel_data(sweep.trials[name], name, parameter, metric) for metric in trade_off_metrics(spec)}
        for name, parameter in spec.space.items()
        if is_numeric(parameter) == numeric
    }
    if not panels:
        raise style.MissingDataError(f"{'no' if numeric else 'every'} parameter of the study is a number")
    kind, column = ("numeric", "value") if numeric else ("categorical", "label")
    counts = {name: max(data[column].nunique() for data in metrics.values()) for name, metrics in panels.items()}
    if max(counts.values()) < 2:
        raise style.MissingDataError(f"no {kind} parameter has two values among the complete trials")
    return {name: metrics for name, metrics in panels.items() if counts[name] > 1}


def numeric_chart(panels: Panels, sweep: Sweep, spec: Spec) -> ChartType:
    """Draw panels of numeric parameters: a column for each parameter, a row for each metric."""
    domains = _domains(panels)
    width = style.WIDTH // min(max(len(panels), 2), _MAX_COLUMNS) - 70
    columns: list[ChartType] = []
    for index, (name, metrics) in enumerate(panels.items()):
        parameter, label = spec.space[name], style.parameter_label(name)
        reference = (sweep.reference or {}).get(name)
        rows = [
            panel_chart(
                data,
                parameter,
                x_title=label if metric == list(metrics)[-1] else None,
                y_title=style.metric_lines(spec, metric) if index % _MAX_COLUMNS == 0 else None,
                domain=domain,
                size=(width, 150),
                is_line=sweep.reference is not None,
                reference=None if reference is None else style.value_label(parameter, reference),
            )
            for metric, data in metrics.items()
            if (domain := domains[metric]) is not None and len(data)
        ]
        title = alt.Title(label, subtitle=style.parameter_description(name), subtitleColor=style.GREY)
        columns.append(_with_own_bands(alt.vconcat(*rows, spacing=8, title=title)))
    return _with_own_bands(alt.concat(*columns, columns=_MAX_COLUMNS, spacing=22))


def categorical_chart(panels: Panels, spec: Spec) -> ChartType:
    """Draw panels of categorical parameters: a row for each parameter, a column for each metric."""
    domains = _domains(panels)
    size = (style.WIDTH // max(len(domains), 2) - 80, 200)
    rows = []
    for name, metrics in panels.items():
        label = style.parameter_label(name)
        columns = [
            panel_chart(data, spec.space[name], label, style.metric_lines(spec, metric), domain, size, has_means=True)
            for metric, data in metrics.items()
            if (domain := domains[metric]) is not None and len(data)
        ]
        rows.append(_with_own_bands(alt.hconcat(*columns, spacing=30)))
    return _with_own_bands(alt.vconcat(*rows, spacing=24))


def panel_data(trials: pd.DataFrame, name: str, parameter: Parameter, metric: str) -> pd.DataFrame:
    """Return a metric of trials against one parameter. Trials without one of both are skipped.

    Returns:
        Sorted by value: `trial`; `value` of the parameter, and `label` as the spec writes it; `mean`, `low` and `high`
        (the ends of its 90 % interval, NaN for a single replicate); `offset` within the band of the label,
        from -0.5 to 0.5.
    """
    if metric not in trials or f"config/{name}" not in trials:
        return pd.DataFrame(columns=["trial", "value", "label", "mean", "low", "high", "offset"])
    rows = trials.dropna(subset=[metric, f"config/{name}"])
    values = rows[f"config/{name}"]
    labels = [style.value_label(parameter, value) for value in values]
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

    `domain` is the limits of the metric, `size` width and height in pixels. Titles are None if a neighbouring panel has
    them. A line may connect the points, a tick mark the mean over the trials of each value, and a ring the value whose
    label is `reference`, the reference of a sweep.
    """
    y = alt.Y("mean:Q", title=y_title, scale=alt.Scale(domain=list(domain), nice=False, zero=False))
    base = alt.Chart(data).encode(**_x_encoding(data, parameter, x_title))
    layers: list[alt.Chart] = []
    if is_line:
        layers.append(base.mark_line(color=style.INK, strokeWidth=1.5, opacity=0.8).encode(y=y))
    layers.append(style.error_bars(base, color=style.INK, opacity=0.55))
    if has_means:
        means = data.groupby(["value", "label"], as_index=False)["mean"].mean().assign(offset=0.0)
        tick = alt.Chart(means).encode(**_x_encoding(means, parameter, x_title))
        length = 0.8 * _BAND * size[0] / len(parameter.choice or [0])
        layers.append(tick.mark_tick(color=style.TEXT, thickness=2, size=length).encode(y=y))
    layers.append(base.mark_point(filled=True, size=36, color=style.INK, opacity=1).encode(y=y))
    if reference is not None:
        ring = base.transform_filter(alt.FieldEqualPredicate(field="label", equal=reference))
        layers.append(ring.mark_point(size=130, color=style.INK, strokeWidth=1.5, opacity=1).encode(y=y))
    return alt.layer(*layers).properties(width=size[0], height=size[1])


def default_parameters(spec: Spec) -> list[str]:
    """Return the loss weights of a space; all of its numeric parameters if it has no loss weights."""
    numbers = [name for name, parameter in spec.space.items() if is_numeric(parameter)]
    weights = [name for name in numbers if name.startswith(("loss.", "contrast.")) and name != "contrast.temperature"]
    return weights or numbers


def small_multiples_data(
    table: pd.DataFrame,
    spec: Spec,
    parameters: Sequence[str],
    metrics: Sequence[str],
    series: str | None,
    spread: Spread = "ci",
) -> pd.DataFrame:
    """Return metrics of the complete trials against numeric parameters; a random sample of very many trials.

    If a study changes one parameter at a time, a parameter is shown with the trials that differ in it alone. `series`
    is the parameter that divides the trials into series.

    Returns:
        `parameter`, `metric`, `trial`, `value`, `series`, `mean`, and `low` and `high` (the ends of the error
        bar over replicates, NaN for a single replicate).
    """
    sweep = find_sweep(table, spec)
    panels = []
    for parameter, metric in product(parameters, (name for name in metrics if name in table)):
        rows = style.downsample(sweep.trials[parameter].dropna(subset=[metric]))
        if rows.empty:
            continue
        columns = {"trial": rows["trial"], "value": rows[f"config/{parameter}"].astype(float)}
        columns |= {"series": _series(rows, spec, series), **mean_and_spread(rows, metric, spread)}
        panels.append(pd.DataFrame({"parameter": parameter, "metric": metric, **columns}))
    if not panels:
        raise style.MissingDataError("no complete trial has values of these parameters and metrics yet")
    return pd.concat(panels, ignore_index=True)


def small_multiple_chart(data: pd.DataFrame, spec: Spec, parameter: str, metric: str) -> ChartType:
    """Draw one panel of `small_multiples_data`. A series has the same colour in all panels."""
    rows = data[(data["parameter"] == parameter) & (data["metric"] == metric)]
    is_log = spec.space[parameter].log_uniform is not None or style.spans_decades(rows["value"])
    scale = alt.Scale(type="log", nice=False, padding=8) if is_log else alt.Scale(nice=False, padding=8, zero=False)
    series = sorted(data["series"].unique())
    legend = alt.Legend(orient="top", columns=2, symbolOpacity=1) if len(series) > 1 else None
    title, label = style.parameter_label(parameter), style.metric_lines(spec, metric)
    colours, shapes = style.category_marks(len(series))
    base = alt.Chart(rows).encode(
        x=alt.X("value:Q", title=title, scale=scale, axis=style.number_axis(rows["value"], is_log, 4)),
        color=alt.Color("series:N", title=None, scale=alt.Scale(domain=series, range=colours), legend=legend),
        shape=alt.Shape("series:N", title=None, scale=alt.Scale(domain=series, range=shapes), legend=legend),
    )
    points = base.mark_point(filled=True, size=45, opacity=0.9).encode(
        y=alt.Y("mean:Q", title=label, scale=alt.Scale(zero=False)),
        tooltip=[
            alt.Tooltip("trial:Q"),
            alt.Tooltip("value:Q", title=title, format=".3~g"),
            alt.Tooltip("mean:Q", title=label[0], format=".3~g"),
            alt.Tooltip("series:N"),
        ],
    )
    return alt.layer(style.error_bars(base, opacity=0.5), points).properties(height=300)


def _series(rows: pd.DataFrame, spec: Spec, parameter: str | None) -> list[str]:
    """Return the series of each trial; trials without a conditional parameter form a separate one."""
    if parameter is None:
        return ["all trials"] * len(rows)
    values = rows.reindex(columns=[f"config/{parameter}"]).squeeze(axis=1)
    return ["absent" if pd.isna(value) else style.value_label(spec.space[parameter], value) for value in values]


def _domains(panels: Panels) -> dict[str, tuple[float, float] | None]:
    names = next(iter(panels.values()))
    return {metric: common_domain([metrics[metric] for metrics in panels.values()]) for metric in names}


def _with_own_bands(chart: ChartType) -> ChartType:
    """Give each panel a separate scale of offsets, because Vega otherwise uses the width of one panel for all."""
    separate: ChartType = chart.resolve_scale(xOffset="independent")
    return separate


def _x_encoding(data: pd.DataFrame, parameter: Parameter, title: str | None) -> dict[str, Any]:
    if parameter.choice is None:
        is_log = parameter.log_uniform is not None
        scale = alt.Scale(type="log" if is_log else "linear", nice=False, padding=8, zero=False)
        axis = style.number_axis(data["value"], is_log, 5, grid=False)
        return {"x": alt.X("value:Q", title=title, scale=scale, axis=axis)}
    choices = list(parameter.choice)
    if not any(isinstance(choice, str | bool) for choice in choices):
        choices.sort()
    labels = [style.value_label(parameter, choice) for choice in choices]  # including those without a complete trial
    axis = alt.Axis(labelAngle=-35 if sum(map(len, labels)) > _MAX_LETTERS else 0, labelLimit=110, grid=False)
    return {
        "x": alt.X("label:N", title=title, scale=alt.Scale(domain=labels), axis=axis),
        "xOffset": alt.XOffset("offset:Q", scale=alt.Scale(domain=[-0.5, 0.5])),
    }
