"""Hypervolume of the front against trained steps, of one study or of several."""

import altair as alt
import numpy as np
import pandas as pd
from altair.typing import ChartType

from study.charts.style import BLUE, CATEGORIES

_MAX_MARKED = 100  # changes that have points on the line


def hypervolume_chart(growth: pd.DataFrame) -> ChartType:
    """Draw a result of `StudyResults.progress`, or several with the name of each in a column `study`."""
    studies = growth["study"].unique().tolist() if "study" in growth else []
    # The line is constant between changes, so other points are left out.
    groups = growth.groupby(growth["study"] if studies else np.zeros(len(growth)))
    is_last = groups["trial_steps"].transform("max") == growth["trial_steps"]
    changes = growth[groups["hypervolume"].diff().ne(0) | is_last]
    columns = ["trial_steps", "hypervolume", "trial", "complete", *(["study"] if studies else [])]
    base = alt.Chart(changes[columns]).properties(height=260 if studies else 220)
    colour: dict[str, alt.Color] = {}
    if studies:
        scale = alt.Scale(domain=studies, range=list(CATEGORIES[: len(studies)]))
        colour = {"color": alt.Color("study:N", title=None, scale=scale, legend=alt.Legend(orient="top"))}
    lines = base.mark_line(interpolate="step-after", point=len(changes) < _MAX_MARKED, color=BLUE)
    chart: ChartType = lines.encode(
        x=alt.X(
            "trial_steps:Q", title="steps that all replicates have trained", axis=alt.Axis(format="~s", tickCount=8)
        ),
        y=alt.Y("hypervolume:Q", title="hypervolume (higher is better)", scale=alt.Scale(zero=False)),
        tooltip=[
            *(["study:N"] if studies else []),
            alt.Tooltip("trial:Q", title="trial"),
            alt.Tooltip("complete:Q", title="complete trials"),
            alt.Tooltip("trial_steps:Q", title="trained steps", format=","),
            alt.Tooltip("hypervolume:Q", format=".3~g"),
        ],
        **colour,
    )
    return chart
