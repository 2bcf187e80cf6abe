"""Page 'Search': history, configurations, importance of parameters, curves, correlations, and halving."""

from functools import partial
from typing import Any

import altair as alt
import numpy as np
import pandas as pd
import streamlit as st
from altair.typing import ChartType

from dashboard.address import MAX_SELECTED, choose, choose_many, keep_ranges, ranges, selected_trials, spread
from dashboard.charts import download_chart, draw, show_chart
from dashboard.links import link_button
from dashboard.reading import Reading
from dashboard.text import plain
from study.analysis import metric_columns
from study.analysis.importance import EVALUATORS, Evaluator, UndeterminedError, importance_intervals, importances
from study.analysis.parameter_effects import slice_data, surface_data
from study.charts import search as charts
from study.charts.associations import correlation_chart, correlation_data, importance_chart
from study.charts.style import (
    SUBSPACES,
    downsample,
    downsample_note,
    parameter_label,
    spread_text,
)
from study.charts.trial import curves_chart
from study.formatting import objective_label
from study.spec import Spec

_PARALLEL, _BRUSHES = "parallel coordinates", "within"
_MIN_TRIALS = 30
_MAX_CURVES, _MAX_CORRELATED = 12, 14
_METHODS = {
    "ped_anova": "PED-ANOVA: difference between the best trials and all",
    "fanova": "fANOVA: share of the variance",
    "mean_decrease_impurity": "mean decrease in impurity of a random forest",
}


def page(reading: Reading) -> None:
    """Draw history, configurations, importance of parameters, curves, correlations, and halving."""
    results, spec = reading.results, reading.results.spec
    table = results.results()
    complete = table[table["state"] == "complete"]
    metrics = list(dict.fromkeys([*spec.objectives, *metric_columns(table)]))
    metric = choose("metric", "Metric", metrics, metrics[0], objective_label)
    if complete.empty or metric not in complete or complete[metric].isna().all():
        st.info("No complete trial has a value of this metric yet.")
        return
    _history(reading, table, metric)
    _parallel(reading, complete, metric)
    _importances(reading, table, metric)
    st.subheader("One and two parameters", anchor=False)
    names = [name for name in spec.space if f"config/{name}" in table and table[f"config/{name}"].notna().any()]
    left, right = st.columns(2)
    with left:
        first = choose("first", "Parameter", names, names[0], parameter_label)
        _slice(reading, table, first, metric)
    with right:
        if others := [name for name in names if name != first]:
            second = choose("second", "Second parameter", others, others[0], parameter_label)
            _contour(reading, table, first, second, metric)
    _curves(reading, table, metric)
    _correlations(reading, complete)
    if spec.halving is not None:
        st.subheader("Trials stopped by halving", anchor=False)
        data = charts.rungs_data(results)
        rungs = (f"at {rung.step:,} steps {rung.stopped} of {rung.reached} were stopped" for rung in data.itertuples())
        show_chart(reading, partial(charts.rungs_chart, data), "rungs", "; ".join(rungs), data, f"{spec.name}-halving")


def _history(reading: Reading, table: pd.DataFrame, metric: str) -> None:
    spec = reading.results.spec
    progress = reading.once("progress", reading.results.progress)
    data = charts.history_data(table, progress, spec, metric, spread())
    if data.empty:
        st.info("The store holds no completion times of trials.")
        return
    bars = spread_text(spec.replicates, spread())
    best = f"{objective_label(metric)} of {len(data)} trials in order; the best so far is {data['best'].iloc[-1]:.3g}"
    caption = f"Points are complete trials, each the {bars}. The line is the best so far.{downsample_note(len(data))}"
    create = partial(charts.history_chart, data, spec, metric)
    show_chart(reading, create, "history", best, data, f"{spec.name}-history", caption)


def _parallel(reading: Reading, complete: pd.DataFrame, metric: str) -> None:
    spec = reading.results.spec
    st.subheader("Configurations", anchor=False)
    data = charts.parallel_data(complete, spec, [*spec.space], list(dict.fromkeys([*spec.objectives, metric])))
    count = data["trial"].nunique()
    brushes = {name: limits for name, limits in ranges(_BRUSHES).items() if name in set(data["axis"])}
    axis_of_label = data.drop_duplicates("axis").set_index("label")["axis"].to_dict()
    create = partial(charts.parallel_chart, data, spec, metric, brushes)
    description = f"Parallel coordinates of {count} trials over {', '.join(axis_of_label)}"
    draw(
        reading,
        create,
        _PARALLEL,
        description,
        on_select=partial(_take_brush, axis_of_label, brushes),
        selections=("brush",),
    )
    with st.container(horizontal=True, vertical_alignment="center"):
        if brushes:
            inside = data["trial"][charts.within_brushes(data, brushes)].unique().tolist()
            st.markdown(f"**{len(inside)} of {count} trials** are within all ranges", width="content")
            st.button("Clear the ranges", on_click=keep_ranges, args=[_BRUSHES, {}])
            label = "Select them" if len(inside) <= MAX_SELECTED else f"Select the first {MAX_SELECTED}"
            link_button("trials", label, spec.name, inside)
        download_chart(create, data, f"{spec.name}-configurations")
    sample = f" {count:,} of {len(complete):,} trials are drawn, a random sample." if count < len(complete) else ""
    st.caption(
        "Each line is a complete trial. Each axis spans the values of its parameter, logarithmic for loss weights; n/a "
        f"marks trials without the parameter. Drag over an axis to keep the trials within a range.{sample}"
    )


def _take_brush(axis_of_label: dict[str, str], brushes: dict[str, tuple[float, float]]) -> None:
    """Add the dragged ranges of the chart to those in the address."""
    brush: Any = st.session_state[_PARALLEL]["selection"].get("brush") or {}
    low, high = brush.get("position", (0.0, 0.0))
    dragged = {axis_of_label[label]: (low, high) for label in brush.get("label", []) if label in axis_of_label}
    if dragged and high > low:
        keep_ranges(_BRUSHES, brushes | dragged)


def _importances(reading: Reading, table: pd.DataFrame, metric: str) -> None:
    spec = reading.results.spec
    st.subheader("Importance of parameters", anchor=False)
    method = choose("method", "Method", EVALUATORS, EVALUATORS[0], lambda name: _METHODS.get(name, name))
    complete = int((table["state"] == "complete").sum())
    if complete < _MIN_TRIALS:
        st.warning(f"{complete} complete trials are few for importances; they can change much below {_MIN_TRIALS}.")
    has_intervals = method == "ped_anova" and not reading.is_large  # others take seconds for each draw
    panels, tables = [], []
    names = list(dict.fromkeys([*spec.objectives, metric]))
    for column, name in zip(st.columns(len(names)), names, strict=True):
        with column:
            try:
                compute = partial(_importance, table, spec, name, method, has_intervals)
                data = reading.once(("importance", name, method), compute)
            except UndeterminedError as error:
                st.info(plain(f"{objective_label(name)}: {error}."))
                continue
            panel = partial(importance_chart, data, objective_label(name))
            best = ", ".join(f"{row.label} {row.importance:.0%}" for row in data.head(3).itertuples())
            draw(reading, panel, f"importance {name}", f"Importance for {name}: {best}")
            conditional = data[data["trials"] < complete]
            if len(conditional):
                counts = ", ".join(f"{row.label} ({row.trials:,})" for row in conditional.itertuples())
                st.caption(f"Computed from the trials that have the parameter: {counts}.")
            panels.append(panel)
            tables.append(data.assign(metric=name))
    if panels:
        bars = "Bars have 90 % intervals of a bootstrap over trials." if has_intervals else ""
        st.caption(f"Importances of all parameters sum to 100 %. {bars}")

        def all_panels() -> ChartType:
            return alt.hconcat(*(create().properties(width=300) for create in panels))

        download_chart(all_panels, pd.concat(tables), f"{spec.name}-importance")


def _importance(table: pd.DataFrame, spec: Spec, metric: str, method: Evaluator, has_intervals: bool) -> pd.DataFrame:
    scores = importances(table, spec, metric, method).dropna(subset=["importance"])
    data = scores.assign(label=scores["parameter"].map(parameter_label), low=np.nan, high=np.nan)
    if has_intervals:
        limits = importance_intervals(table, spec, metric, method)
        data = data.drop(columns=["low", "high"]).join(limits, on="parameter")
    return data


def _curves(reading: Reading, table: pd.DataFrame, metric: str) -> None:
    """Draw the learning curves of the selected trials, or of the front, in one chart."""
    selected = selected_trials(table["trial"])
    trials = selected or reading.front["trial"].tolist()[:_MAX_CURVES]
    reports = reading.results.reports(trials)
    if metric not in reports or reports.dropna(subset=[metric]).groupby("trial")["step"].nunique().max() < 2:
        return
    st.subheader("Learning curves", anchor=False)
    create = partial(curves_chart, reports, reading.results.spec, metric)
    which = "selected trials" if selected else "trials on the front"
    description = f"{objective_label(metric)} by steps of {len(trials)} {which}"
    name = reading.results.spec.name
    caption = f"Means over seeds of the {which}. Select others on the page All trials."
    data = reports[["trial", "seed", "step", metric]]
    show_chart(reading, create, "curves", description, data, f"{name}-curves", caption)


def _correlations(reading: Reading, complete: pd.DataFrame) -> None:
    spec = reading.results.spec
    options = [name for name in metric_columns(complete) if complete[name].nunique() > 1]
    factors = reading.results.metadata.factors
    readings = [f"information/{factor}/{subspace}" for factor in factors for subspace in SUBSPACES]
    wanted = [*spec.objectives, "disentanglement/mig", *readings]
    default = [name for name in dict.fromkeys(wanted) if name in options]
    if len(options) < 2:
        return
    st.subheader("Correlations of metrics", anchor=False)
    names = choose_many("correlated", "Metrics", options, default, objective_label, limit=_MAX_CORRELATED)
    if len(names) < 2:
        st.info("Choose at least two metrics.")
        return
    data = reading.once(("correlations", tuple(names)), partial(correlation_data, complete, names))
    description = f"Spearman's rank correlations of {len(names)} metrics over {len(complete)} complete trials"
    caption = f"{description}. The tooltip has 90 % intervals."
    create = partial(correlation_chart, data)
    show_chart(reading, create, "correlations", description, data, f"{spec.name}-correlations", caption, "content")
    away = data[data["first"] != data["second"]]
    strongest = away.loc[away["correlation"].abs().idxmax()] if away["correlation"].notna().any() else None
    if strongest is not None:
        by_label = {objective_label(name): name for name in names}
        axes = {"x": by_label[strongest["first"]], "y": by_label[strongest["second"]]}
        link_button("trade-off", "Plot the strongest pair", spec.name, view=axes)


def _slice(reading: Reading, table: pd.DataFrame, name: str, metric: str) -> None:
    spec, label = reading.results.spec, parameter_label(name)
    data = slice_data(table, spec, name, metric, spread())
    create = partial(charts.slice_chart, data, spec, name, metric)
    description = f"{objective_label(metric)} against {label}"
    caption = f"Each point is the {spread_text(spec.replicates, spread())}.{downsample_note(len(data))}"
    show_chart(reading, create, "slice", description, downsample(data), f"{spec.name}-slice", caption)


def _contour(reading: Reading, table: pd.DataFrame, first: str, second: str, metric: str) -> None:
    spec = reading.results.spec
    data = surface_data(table, spec, first, second, metric)
    create = partial(charts.contour_chart, data, table, spec, first, second, metric)
    description = f"{objective_label(metric)} over {parameter_label(first)} and {parameter_label(second)}"
    caption = "Values between trials are interpolated. Regions far from all trials are left blank."
    show_chart(reading, create, "contour", description, data, f"{spec.name}-contour", caption)
