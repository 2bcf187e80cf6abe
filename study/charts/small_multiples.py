"""Small multiples: each parameter that is a number against each metric, one series a choice, with error bars."""

from collections.abc import Sequence
from typing import Any

import altair as alt
import pandas as pd
from altair.typing import ChartType

from study.analysis.aggregation import mean_and_spread
from study.analysis.parameter_effects import find_sweep, is_numeric
from study.charts.points import log_ticks, spans_decades
from study.charts.style import metric_lines, parameter_label, sample_of, value_label
from study.report.context import MissingError
from study.spec import Spec

__all__ = ["small_multiple", "weights_data", "weights_of"]

_ALL = "all trials"
_ABSENT = "absent"
# Of the legend above a panel, which is narrow.
_LEGEND_COLUMNS = 2


def weights_of(spec: Spec) -> list[str]:
    """The loss weights of a space, or where there are none all of its numbers."""
    numbers = [name for name, parameter in spec.space.items() if is_numeric(parameter)]
    weights = [name for name in numbers if name.startswith(("loss.", "contrast.")) and name != "contrast.temperature"]
    return weights or numbers


def weights_data(
    table: pd.DataFrame, spec: Spec, parameters: Sequence[str], metrics: Sequence[str], series: str | None
) -> pd.DataFrame:
    """What small multiples show, of the complete trials.

    Where a study changes one parameter at a time, a parameter is shown by the trials that differ in it alone. Of very
    many trials it is a sample, as of `study.charts.style`.

    Args:
        table: results of all trials.
        spec: of the study.
        parameters: of the space, numbers.
        metrics: columns of results.
        series: a parameter of the space by whose values points are told apart.

    Returns:
        `parameter, metric, trial, value, series`, and `mean, low, high` (minus and plus one standard deviation over
        replicates; not a number where there is none).

    Raises:
        MissingError: when no complete trial has one of the parameters and one of the metrics.
    """
    sweep = find_sweep(table, spec)
    parts = []
    for parameter in parameters:
        trials = sweep.trials[parameter]
        for metric in metrics:
            if metric not in trials:
                continue
            rows = sample_of(trials.dropna(subset=[metric]))
            parts.append(
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
    parts = [part for part in parts if len(part)]
    if not parts:
        raise MissingError("no complete trial has values of these parameters and metrics yet")
    return pd.concat(parts, ignore_index=True)


def small_multiple(data: pd.DataFrame, spec: Spec, parameter: str, metric: str) -> ChartType | None:
    """One panel of `weights_data`; none where it has no point. All panels have the same colours of series."""
    part = data[(data["parameter"] == parameter) & (data["metric"] == metric)]
    if part.empty:
        return None
    is_log = spec.space[parameter].log_uniform is not None or spans_decades(part["value"])
    scale = alt.Scale(type="log", nice=False, padding=8) if is_log else alt.Scale(nice=False, padding=8, zero=False)
    round_numbers = log_ticks(part["value"]) if is_log else []
    ticks: dict[str, Any] = {"values": round_numbers} if len(round_numbers) > 1 else {"tickCount": 4}
    series = sorted(data["series"].unique())
    base = alt.Chart(part).encode(
        x=alt.X("value:Q", title=parameter_label(parameter), scale=scale, axis=alt.Axis(format=".4~g", **ticks)),
        color=alt.Color(
            "series:N",
            title=None,
            scale=alt.Scale(domain=series, scheme="tableau10"),
            legend=alt.Legend(orient="top", columns=_LEGEND_COLUMNS, symbolOpacity=1) if len(series) > 1 else None,
        ),
    )
    y = alt.Y("mean:Q", title=metric_lines(spec, metric)[0], scale=alt.Scale(zero=False))
    bars = base.transform_filter("isValid(datum.low)").mark_rule(opacity=0.5).encode(y=alt.Y("low:Q"), y2="high:Q")
    points = base.mark_point(filled=True, size=45, opacity=0.9).encode(
        y=y,
        tooltip=[
            alt.Tooltip("trial:Q"),
            alt.Tooltip("value:Q", title=parameter_label(parameter), format=".4g"),
            alt.Tooltip("mean:Q", title=metric_lines(spec, metric)[0], format=".4g"),
            alt.Tooltip("series:N"),
        ],
    )
    return alt.layer(bars, points).properties(height=300)


def _series(rows: pd.DataFrame, spec: Spec, parameter: str | None) -> list[str]:
    """Which series each trial is in; those that lack a conditional parameter are in one of their own."""
    if parameter is None or f"config/{parameter}" not in rows:
        return [_ALL if parameter is None else _ABSENT] * len(rows)
    values = rows[f"config/{parameter}"]
    return [_ABSENT if pd.isna(value) else value_label(spec.space[parameter], value) for value in values]
