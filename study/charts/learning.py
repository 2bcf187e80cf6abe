"""How a trial learned: each metric by steps, of each replicate, and the mean with a band."""

from collections.abc import Sequence

import altair as alt
import pandas as pd
from altair.typing import ChartType

from study.charts.style import INK, metric_lines
from study.spec import Spec

__all__ = ["learning_chart", "learning_data"]


def learning_data(reports: pd.DataFrame, metrics: Sequence[str]) -> pd.DataFrame:
    """What learning curves show.

    Args:
        reports: of one trial.
        metrics: columns of these.

    Returns:
        `metric, seed, step, value`, and `mean, low, high` over the replicates that have reported at that step (minus
        and plus one standard deviation; not a number of a single one).
    """
    long = reports.melt(["seed", "step"], list(metrics), "metric", "value").dropna(subset=["value"])
    groups = long.groupby(["metric", "step"])["value"]
    mean, spread = groups.transform("mean"), groups.transform("std")
    return long.assign(mean=mean, low=mean - spread, high=mean + spread)


def learning_chart(data: pd.DataFrame, spec: Spec, metric: str) -> ChartType:
    """Draw a metric of `learning_data`: thin lines are replicates, the thick one their mean, the band its spread."""
    base = alt.Chart(data[data["metric"] == metric]).encode(
        x=alt.X(
            "step:Q",
            title="steps",
            scale=alt.Scale(zero=False, nice=False, padding=6),
            axis=alt.Axis(tickCount=5, format=",d", tickMinStep=1),
        )
    )
    y = alt.Y("value:Q", title=metric_lines(spec, metric), scale=alt.Scale(zero=False))
    band = base.mark_area(color=INK, opacity=0.18).encode(y=alt.Y("low:Q"), y2="high:Q")
    lines = base.mark_line(color=INK, strokeWidth=1, opacity=0.45).encode(y=y, detail="seed:N")
    mean = base.mark_line(color=INK, strokeWidth=2.5).encode(y="mean:Q")
    points = base.mark_point(color=INK, filled=True, size=30, opacity=0.7).encode(
        y="value:Q", tooltip=["seed:N", "step:Q", alt.Tooltip("value:Q", format=".4g")]
    )
    return alt.layer(band, lines, mean, points).properties(height=220)
