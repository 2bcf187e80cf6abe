"""Page 'Trade-off': one metric against another, by default fidelity against disentanglement."""

from typing import Any

import altair as alt
import pandas as pd
import streamlit as st

from dashboard.address import MAX_CHOSEN, choose, choose_many, chosen_trials, link, set_chosen, slide
from dashboard.downloads import download_chart
from dashboard.reading import Reading
from dashboard.text import plain
from dashboard.views.state import needs_a_trial
from study.analysis import metric_columns
from study.analysis.parameter_effects import is_numeric
from study.charts.style import BLUE, parameter_label
from study.charts.trade_off import Axes, default_axes, trade_off_chart, trade_off_data
from study.formatting import objective_label
from study.spec import Spec

__all__ = ["page"]

_NOTHING = "none"
_LIMITED = "limited"
_CHART = "trade-off chart"


def page(reading: Reading) -> None:
    """Draw the page."""
    results, spec = reading.results, reading.results.spec
    table = results.results()
    metrics = [*dict.fromkeys([*default_axes(spec)[:2], *metric_columns(table)])]
    if not needs_a_trial(reading):
        return
    axes = _axes(spec, metrics)
    limits = _limits(spec, table, metrics)
    chosen = chosen_trials(table["trial"])
    data = trade_off_data(results, axes, chosen, limits)
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
        alt=_in_words(data, axes),
    )
    st.caption("Click a point to select its trial, shift-click to add more, or drag to select an area.")
    download_chart(lambda: trade_off_chart(results, axes, data), data, f"{spec.name}-trade-off")
    _selection(reading, table, data, chosen, axes)
    _growth(reading)


def _axes(spec: Spec, metrics: list[str]) -> Axes:
    """Draw the selectors above the chart."""
    default = default_axes(spec)
    columns = st.columns(4)
    parameters = [_NOTHING, *spec.space]
    numbers = [_NOTHING, *(name for name, parameter in spec.space.items() if is_numeric(parameter))]
    with columns[0]:
        x = choose("x", "Horizontal", metrics, default.x, objective_label)
    with columns[1]:
        y = choose("y", "Vertical", metrics, default.y, objective_label)
    with columns[2]:
        colour = choose("colour", "Colour", parameters, _NOTHING, parameter_label)
    with columns[3]:
        size = choose("size", "Size", numbers, _NOTHING, parameter_label)
    return Axes(x, y, None if colour == _NOTHING else colour, None if size == _NOTHING else size)


def _limits(spec: Spec, table: pd.DataFrame, metrics: list[str]) -> dict[str, float]:
    """Return the worst acceptable value of each limited metric."""
    with st.expander("Limits", expanded=_LIMITED in st.query_params):
        known = [name for name in metrics if name in table and table[name].notna().any()]
        limits = {}
        for name in choose_many(_LIMITED, "Limit these metrics", known, (), objective_label):
            low, high = float(table[name].min()), float(table[name].max())
            high = max(high, low + 1e-6)
            is_cost = spec.direction(name) == "min"
            label = f"{objective_label(name)} {'at most' if is_cost else 'at least'}"
            limits[name] = slide(name, label, low, high, high if is_cost else low)
    return limits


def _take_selection(data: pd.DataFrame) -> None:
    """Copy the selection of the chart into the address: the clicked points, or the brushed area if it has changed."""
    event: Any = st.session_state[_CHART]["selection"]
    picked = [int(one["trial"]) for one in event.get("picked") or []]
    brush = event.get("brush") or {}
    before = st.session_state.get("last area")
    st.session_state["last area"] = brush
    if brush and brush != before:
        trials = data[~data["is_baseline"]]
        for axis, limits in brush.items():
            trials = trials[trials[axis].between(*limits)]
        picked = trials["trial"].tolist()
    set_chosen(picked)


def _selection(reading: Reading, table: pd.DataFrame, data: pd.DataFrame, chosen: list[int], axes: Axes) -> None:
    """Draw the table of the selected trials, or of the front, with links to other pages."""
    spec = reading.results.spec
    front = data[data["front"]].sort_values("x")["trial"].tolist()
    st.subheader(f"Selected trials ({len(chosen)})" if chosen else "Trials on the front of these two metrics")
    typed = st.text_input(
        "Trials, by number", ", ".join(map(str, chosen)), help="Numbers separated by commas; empty for the front."
    )
    there = set(table["trial"])
    numbers = [int(word) for word in typed.replace(",", " ").split() if word.isascii() and word.isdigit()]
    wanted = list(dict.fromkeys(number for number in numbers if number in there))[:MAX_CHOSEN]
    if wanted != chosen:
        set_chosen(wanted)
        st.rerun()
    shown = chosen or front
    names = [*dict.fromkeys([axes.x, axes.y, *spec.objectives])]
    columns = ["trial", "state", *(part for name in names for part in (name, f"{name}/sd"))]
    columns += [f"config/{name}" for name in spec.space]
    rows = table.set_index("trial", drop=False).loc[shown]
    labels = {name: objective_label(name) for name in names} | {f"{name}/sd": "± sd" for name in names}
    labels |= {f"config/{name}": parameter_label(name) for name in spec.space}
    st.dataframe(rows.reindex(columns=columns), hide_index=True, width="stretch", column_config=labels)
    where = st.columns(4)
    with where[0]:
        link("trial", "Open the first", spec.name, shown[:1])
    with where[1]:
        link("compare", "Compare (two to six)", spec.name, shown[:6])
    with where[2]:
        link("export", "Export", spec.name, shown)
    if len(chosen) >= MAX_CHOSEN:
        st.caption(f"A link holds at most {MAX_CHOSEN} trials; the others were left out.")


def _growth(reading: Reading) -> None:
    """Draw the hypervolume of the front against trained steps."""
    grown = reading.once("progress", reading.results.progress).dropna(subset=["hypervolume"])
    if grown.empty:
        return
    # The line is constant between changes, so other points are left out.
    grown = grown[grown["hypervolume"].diff().ne(0) | (grown["trial_steps"] == grown["trial_steps"].max())]
    st.subheader("Hypervolume of the front")
    st.caption("Volume between the front and the untrained network, in the product of the units of the objectives.")
    chart = (
        alt.Chart(grown[["trial_steps", "hypervolume", "trial", "complete"]])
        .mark_line(interpolate="step-after", point=len(grown) < 100, color=BLUE)
        .encode(
            x=alt.X("trial_steps:Q", title="steps that all replicates have trained"),
            y=alt.Y("hypervolume:Q", title="hypervolume", scale=alt.Scale(zero=False)),
            tooltip=["trial", "complete", "trial_steps", alt.Tooltip("hypervolume:Q", format=".4f")],
        )
        .properties(height=220)
    )
    st.altair_chart(
        chart,
        width="stretch",
        key="growth",
        alt=f"Hypervolume grew to {grown['hypervolume'].iloc[-1]:.3g} in {grown['complete'].iloc[-1]} complete trials",
    )


def _in_words(data: pd.DataFrame, axes: Axes) -> str:
    trials = data[~data["is_baseline"]]
    front = ", ".join(
        f"trial {row.trial} at {row.x:.3g} and {row.y:.3g}"
        for row in trials[trials["front"]].sort_values("x").head(12).itertuples()
    )
    return (
        f"Scatter plot of {len(trials):,} trials: {objective_label(axes.x)} from {trials['x'].min():.3g} to "
        f"{trials['x'].max():.3g} against {objective_label(axes.y)} from {trials['y'].min():.3g} to "
        f"{trials['y'].max():.3g}. On the front: {front or 'none yet'}."
    )
