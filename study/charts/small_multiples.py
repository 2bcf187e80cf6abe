"""Small multiples: a panel for each numeric parameter and metric, with a series for each value of another parameter."""

from collections.abc import Sequence
from typing import Any

import altair as alt
import pandas as pd
from altair.typing import ChartType

from study.analysis.aggregation import mean_and_spread
from study.analysis.parameter_effects import find_sweep, is_numeric
from study.charts.style import (
    MissingDataError,
    downsample,
    log_ticks,
    metric_lines,
    parameter_label,
    spans_decades,
    value_label,
)
from study.spec import Spec

__all__ = ["default_parameters", "small_multiple_chart", "small_multiples_data"]

_ALL = "all trials"
_ABSENT = "absent"
_LEGEND_COLUMNS = 2


def default_parameters(spec: Spec) -> list[str]:
    """Return the loss weights of a space; all of its numeric parameters if it has no loss weights."""
    numbers = [name for name, parameter in spec.space.items() if is_numeric(parameter)]
    weights = [name for name in numbers if name.startswith(("loss.", "contrast.")) and name != "contrast.temperature"]
    return weights or numbers


def small_multiples_data(
    table: pd.DataFrame, spec: Spec, parameters: Sequence[str], metrics: Sequence[str], series: str | None
) -> pd.DataFrame:
    """Return metrics of the complete trials against parameters.

    If a study changes one parameter at a time, a parameter is shown with the trials that differ in it alone. Very many
    trials are downsampled.

    Args:
        table: Results of all trials.
        spec: Spec of the study.
        parameters: Numeric parameters of the space.
        metrics: Columns of `table`.
        series: Parameter of the space that divides the trials into series, or None.

    Returns:
        `parameter`, `metric`, `trial`, `value`, `series`, `mean`, and `low` and `high` (one standard deviation over
        replicates below and above, NaN for a single replicate).

    Raises:
        MissingDataError: If no complete trial has one of the parameters and one of the metrics.
    """
    sweep = find_sweep(table, spec)
    panels = []
    for parameter in parameters:
        trials = sweep.trials[parameter]
        for metric in metrics:
            if metric not in trials:
                continue
            rows = downsample(trials.dropna(subset=[metric]))
            panels.append(
                pd.DataFrame(
                    {
                        "parameter": parameter,
                        "metric": metric,
                        "trial": rows["trial"],
                        "value": rows[f"config/{parameter}"].astype(float),
                        "series": _series(rows, spec, series),
                        **mean_and_spread(rows, metric),
                    }
                )
            )
    panels = [panel for panel in panels if len(panel)]
    if not panels:
        raise MissingDataError("no complete trial has values of these parameters and metrics yet")
    return pd.concat(panels, ignore_index=True)


def small_multiple_chart(data: pd.DataFrame, spec: Spec, parameter: str, metric: str) -> ChartType | None:
    """Draw one panel of `small_multiples_data`; return None if it has no points. A series has one colour in all."""
    rows = data[(data["parameter"] == parameter) & (data["metric"] == metric)]
    if rows.empty:
        return None
    is_log = spec.space[parameter].log_uniform is not None or spans_decades(rows["value"])
    scale = alt.Scale(type="log", nice=False, padding=8) if is_log else alt.Scale(nice=False, padding=8, zero=False)
    round_numbers = log_ticks(rows["value"]) if is_log else []
    ticks: dict[str, Any] = {"values": round_numbers} if len(round_numbers) > 1 else {"tickCount": 4}
    series = sorted(data["series"].unique())
    label = metric_lines(spec, metric)[0]
    base = alt.Chart(rows).encode(
        x=alt.X("value:Q", title=parameter_label(parameter), scale=scale, axis=alt.Axis(format=".4~g", **ticks)),
        color=alt.Color(
            "series:N",
            title=None,
            scale=alt.Scale(domain=series, scheme="tableau10"),
            legend=alt.Legend(orient="top", columns=_LEGEND_COLUMNS, symbolOpacity=1) if len(series) > 1 else None,
        ),
    )
    y = alt.Y("mean:Q", title=label, scale=alt.Scale(zero=False))
    bars = base.transform_filter("isValid(datum.low)").mark_rule(opacity=0.5).encode(y=alt.Y("low:Q"), y2="high:Q")
    points = base.mark_point(filled=True, size=45, opacity=0.9).encode(
        y=y,
        tooltip=[
            alt.Tooltip("trial:Q"),
            alt.Tooltip("value:Q", title=parameter_label(parameter), format=".4g"),
            alt.Tooltip("mean:Q", title=label, format=".4g"),
            alt.Tooltip("series:N"),
        ],
    )
    return alt.layer(bars, points).properties(height=300)


def _series(rows: pd.DataFrame, spec: Spec, parameter: str | None) -> list[str]:
    """Return the series of each trial; trials without a conditional parameter form a separate one."""
    if parameter is None or f"config/{parameter}" not in rows:
        return [_ALL if parameter is None else _ABSENT] * len(rows)
    values = rows[f"config/{parameter}"]
    return [_ABSENT if pd.isna(value) else value_label(spec.space[parameter], value) for value in values]
