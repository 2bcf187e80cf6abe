"""Metrics of a few trials beside the baselines, with error bars."""

from collections.abc import Sequence

import altair as alt
import pandas as pd
from altair.typing import ChartType

from study.analysis.aggregation import Spread, mean_and_spread
from study.charts import style
from study.formatting import format_number, objective_label
from study.spec import Baseline, Spec

_FRACTIONS = (
    "information/",
    "probe/",
    "sampled_probe/",
    "accuracy/",
    "linear_information/",
    "linear_accuracy/",
)  # groups of metrics between 0 and 1
_MAX_DISTANCE = 0.6  # from a baseline to the trials, as a fraction of their range; others are drawn at the edge
_ROW_HEIGHT = 24


def comparison_data(
    trials: pd.DataFrame, baselines: pd.DataFrame, metrics: Sequence[str], spread: Spread = "ci"
) -> pd.DataFrame:
    """Return metrics of trials, and of baselines below them, from the results of both.

    Returns:
        `metric`, `name` (`trial 7`, `plain VAE`), `is_baseline`, `mean`, `low` and `high` (its error bar).
    """
    names = [f"trial {trial}" for trial in trials["trial"]]
    labels = [Baseline(name).label for name in baselines["baseline"]] if len(baselines) else []
    tables = []
    for metric in metrics:
        for rows, titles, is_baseline in ((trials, names, False), (baselines, labels, True)):
            if metric in rows and len(rows):
                values = mean_and_spread(rows, metric, spread)
                table = pd.DataFrame({"metric": metric, "name": titles, "is_baseline": is_baseline, **values})
                tables.append(table.dropna(subset=["mean"]))
    return pd.concat(tables, ignore_index=True)


def comparison_chart(data: pd.DataFrame, spec: Spec, metric: str) -> ChartType:
    """Draw one metric of `comparison_data`: a row for each trial and baseline.

    Fractions share the axis from 0 to 1. A baseline far from all trials is an arrow at the edge, with its value.
    """
    rows = data[data["metric"] == metric].copy()
    low, high = _domain(rows, metric)
    order = rows["name"].tolist()
    trials = [name for name, is_baseline in zip(order, rows["is_baseline"], strict=True) if not is_baseline]
    colours = [*style.category_marks(len(trials))[0], *([style.GREY] * (len(order) - len(trials)))]
    rows["text"] = ""
    is_outside = ~rows["mean"].between(low, high)
    arrows = (rows["mean"] < low).map({True: " ◂", False: " ▸"})
    rows.loc[is_outside, "text"] = rows["mean"].map(format_number) + arrows
    rows["at"] = rows["mean"].clip(low, high)
    for end in ("low", "high"):
        rows[f"{end}_at"] = rows[end].clip(low, high).where(~is_outside)
    base = alt.Chart(rows).encode(
        y=alt.Y("name:N", sort=order, title=None, axis=alt.Axis(labelLimit=120)),
        color=alt.Color("name:N", scale=alt.Scale(domain=order, range=colours), legend=None),
    )
    scale = alt.Scale(domain=[low, high], nice=False)
    x = alt.X(
        "at:Q",
        title=style.metric_lines(spec, metric),
        scale=scale,
        axis=alt.Axis(tickCount=5, format=".3~g"),
    )
    tooltip = [
        alt.Tooltip("name:N", title=" "),
        alt.Tooltip("mean:Q", title=objective_label(metric), format=".3~g"),
        alt.Tooltip("low:Q", format=".3~g"),
        alt.Tooltip("high:Q", format=".3~g"),
    ]
    points = base.transform_filter("datum.text === ''").mark_point(filled=True, size=80, opacity=1)
    outside = base.transform_filter("datum.text !== ''")
    texts = [
        outside.transform_filter(f"datum.mean < {low}").mark_text(align="left", dx=2),
        outside.transform_filter(f"datum.mean > {high}").mark_text(align="right", dx=-2),
    ]
    bars = base.transform_filter("isValid(datum.low_at)").mark_rule(strokeWidth=2, clip=True)
    layers = [bars.encode(x=alt.X("low_at:Q", scale=scale), x2="high_at:Q"), points.encode(x=x, tooltip=tooltip)]
    layers += [text.encode(x=x, text="text:N") for text in texts]
    return alt.layer(*layers).properties(height=_ROW_HEIGHT * len(order) + 70)


def _domain(rows: pd.DataFrame, metric: str) -> tuple[float, float]:
    """Return the limits of the axis."""
    if metric.startswith(_FRACTIONS):
        return min(0.0, float(rows["mean"].min())), max(1.0, float(rows["mean"].max()))
    trials = rows[~rows["is_baseline"]]
    low = float(trials["low"].fillna(trials["mean"]).min())
    high = float(trials["high"].fillna(trials["mean"]).max())
    extent = (high - low) or 0.2 * max(abs(low), 1.0)
    near = rows[rows["is_baseline"] & rows["mean"].between(low - _MAX_DISTANCE * extent, high + _MAX_DISTANCE * extent)]
    low, high = min([low, *near["mean"]]), max([high, *near["mean"]])
    margin = 0.06 * ((high - low) or extent)
    return low - margin, high + margin
