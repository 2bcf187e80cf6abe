"""What halving stopped, and when."""

import altair as alt
import pandas as pd
from altair.typing import ChartType

from study.report.style import BLUE, PALE
from study.results import StudyResults

__all__ = ["rungs_chart", "rungs_data"]


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
