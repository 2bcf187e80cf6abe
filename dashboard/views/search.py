"""Page 'Search': history, configurations, importance of parameters, curves, correlations, and halving."""

from functools import partial
from typing import Any

import altair as alt
import numpy as np
import pandas as pd
import streamlit as st

from dashboard.address import choose, choose_many, keep_ranges, ranges, selected_trials, spread
from dashboard.charts import download_chart, draw, show_chart
from dashboard.links import link_button
from dashboard.reading import Reading
from dashboard.text import plain
from study.analysis import metric_columns
from study.analysis.importance import EVALUATORS, Evaluator, UndeterminedError, importance_intervals, importances
from study.analysis.parameter_effects import is_numeric, slice_data, surface_data
from study.charts import search as charts
from study.charts.associations import correlation_chart, correlation_data, importance_chart
from study.charts.style import (
    BLUE,
    SUBSPACES,
    downsample,
    downsample_note,
    error_bars,
    metric_lines,
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
        _slice(spec, table, first, metric)
    with right:
        if others := [name for name in names if name != first]:
            second = choose("second", "Second parameter", others, others[0], parameter_label)
            _contour(spec, table, first, second, metric)
    _curves(reading, table, metric)
    _correlations(reading, complete)
    if spec.halving is not None:
        st.subheader("Trials stopped by halving", anchor=False)
        data = charts.rungs_data(results)
        rungs = (f"at {rung.step:,} steps {rung.stopped} of {rung.reached} were stopped" for rung in data.itertuples())
        show_chart(charts.rungs_chart(data), "rungs", "; ".join(rungs), data, f"{spec.name}-halving")


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
    show_chart(charts.history_chart(data, spec, metric), "history", best, data, f"{spec.name}-history", caption)


def _parallel(reading: Reading, complete: pd.DataFrame, metric: str) -> None:
    spec = reading.results.spec
    st.subheader("Configurations", anchor=False)
    data = charts.parallel_data(complete, spec, [*spec.space], list(dict.fromkeys([*spec.objectives, metric])))
    count = data["trial"].nunique()
    brushes = {name: limits for name, limits in ranges(_BRUSHES).items() if name in set(data["axis"])}
    axis_of_label = data.drop_duplicates("axis").set_index("label")["axis"].to_dict()
    chart = charts.parallel_chart(data, spec, metric, brushes)
    description = f"Parallel coordinates of {count} trials over {', '.join(axis_of_label)}"
    draw(
        chart,
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
            link_button("trials", "Select them", spec.name, inside)
        download_chart(lambda: chart, data, f"{spec.name}-configurations")
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
    panels, tables = [], []
    names = list(dict.fromkeys([*spec.objectives, metric]))
    for column, name in zip(st.columns(len(names)), names, strict=True):
        with column:
            try:
                data = reading.once(("importance", name, method), partial(_importance, table, spec, name, method))
            except UndeterminedError as error:
                st.info(plain(f"{objective_label(name)}: {error}."))
                continue
            panel = importance_chart(data, objective_label(name))
            best = ", ".join(f"{row.label} {row.importance:.0%}" for row in data.head(3).itertuples())
            draw(panel, f"importance {name}", f"Importance for {name}: {best}")
            conditional = data[data["trials"] < complete]
            if len(conditional):
                counts = ", ".join(f"{row.label} ({row.trials:,})" for row in conditional.itertuples())
                st.caption(f"Computed from the trials that have the parameter: {counts}.")
            panels.append(panel.properties(width=300))
            tables.append(data.assign(metric=name))
    if panels:
        bars = "Bars have 90 % intervals of a bootstrap over trials." if method == "ped_anova" else ""
        st.caption(f"Importances of all parameters sum to 100 %. {bars}")
        download_chart(lambda: alt.hconcat(*panels), pd.concat(tables), f"{spec.name}-importance")


def _importance(table: pd.DataFrame, spec: Spec, metric: str, method: Evaluator) -> pd.DataFrame:
    scores = importances(table, spec, metric, method).dropna(subset=["importance"])
    data = scores.assign(label=scores["parameter"].map(parameter_label), low=np.nan, high=np.nan)
    if method == "ped_anova":  # forests take seconds for each draw
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
    chart = curves_chart(reports, reading.results.spec, metric)
    which = "selected trials" if selected else "trials on the front"
    description = f"{objective_label(metric)} by steps of {len(trials)} {which}"
    name = reading.results.spec.name
    caption = f"Means over seeds of the {which}. Select others on the page All trials."
    show_chart(chart, "curves", description, reports[["trial", "seed", "step", metric]], f"{name}-curves", caption)


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
    show_chart(
        correlation_chart(data), "correlations", description, data, f"{spec.name}-correlations", caption, "content"
    )
    away = data[data["first"] != data["second"]]
    strongest = away.loc[away["correlation"].abs().idxmax()] if away["correlation"].notna().any() else None
    if strongest is not None:
        by_label = {objective_label(name): name for name in names}
        axes = {"x": by_label[strongest["first"]], "y": by_label[strongest["second"]]}
        link_button("trade-off", "Plot the strongest pair", spec.name, view=axes)


def _slice(spec: Spec, table: pd.DataFrame, name: str, metric: str) -> None:
    parameter, label = spec.space[name], parameter_label(name)
    data = slice_data(table, spec, name, metric, spread())
    note, data = downsample_note(len(data)), downsample(data)
    if not is_numeric(parameter):
        x = alt.X("value:N", title=label, axis=alt.Axis(labelAngle=-30))
    elif parameter.log_uniform is not None:
        x = alt.X("value:Q", title=label, scale=alt.Scale(type="log", nice=False, padding=10))
    else:
        x = alt.X("value:Q", title=label, scale=alt.Scale(zero=False, nice=False, padding=10))
    base = alt.Chart(data).encode(x=x)
    points = base.mark_point(filled=True, size=50, opacity=0.9).encode(
        y=alt.Y("mean:Q", title=metric_lines(spec, metric), scale=alt.Scale(zero=False)),
        color=alt.Color("state:N", title=None, legend=alt.Legend(orient="top")),
        tooltip=["trial", "state", "value", alt.Tooltip("mean:Q", format=".4g")],
    )
    chart = alt.layer(error_bars(base, opacity=0.4, color=BLUE), points).properties(height=320)
    caption = f"Each point is the {spread_text(spec.replicates, spread())}.{note}"
    show_chart(chart, "slice", f"{objective_label(metric)} against {label}", data, f"{spec.name}-slice", caption)


def _contour(spec: Spec, table: pd.DataFrame, first: str, second: str, metric: str) -> None:
    data = surface_data(table, spec, first, second, metric)
    chart = charts.contour_chart(data, table, spec, first, second, metric)
    description = f"{objective_label(metric)} over {parameter_label(first)} and {parameter_label(second)}"
    caption = "Values between trials are interpolated. Regions far from all trials are left blank."
    show_chart(chart, "contour", description, data, f"{spec.name}-contour", caption)
