"""Page 'Trade-off': one metric against another, by default fidelity against disentanglement."""

from functools import partial
from typing import Any

import pandas as pd
import streamlit as st
from altair.typing import ChartType

from dashboard import address
from dashboard.charts import download_chart, draw
from dashboard.links import link_button
from dashboard.reading import Reading
from dashboard.tables import results_table
from dashboard.text import plain
from study.analysis import metric_columns
from study.analysis.parameter_effects import is_numeric
from study.analysis.trade_off import PROBABILITY, Axes, default_axes, trade_off_data
from study.charts.hypervolume import hypervolume_chart
from study.charts.style import parameter_label
from study.charts.trade_off import is_zoomable, trade_off_chart
from study.formatting import objective_label
from study.spec import Spec

_NO_PARAMETER = "none"
_LIMITED = "limited"
_ALL = "all"
_CHART = "trade-off chart"
_HEIGHT = 500
_UNDECIDED = (0.05, 0.95)  # probabilities between these leave it open whether a trial is on the front
_MAX_LISTED = 20


def page(reading: Reading) -> None:
    """Draw selectors of metrics, the trade-off chart, the selected trials, and what more seeds would decide."""
    results, spec = reading.results, reading.results.spec
    table = results.results()
    metrics = [*dict.fromkeys([*default_axes(spec)[:2], *metric_columns(table)])]
    axes = _choose_axes(spec, metrics, reading.is_large)
    limits = _limits(spec, table, metrics)
    selected = address.selected_trials(table["trial"])
    probability = reading.front_probability if axes.size == PROBABILITY or not reading.is_large else None
    data = trade_off_data(results, axes, selected, limits, address.spread(), probability)
    trials = data[~data["is_baseline"]]
    if limits:
        st.caption(f"{len(trials):,} of {len(table):,} trials have values of both metrics and meet all limits.")
    if trials.empty:
        st.info(
            plain(f"No trial has values of both {objective_label(axes.x)} and {objective_label(axes.y)}")
            + (" within the limits. Loosen a limit." if limits else " yet.")
        )
        return
    can_zoom = is_zoomable(data, spec, axes)
    is_zoomed = can_zoom and not address.is_on(_ALL)

    def create() -> ChartType:
        chart = trade_off_chart(results, axes, data, is_selectable=True, is_zoomed=is_zoomed, spread=address.spread())
        return chart.properties(height=_HEIGHT)

    draw(
        reading,
        create,
        _CHART,
        _description(data, axes),
        on_select=lambda: _take_selection(data),
        selections=("picked", "brush"),
    )
    with st.container(horizontal=True, vertical_alignment="center"):
        if can_zoom:
            address.toggle_button(_ALL, "Show all trials", "Zoom to the front")
        download_chart(create, data, f"{spec.name}-trade-off")
        st.caption("Click a point to select its trial, shift-click to add more, or drag to select an area.")
    _selection(reading, table, data, selected, axes)
    if probability is not None:
        _undecided(reading, probability)
    else:
        st.caption("For trials that more seeds would decide, size points by the probability of the front.")
    _growth(reading)


def _choose_axes(spec: Spec, metrics: list[str], is_large: bool) -> Axes:
    """Draw the selectors above the chart."""
    size = PROBABILITY if spec.replicates > 1 and not is_large else _NO_PARAMETER
    default = default_axes(spec)
    parameters = [_NO_PARAMETER, *spec.space]
    numbers = [name for name, parameter in spec.space.items() if is_numeric(parameter)]
    sizes = [_NO_PARAMETER, *([PROBABILITY] if spec.replicates > 1 else []), *numbers]
    strategy = "contrast.strategy"
    selectors = {
        "x": ("Horizontal", metrics, default.x, objective_label),
        "y": ("Vertical", metrics, default.y, objective_label),
        "colour": ("Colour by", parameters, strategy if strategy in spec.space else _NO_PARAMETER, _label),
        "size": ("Size by", sizes, size, _label),
    }
    chosen = {}
    for column, (name, selector) in zip(st.columns(4), selectors.items(), strict=True):
        with column:
            chosen[name] = address.choose(name, *selector)
    return Axes(**{name: option for name, option in chosen.items() if option != _NO_PARAMETER})


def _label(name: str) -> str:
    return "probability of the front" if name == PROBABILITY else parameter_label(name)


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
    """Draw a table of the selected trials, or of the front, links to other pages, and a field to select by number."""
    spec = reading.results.spec
    trials = selected or data[data["front"]].sort_values("x")["trial"].tolist()
    with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
        st.subheader(
            f"Selected trials ({len(selected)})" if selected else "Trials on the front of these two metrics",
            anchor=False,
            width="content",
        )
        with st.container(horizontal=True, width="content"):
            link_button("compare", "Compare", spec.name, selected)
            link_button("export", "Export", spec.name, selected)
            if selected:
                st.button("Clear the selection", on_click=address.select_trials, args=[()])
    rows = table.set_index("trial", drop=False).loc[trials]
    columns = ["trial", "state", *dict.fromkeys([axes.x, axes.y, *spec.objectives]), *spec.space]
    results_table(reading, rows, columns, key="selected trials")
    with st.expander("Select trials by number"):
        typed = st.text_input("Numbers separated by commas", ", ".join(map(str, selected)))
    try:
        known = set(table["trial"])
        numbers = [trial for trial in address.parse_trials(typed) if trial in known]
    except ValueError as error:
        st.warning(plain(f"{error}."))
        numbers = selected
    if numbers != selected:
        address.select_trials(numbers)
        st.rerun()
    if len(selected) >= address.MAX_SELECTED:
        st.caption(f"A link holds at most {address.MAX_SELECTED} trials; the others were left out.")


def _undecided(reading: Reading, probability: pd.Series) -> None:
    """Draw the trials of which the seeds so far do not decide whether they are on the front."""
    if probability.isna().all():
        return
    spec = reading.results.spec
    undecided = probability[probability.between(*_UNDECIDED)].sort_values(ascending=False)
    st.subheader("What if more seeds", anchor=False)
    if undecided.empty:
        st.caption("Each complete trial is on or off the front with a probability of at least 95 %.")
        return
    seeds = spec.replicates
    forecasts = []
    for count in (2 * seeds, 4 * seeds):
        expected = reading.once(("front probability", count), partial(reading.results.front_probability, count))
        forecasts.append(f"{int(expected.between(*_UNDECIDED).sum())} with {count} seeds")
    st.caption(
        f"{len(undecided)} of {len(probability)} complete trials have a probability between 5 % and 95 % of being on "
        f"the front. If means and spreads stay as they are, {' and '.join(forecasts)} will be left."
    )
    listed = undecided.head(_MAX_LISTED)
    table = pd.DataFrame({"trial": listed.index, PROBABILITY: listed.to_numpy()})
    st.dataframe(
        table,
        hide_index=True,
        width="content",
        column_config={
            "trial": "Trial",
            PROBABILITY: st.column_config.ProgressColumn(
                "Probability of the front", min_value=0, max_value=1, format="%.2f", color="primary"
            ),
        },
    )


def _growth(reading: Reading) -> None:
    """Draw the hypervolume of the front against trained steps."""
    growth = reading.once("progress", reading.results.progress).dropna(subset=["hypervolume"])
    if growth.empty:
        return
    st.subheader("Hypervolume of the front", anchor=False)
    st.caption("Volume between the front and the untrained network, in the product of the units of the objectives.")
    volume, complete = growth["hypervolume"].iloc[-1], growth["complete"].iloc[-1]
    description = f"Hypervolume grew to {volume:.3g} in {complete} complete trials"
    draw(reading, partial(hypervolume_chart, growth), "growth", description)


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
