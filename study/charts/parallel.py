"""Parallel coordinates: each trial a line over its parameters and metrics."""

from collections.abc import Sequence

import altair as alt
import numpy as np
import pandas as pd
from altair.typing import ChartType

from study.analysis.parameter_effects import is_numeric
from study.charts.points import spans_decades
from study.charts.style import BLUE, ORANGE, PALE, RED, parameter_label, value_label
from study.formatting import format_number, objective_label
from study.spec import Spec

__all__ = ["MOST_LINES", "parallel_chart", "parallel_data"]

MOST_LINES = 500
"""Of more trials a random sample is drawn."""

_RAMP = [BLUE, ORANGE, RED]


def parallel_data(
    complete: pd.DataFrame, spec: Spec, parameters: Sequence[str], metrics: Sequence[str]
) -> pd.DataFrame:
    """What parallel coordinates show.

    Args:
        complete: results of complete trials.
        spec: of the study.
        parameters: of the space; a trial that lacks one has a gap there.
        metrics: columns of results.

    Returns:
        A row for each trial and axis: `trial`, `axis` (a parameter or metric), its `label` and `order`, `place` from 0
        to 1, and `value` as it is read.
    """
    rows = complete.sample(MOST_LINES, random_state=0).sort_index() if len(complete) > MOST_LINES else complete
    parts = []
    for order, name in enumerate([*parameters, *metrics]):
        column = f"config/{name}" if name in spec.space else name
        if column not in rows or rows[column].notna().sum() == 0:
            continue
        known = rows.dropna(subset=[column])
        if name in spec.space and not is_numeric(spec.space[name]):
            values = [value_label(spec.space[name], value) for value in known[column]]
            ranks = {value: rank for rank, value in enumerate(sorted(set(values)))}
            place = np.array([ranks[value] for value in values]) / max(1, len(ranks) - 1)
        else:
            numbers = known[column].to_numpy(dtype=float)
            values = [format_number(value) for value in numbers]
            is_log = name in spec.space and spans_decades(known[column])
            place = _placed(np.log(numbers) if is_log else numbers)
        label = parameter_label(name) if name in spec.space else objective_label(name)
        parts.append(
            pd.DataFrame(
                {"trial": known["trial"], "axis": name, "label": label, "order": order, "place": place, "value": values}
            )
        )
    return pd.concat(parts, ignore_index=True)


def parallel_chart(data: pd.DataFrame, metric: str) -> ChartType:
    """Draw `parallel_data`: lines are coloured by a metric, the ends of each axis say its range."""
    colours = data[data["axis"] == metric][["trial", "place"]].rename(columns={"place": "colour"})
    labels = data.sort_values("order")["label"].unique().tolist()
    x = alt.X(
        "label:N",
        sort=labels,
        title=None,
        scale=alt.Scale(domain=labels),
        axis=alt.Axis(labelAngle=-30, orient="top", labelOverlap=False),
    )
    y = alt.Y("place:Q", axis=None, scale=alt.Scale(domain=[-0.06, 1.06], nice=False))
    ends = data.loc[
        pd.concat([data.groupby("axis")["place"].idxmin(), data.groupby("axis")["place"].idxmax()]).unique()
    ]
    lines = (
        alt.Chart(data.merge(colours, on="trial", how="left"))
        .mark_line(opacity=0.5, strokeWidth=1.3)
        .encode(
            x=x,
            y=y,
            detail="trial:N",
            color=alt.Color("colour:Q", scale=alt.Scale(range=_RAMP), legend=None),
            order="order:Q",
            tooltip=["trial:N"],
        )
    )
    axes = alt.Chart(ends).mark_rule(color=PALE, opacity=0.6).encode(x=x)
    low = alt.Chart(ends).transform_filter("datum.place < 0.5").mark_text(dy=10, color=PALE)
    high = alt.Chart(ends).transform_filter("datum.place >= 0.5").mark_text(dy=-9, color=PALE)
    texts = [part.encode(x=x, y=y, text="value:N") for part in (low, high)]
    return alt.layer(axes, lines, *texts).properties(height=340, width=900)


def _placed(numbers: np.ndarray) -> np.ndarray:
    """From 0 to 1; all in the middle where they are the same."""
    low, high = numbers.min(), numbers.max()
    placed: np.ndarray = (numbers - low) / (high - low) if high > low else np.full(len(numbers), 0.5)
    return placed
