"""How a metric went in the order in which trials came to their end, and the best so far."""

import altair as alt
import numpy as np
import pandas as pd
from altair.typing import ChartType

from study.analysis import StudyResults
from study.analysis.aggregation import mean_and_spread
from study.charts.style import BLUE, INK, PALE, RED, sample_of
from study.formatting import objective_label
from study.spec import Spec

__all__ = ["history_chart", "history_data", "rungs_chart", "rungs_data"]


def history_data(table: pd.DataFrame, progress: pd.DataFrame, spec: Spec, metric: str) -> pd.DataFrame:
    """What the history shows.

    Args:
        table: results.
        progress: as of `StudyResults.progress`.
        spec: of the study.
        metric: a column of results.

    Returns:
        A row for each complete trial that has the metric, by time: `order` from 1; `trial`; `time`; `mean`, `low` and
        `high` (minus and plus one standard deviation, not a number where there is none); `best` of all means so far.
    """
    known = table.set_index("trial").reindex(columns=[metric, f"{metric}/sd"])
    rows = progress[["trial", "time"]].join(known, on="trial").dropna(subset=[metric])
    data = {"trial": rows["trial"], "time": rows["time"], **mean_and_spread(rows, metric)}
    best = data["mean"].cummin() if spec.direction(metric) == "min" else data["mean"].cummax()
    return pd.DataFrame(data | {"best": best, "order": np.arange(1, len(rows) + 1)}).reset_index(drop=True)


def history_chart(data: pd.DataFrame, metric: str) -> ChartType:
    """Draw `history_data`: a point a trial, and a line for the best so far."""
    base = alt.Chart(sample_of(data)).encode(x=alt.X("order:Q", title="complete trials, in order"))
    y = alt.Y("mean:Q", title=objective_label(metric), scale=alt.Scale(zero=False))
    bars = base.transform_filter("isValid(datum.low)").mark_rule(color=INK, opacity=0.3)
    points = base.mark_point(filled=True, size=40, color=INK, opacity=0.8).encode(
        y=y, tooltip=["trial", alt.Tooltip("mean:Q", format=".4g"), alt.Tooltip("best:Q", format=".4g")]
    )
    best = base.mark_line(interpolate="step-after", color=RED, strokeWidth=2).encode(y="best:Q")
    return alt.layer(bars.encode(y=alt.Y("low:Q"), y2="high:Q"), points, best).properties(height=280)


def rungs_data(results: StudyResults) -> pd.DataFrame:
    """How many trials came to each rung, and how many went no further.

    Returns:
        A row a rung: `step`; `reached`, trials with a report there; `stopped` there by halving; `went_on`.
    """
    trials, reports = results.trials(), results.steps()
    stopped = trials[trials["state"] == "pruned"]["step"].value_counts()
    rows = []
    for step in results.spec.rungs():
        reached = int(reports[reports["step"] == step]["trial"].nunique()) if len(reports) else 0
        there = int(stopped.get(step, 0))
        rows.append({"step": step, "reached": reached, "stopped": there, "went_on": reached - there})
    return pd.DataFrame(rows)


def rungs_chart(data: pd.DataFrame) -> ChartType:
    """Draw `rungs_data`: a bar for each rung, of those that went on and those that were stopped."""
    long = data.rename(columns={"went_on": "went on"}).melt(
        ["step", "reached"], ["went on", "stopped"], "fate", "trials"
    )
    chart: ChartType = (
        alt.Chart(long)
        .mark_bar()
        .encode(
            y=alt.Y("step:O", title="rung, steps"),
            x=alt.X("trials:Q", title="trials"),
            color=alt.Color(
                "fate:N",
                title=None,
                scale=alt.Scale(domain=["went on", "stopped"], range=[BLUE, PALE]),
                legend=alt.Legend(orient="top"),
            ),
            order=alt.Order("fate:N", sort="descending"),
            tooltip=["step", "reached", "fate", "trials"],
        )
        .properties(height=50 * max(2, len(data)))
    )
    return chart
