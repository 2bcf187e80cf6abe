"""Page 'Trade-off': one metric against another, by default fidelity against disentanglement."""

from typing import Any

import altair as alt
import pandas as pd
import streamlit as st

from dashboard import address
from dashboard.charts import download_chart
from dashboard.reading import Reading
from dashboard.text import plain
from study.analysis import metric_columns
from study.analysis.parameter_effects import is_numeric
from study.charts.style import BLUE, parameter_label
from study.charts.trade_off import Axes, default_axes, trade_off_chart, trade_off_data
from study.formatting import objective_label
from study.spec import Spec

_NO_PARAMETER = "none"
_LIMITED = "limited"
_CHART = "trade-off chart"


def page(reading: Reading) -> None:
    """Draw selectors of metrics, the trade-off chart, and the selected trials."""
    results, spec = reading.results, reading.results.spec
    table = results.results()
    metrics = [*dict.fromkeys([*default_axes(spec)[:2], *metric_columns(table)])]
    axes = _choose_axes(spec, metrics)
    limits = _limits(spec, table, metrics)
    selected = address.selected_trials(table["trial"])
    data = trade_off_data(results, axes, selected, limits)
    trials = data[~data["is_baseline"]]
    if limits:
        st.caption(f"{len(trials):,} of {len(table):,} trials have values of both metrics and meet all limits.")
    if trials.empty:
        st.info(
            plain(f"No trial has values of both {objective_label(axes.x)} and {objective_label(axes.y)}")
            + (" within the limits. Loosen a limit." if limits else " yet.")
        )
        return
    chart = trade_off_chart(results, axes, data, is_selectable=True)
    st.altair_chart(
        chart.properties(height=480),
        width="stretch",
        key=_CHART,
        on_select=lambda: _take_selection(data),
        alt=_description(data, axes),
    )
    st.caption("Click a point to select its trial, shift-click to add more, or drag to select an area.")
    download_chart(lambda: trade_off_chart(results, axes, data), data, f"{spec.name}-trade-off")
    _selection(reading, table, data, selected, axes)
    _growth(reading)


def _choose_axes(spec: Spec, metrics: list[str]) -> Axes:
    """Draw the selectors above the chart."""
    default = default_axes(spec)
    parameters = [_NO_PARAMETER, *spec.space]
    numbers = [_NO_PARAMETER, *(name for name, parameter in spec.space.items() if is_numeric(parameter))]
    selectors = {
        "x": ("Horizontal", metrics, default.x, objective_label),
        "y": ("Vertical", metrics, default.y, objective_label),
        "colour": ("Colour", parameters, _NO_PARAMETER, parameter_label),
        "size": ("Size", numbers, _NO_PARAMETER, parameter_label),
    }
    chosen = {}
    for column, (name, selector) in zip(st.columns(4), selectors.items(), strict=True):
        with column:
            chosen[name] = address.choose(name, *selector)
    return Axes(**{name: option for name, option in chosen.items() if option != _NO_PARAMETER})


def _limits(spec: Spec, table: pd.DataFrame, metrics: list[str]) -> dict[str, float]:
    """Return the worst acceptable value of each limited metric."""
    with st.expander("Limits", expanded=_LIMITED in st.query_params):
        options = [name for name in metrics if name in table and table[name].notna().any()]
        limits = {}
        for name in address.choose_many(_LIMITED, "Limit these metrics", options, (), objective_label):
            low, high = float(table[name].min()), float(table[name].max())
            high = max(high, low + 1e-6)
            is_cost = spec.direction(name) == "min"
            label = f"{objective_label(name)} {'at most' if is_cost else 'at least'}"
            limits[name] = address.choose_value(name, label, low, high, high if is_cost else low)
    return limits


def _take_selection(data: pd.DataFrame) -> None:
    """Copy the selection of the chart into the address.

    If the brushed area has changed, its trials are selected, otherwise the clicked points.
    """
    event: Any = st.session_state[_CHART]["selection"]
    selected = [int(point["trial"]) for point in event.get("picked") or []]
    brush = event.get("brush") or {}
    before = st.session_state.get("last area")
    st.session_state["last area"] = brush
    if brush and brush != before:
        trials = data[~data["is_baseline"]]
        for axis, limits in brush.items():
            trials = trials[trials[axis].between(*limits)]
        selected = trials["trial"].tolist()
    address.select_trials(selected)


def _selection(reading: Reading, table: pd.DataFrame, data: pd.DataFrame, selected: list[int], axes: Axes) -> None:
    """Draw a text field to select trials by number, a table of the selected trials, and links to other pages for them.

    If no trial is selected, the table and the links are for the trials on the front.
    """
    spec = reading.results.spec
    st.subheader(f"Selected trials ({len(selected)})" if selected else "Trials on the front of these two metrics")
    typed = st.text_input(
        "Trials, by number", ", ".join(map(str, selected)), help="Numbers separated by commas; empty for the front."
    )
    if (numbers := address.parse_trials(typed, table["trial"])) != selected:
        address.select_trials(numbers)
        st.rerun()
    trials = selected or data[data["front"]].sort_values("x")["trial"].tolist()
    labels: dict[Any, Any] = {}
    for name in dict.fromkeys([axes.x, axes.y, *spec.objectives]):
        labels |= {name: objective_label(name), f"{name}/sd": "± sd"}
    labels |= {f"config/{name}": parameter_label(name) for name in spec.space}
    rows = table.set_index("trial", drop=False).loc[trials].reindex(columns=["trial", "state", *labels])
    st.dataframe(rows, hide_index=True, width="stretch", column_config=labels)
    links = {"trial": ("Open the first", 1), "compare": ("Compare (two to six)", 6), "export": ("Export", None)}
    for column, (page_name, (label, count)) in zip(st.columns(4), links.items(), strict=False):
        with column:
            address.link(page_name, label, spec.name, trials[:count])
    if len(selected) >= address.MAX_SELECTED:
        st.caption(f"A link holds at most {address.MAX_SELECTED} trials; the others were left out.")


def _growth(reading: Reading) -> None:
    """Draw the hypervolume of the front against trained steps."""
    growth = reading.once("progress", reading.results.progress).dropna(subset=["hypervolume"])
    if growth.empty:
        return
    # The line is constant between changes, so other points are left out.
    growth = growth[growth["hypervolume"].diff().ne(0) | (growth["trial_steps"] == growth["trial_steps"].max())]
    st.subheader("Hypervolume of the front")
    st.caption("Volume between the front and the untrained network, in the product of the units of the objectives.")
    base = alt.Chart(growth[["trial_steps", "hypervolume", "trial", "complete"]]).properties(height=220)
    chart = base.mark_line(interpolate="step-after", point=len(growth) < 100, color=BLUE).encode(
        x=alt.X("trial_steps:Q", title="steps that all replicates have trained"),
        y=alt.Y("hypervolume:Q", title="hypervolume", scale=alt.Scale(zero=False)),
        tooltip=["trial", "complete", "trial_steps", alt.Tooltip("hypervolume:Q", format=".4f")],
    )
    volume, complete = growth["hypervolume"].iloc[-1], growth["complete"].iloc[-1]
    description = f"Hypervolume grew to {volume:.3g} in {complete} complete trials"
    st.altair_chart(chart, width="stretch", key="growth", alt=description)


def _description(data: pd.DataFrame, axes: Axes) -> str:
    trials = data[~data["is_baseline"]]
    front = ", ".join(
        f"trial {row.trial} at {row.x:.3g} and {row.y:.3g}"
        for row in trials[trials["front"]].sort_values("x").head(12).itertuples()
    )
    ranges = [
        f"{objective_label(name)} from {trials[axis].min():.3g} to {trials[axis].max():.3g}"
        for axis, name in (("x", axes.x), ("y", axes.y))
    ]
    return f"Scatter plot of {len(trials):,} trials: {' against '.join(ranges)}. On the front: {front or 'none yet'}."
