"""Charts of what goes together: importance of parameters for a metric, and correlations of metrics."""

from collections.abc import Sequence

import altair as alt
import numpy as np
import pandas as pd
from altair.typing import ChartType

from study.charts import style
from study.formatting import objective_label

MIN_CORRELATED = 4
"""Correlations of this many trials or fewer have no interval."""

_NORMAL_95 = 1.6449  # quantile of the normal distribution


def importance_chart(data: pd.DataFrame, title: str) -> ChartType:
    """Draw importances by `label` with their intervals `low` and `high`."""
    y = alt.Y("label:N", sort=data["label"].tolist(), title=None, axis=alt.Axis(labelLimit=160))
    base = alt.Chart(data).encode(y=y)
    bars = base.mark_bar(color=style.BLUE, opacity=0.75).encode(
        x=alt.X("importance:Q", title="share", scale=alt.Scale(domain=[0, 1]), axis=alt.Axis(format="%")),
        tooltip=[
            "parameter",
            alt.Tooltip("importance:Q", format=".0%"),
            alt.Tooltip("low:Q", format=".0%"),
            alt.Tooltip("high:Q", format=".0%"),
            "trials",
            "complete",
        ],
    )
    intervals = style.error_bars(base, "x", color=style.TEXT, strokeWidth=2)
    chart: ChartType = alt.layer(bars, intervals).properties(title=title, height=24 * max(2, len(data)) + 100)
    return chart


def correlation_data(complete: pd.DataFrame, metrics: Sequence[str]) -> pd.DataFrame:
    """Return Spearman's rank correlation of each pair of metrics over complete trials.

    Returns:
        `first` and `second` (labels), `correlation`, its 90 % interval `low` and `high` (Fisher's transformation with
        the variance of Bonett and Wright, 2000), and `trials` that have both.
    """
    values = complete[list(metrics)].astype(float)
    is_present = values.notna().to_numpy(dtype=int)
    correlation, count = values.corr(method="spearman").to_numpy(), is_present.T @ is_present
    rho, counts = correlation.ravel(), count.ravel().astype(float)
    is_same = np.eye(len(metrics), dtype=bool).ravel()
    spread = np.where((counts > MIN_CORRELATED) & ~is_same, counts - 3, np.nan)
    half = _NORMAL_95 * np.sqrt((1 + rho**2 / 2) / spread)
    z = np.arctanh(np.clip(rho, -0.999999, 0.999999))
    labels = [objective_label(name) for name in metrics]
    pairs = {"first": np.repeat(labels, len(labels)), "second": labels * len(labels)}
    numbers = {"correlation": rho, "low": np.tanh(z - half), "high": np.tanh(z + half), "trials": counts.astype(int)}
    return pd.DataFrame(pairs | numbers)


def correlation_chart(data: pd.DataFrame) -> ChartType:
    """Draw `correlation_data` as a matrix."""
    labels = data["first"].unique().tolist()
    drawn = data.assign(
        text=data["correlation"].map(lambda value: "" if np.isnan(value) else f"{value:.2f}"),
        interval=(data["low"].map("{:.2f}".format) + " to " + data["high"].map("{:.2f}".format)).where(
            data["low"].notna(), "–"
        ),
    )
    x = alt.X("second:N", sort=labels, title=None, axis=alt.Axis(labelAngle=-40, labelLimit=170))
    base = alt.Chart(drawn).encode(x=x, y=alt.Y("first:N", sort=labels, title=None, axis=alt.Axis(labelLimit=220)))
    scale = style.cell_colours(is_signed=True)
    legend = alt.Legend(orient="top", gradientLength=160)
    tooltip = ["first", "second", alt.Tooltip("correlation:Q", format=".2f"), "interval", "trials"]
    cells = base.mark_rect(stroke=style.LINES).encode(
        color=alt.Color("correlation:Q", title="rank correlation", scale=scale, legend=legend), tooltip=tooltip
    )
    texts = base.mark_text(fontSize=11).encode(text="text:N", color=style.cell_text_colour("correlation"))
    chart: ChartType = alt.layer(cells, texts).properties(width=alt.Step(52), height=alt.Step(30))
    return chart
