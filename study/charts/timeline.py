"""Charts of what ran when: trials on trainers, trained steps over time, and how trainers spent their time."""

import altair as alt
import pandas as pd
from altair.typing import ChartType

from study.charts.style import BLUE, BROWN, GREEN, GREY, MAGENTA, ORANGE

_STATES = {"complete": BLUE, "running": GREEN, "pruned": GREY, "interrupted": ORANGE, "failed": MAGENTA}
_ACTIVITIES = {"training": BLUE, "evaluation": ORANGE, "idle": GREY}
_MAX_SPANS = 2000  # the last ones are drawn
_ROW_HEIGHT, _MAX_HEIGHT = 22, 700
_MIN_NUMBERED = 0.02  # part of the time axis; shorter bars have no room for the number of their trial


def spans_chart(spans: pd.DataFrame) -> ChartType:
    """Draw `study.analysis.timeline.trial_spans`: a bar for each trial, in rows of its trainer."""
    drawn = spans.tail(_MAX_SPANS).copy()
    names = drawn["trainer"].map(lambda number: "" if number < 0 else f"trainer {number}, ")
    drawn["place"] = names + "row " + (drawn["row"] + 1).astype(str)
    places = drawn.sort_values(["trainer", "row"])["place"].drop_duplicates().tolist()
    states = [state for state in _STATES if (drawn["state"] == state).any()]
    scale = alt.Scale(domain=states, range=[_STATES[state] for state in states])
    base = alt.Chart(drawn).encode(
        x=alt.X("started:T", title="time", axis=alt.Axis(tickCount=8)),
        y=alt.Y("place:N", title=None, sort=places, axis=alt.Axis(labelOverlap=True, ticks=False)),
    )
    bars = base.mark_bar(height={"band": 0.8}, cornerRadius=2).encode(
        x2="ended:T",
        color=alt.Color("state:N", title=None, scale=scale, legend=alt.Legend(orient="top")),
        tooltip=[
            "trial:Q",
            "state:N",
            alt.Tooltip("run:Q"),
            alt.Tooltip("started:T", format="%Y-%m-%d %H:%M:%S"),
            alt.Tooltip("minutes:Q", format=".3~g"),
            "error:N",
        ],
    )
    failures = base.transform_filter("datum.state === 'failed' || datum.state === 'interrupted'").mark_point(
        shape="cross", size=60, filled=True, opacity=1, color=BROWN
    )
    minutes = (drawn["ended"].max() - drawn["started"].min()).total_seconds() / 60
    is_long = alt.datum["minutes"] >= _MIN_NUMBERED * minutes
    numbers = base.transform_filter(is_long).mark_text(align="left", dx=4, color="white", fontSize=10)
    layers = [bars, numbers.encode(text="trial:Q")] if len(places) * _ROW_HEIGHT <= _MAX_HEIGHT else [bars]
    layers.append(failures.encode(x="ended:T", tooltip=["trial:Q", "state:N", "error:N"]))
    return alt.layer(*layers).properties(height=min(_MAX_HEIGHT, 100 + _ROW_HEIGHT * len(places)))


def throughput_chart(rates: pd.DataFrame) -> ChartType:
    """Draw `study.analysis.timeline.throughput`."""
    chart: ChartType = (
        alt.Chart(rates)
        .mark_area(color=BLUE, opacity=0.25, line={"color": BLUE}, interpolate="step")
        .encode(
            x=alt.X("time:T", title="time", axis=alt.Axis(tickCount=8)),
            y=alt.Y("trial_steps_per_s:Q", title="trial-steps/s"),
            tooltip=[alt.Tooltip("time:T", format="%H:%M:%S"), alt.Tooltip("trial_steps_per_s:Q", format=".3~g")],
        )
        .properties(height=180)
    )
    return chart


def activity_chart(runs: pd.DataFrame) -> ChartType:
    """Draw the device hours of each run by what its trainers did, from `study.analysis.timeline.runs_table`."""
    hours = runs.melt(["run"], list(_ACTIVITIES), "activity", "hours").dropna(subset=["hours"])
    hours["position"] = hours["activity"].map(list(_ACTIVITIES).index)
    hours["share"] = hours["hours"] / hours.groupby("run")["hours"].transform("sum")
    scale = alt.Scale(domain=list(_ACTIVITIES), range=list(_ACTIVITIES.values()))
    chart: ChartType = (
        alt.Chart(hours)
        .mark_bar(height={"band": 0.7})
        .encode(
            x=alt.X("hours:Q", title="device-hours", axis=alt.Axis(tickCount=8)),
            y=alt.Y("run:O", title="run"),
            color=alt.Color("activity:N", title=None, scale=scale, legend=alt.Legend(orient="top")),
            order="position:Q",
            tooltip=[
                "run:O",
                "activity:N",
                alt.Tooltip("hours:Q", format=".3~g"),
                alt.Tooltip("share:Q", format=".0%"),
            ],
        )
        .properties(height=100 + 40 * hours["run"].nunique())
    )
    return chart
