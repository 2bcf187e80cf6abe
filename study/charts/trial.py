"""Charts of one trial: its learning curves, and the accuracy of probes on each subspace."""

from collections.abc import Mapping, Sequence
from itertools import product

import altair as alt
import pandas as pd
from altair.typing import ChartType

from study.charts.style import COLOURS, GREY, INK, RED, WIDTH, MissingDataError, error_bars, metric_lines
from study.spec import Spec

__all__ = ["accuracy_chart", "accuracy_data", "learning_chart", "learning_data"]

_MAX_COLUMNS = 4


def learning_data(reports: pd.DataFrame, metrics: Sequence[str]) -> pd.DataFrame:
    """Return the learning curves of a trial from its reports.

    Returns:
        `metric`, `seed`, `step`, `value`, and over the replicates that reported at that step: `mean`, and `low` and
        `high`, one standard deviation below and above it, NaN for a single replicate.
    """
    long = reports.melt(["seed", "step"], list(metrics), "metric", "value").dropna(subset=["value"])
    groups = long.groupby(["metric", "step"])["value"]
    mean, sd = groups.transform("mean"), groups.transform("std")
    return long.assign(mean=mean, low=mean - sd, high=mean + sd)


def learning_chart(data: pd.DataFrame, spec: Spec, metric: str) -> ChartType:
    """Draw `learning_data`: thin lines are replicates, the thick line their mean, the band one standard deviation."""
    scale, axis = alt.Scale(zero=False, nice=False, padding=6), alt.Axis(tickCount=5, format=",d", tickMinStep=1)
    x = alt.X("step:Q", title="steps", scale=scale, axis=axis)
    base = alt.Chart(data[data["metric"] == metric]).encode(x=x)
    y = alt.Y("value:Q", title=metric_lines(spec, metric), scale=alt.Scale(zero=False))
    band = base.mark_area(color=INK, opacity=0.18).encode(y=alt.Y("low:Q"), y2="high:Q")
    lines = base.mark_line(color=INK, strokeWidth=1, opacity=0.45).encode(y=y, detail="seed:N")
    mean = base.mark_line(color=INK, strokeWidth=2.5).encode(y="mean:Q")
    points = base.mark_point(color=INK, filled=True, size=30, opacity=0.7).encode(
        y="value:Q", tooltip=["seed:N", "step:Q", alt.Tooltip("value:Q", format=".4g")]
    )
    return alt.layer(band, lines, mean, points).properties(height=220)


def accuracy_data(row: pd.Series, classes: Mapping[str, int], untrained: Mapping[str, float]) -> pd.DataFrame:
    """Return the accuracy of probes for each factor and subspace.

    `row` is the results of one trial, `classes` the number of classes of each factor, `untrained` the metrics of the
    untrained network.

    Returns:
        `factor`, `subspace`, `accuracy`, `low` and `high` (one standard deviation below and above, NaN for a single
        replicate), `chance`, and `untrained`, the accuracy of the untrained network.
    """
    rows = []
    for (factor, count), subspace in product(classes.items(), COLOURS):
        name = f"probe/{factor}/{subspace}"
        if pd.notna(row.get(name)):
            mean, sd = float(row[name]), float(row.get(f"{name}/sd", float("nan")))
            accuracy = {"accuracy": mean, "low": mean - sd, "high": mean + sd}
            other = {"chance": 1 / count, "untrained": untrained.get(name, float("nan"))}
            rows.append({"factor": factor, "subspace": subspace, **accuracy, **other})
    if not rows:
        raise MissingDataError(f"trial {int(row['trial'])} has no metrics of the group probe/…")
    return pd.DataFrame(rows)


def accuracy_chart(data: pd.DataFrame, home: Mapping[str, str]) -> ChartType:
    """Draw `accuracy_data`: a panel for each factor, a bar for each subspace.

    `home` is the subspace that is meant to hold each factor.
    """
    factors = list(data["factor"].unique())
    width = WIDTH // min(max(len(factors), 2), _MAX_COLUMNS) - 60
    x_axis = alt.Axis(labelAngle=0, ticks=False, labelFontSize=11)
    x = alt.X("subspace:N", sort=list(COLOURS), title=None, axis=x_axis)
    y_scale = alt.Scale(domain=[0, max(1.0, float(data["high"].max()))], nice=False)
    y_axis = alt.Axis(format="%", tickCount=5)
    colours = alt.Scale(domain=list(COLOURS), range=list(COLOURS.values()))
    colour = alt.Color("subspace:N", scale=colours, legend=None)
    panels: list[ChartType] = []
    for index, factor in enumerate(factors):
        rows = data[data["factor"] == factor]
        base = alt.Chart(rows).encode(x=x)
        y_title = "probe accuracy" if index % _MAX_COLUMNS == 0 else None
        y = alt.Y("accuracy:Q", title=y_title, scale=y_scale, axis=y_axis)
        bars = base.mark_bar(width={"band": 0.62}).encode(y=y, color=colour)
        chance = alt.Chart(rows.head(1)).mark_rule(strokeDash=[4, 3], color=GREY).encode(y="chance:Q")
        ticks = base.transform_filter("isValid(datum.untrained)").encode(y="untrained:Q")
        untrained = ticks.mark_tick(color=RED, thickness=2.5, width={"band": 0.62})
        # A dark line on a white one is visible on bars and on light and dark pages.
        wide = error_bars(base, strokeWidth=4, color="white", clip=True)
        narrow = error_bars(base, strokeWidth=1.5, color="#222222", clip=True)
        title = alt.Title(factor, subtitle=f"belongs in the {home[factor]} subspace", subtitleColor=GREY)
        panel = alt.layer(bars, chance, untrained, wide, narrow)
        panels.append(panel.properties(width=width, height=200, title=title))
    return alt.concat(*panels, columns=_MAX_COLUMNS, spacing=24)
