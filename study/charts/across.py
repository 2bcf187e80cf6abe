"""Fronts of several studies in one chart."""

from collections.abc import Mapping
from typing import Literal

import altair as alt
import pandas as pd
from altair.typing import ChartType

from study.analysis.trade_off import Axes
from study.charts.style import CATEGORIES, GREY, SHAPES, downsample, metric_title
from study.formatting import objective_label
from study.spec import Spec


def fronts_chart(data: Mapping[str, pd.DataFrame], axes: Axes, spec: Spec) -> ChartType:
    """Draw `trade_off_data` of several studies: each front with its error bars, and the other complete trials faintly.

    `spec` is that of one of the studies, which share the directions of both metrics.
    """
    studies = list(data)
    tables = [table[table["final"]].assign(study=name) for name, table in data.items()]
    columns = ["study", "trial", "x", "y", "x_low", "x_high", "y_low", "y_high", "front"]
    points = pd.concat([table[columns] for table in tables], ignore_index=True)
    points = downsample(points, points["front"])
    colours = alt.Scale(domain=studies, range=list(CATEGORIES[: len(studies)]))
    shapes = alt.Scale(domain=studies, range=[SHAPES[index % len(SHAPES)] for index in range(len(studies))])
    legend = alt.Legend(orient="top", symbolOpacity=1)
    colour = alt.Color("study:N", title=None, scale=colours, legend=legend)
    base = alt.Chart(points).encode(
        x=alt.X("x:Q", title=metric_title(spec, axes.x), scale=alt.Scale(zero=False), axis=alt.Axis(tickCount=10)),
        y=alt.Y("y:Q", title=metric_title(spec, axes.y), scale=alt.Scale(zero=False)),
    )
    shape = alt.Shape("study:N", title=None, scale=shapes, legend=legend)
    tooltip = ["study:N", "trial:Q", alt.Tooltip("x:Q", title=objective_label(axes.x), format=".3~g")]
    tooltip.append(alt.Tooltip("y:Q", title=objective_label(axes.y), format=".3~g"))
    others = base.transform_filter("!datum.front").mark_point(size=30, opacity=0.35, color=GREY)
    front = base.transform_filter("datum.front")
    steps: Literal["step-before", "step-after"] = "step-before" if spec.direction(axes.x) == "max" else "step-after"
    lines = front.mark_line(interpolate=steps, strokeDash=[4, 3], opacity=0.7).encode(color=colour, order="x:Q")
    bars_x = front.mark_rule(opacity=0.5).encode(x="x_low:Q", x2="x_high:Q", color=colour)
    bars_y = front.mark_rule(opacity=0.5).encode(y="y_low:Q", y2="y_high:Q", color=colour)
    marks = front.mark_point(size=90, filled=True, opacity=1).encode(color=colour, shape=shape, tooltip=tooltip)
    chart: ChartType = alt.layer(others.encode(shape=shape, tooltip=tooltip), lines, bars_x, bars_y, marks)
    return chart.properties(height=460)
