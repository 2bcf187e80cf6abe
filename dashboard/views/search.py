"""Page 'Search': optimisation history, configurations, importance of parameters, and halving."""

from functools import partial

import altair as alt
import pandas as pd
import streamlit as st

from dashboard.address import choose
from dashboard.charts import download_chart, show_chart
from dashboard.reading import Reading
from dashboard.text import plain
from study.analysis import metric_columns
from study.analysis.importance import EVALUATORS, UndeterminedError, importances
from study.analysis.parameter_effects import is_numeric, slice_data, surface_data
from study.charts import search as charts
from study.charts.style import BLUE, downsample, downsample_note, error_bars, parameter_label
from study.formatting import objective_label
from study.report.figures import ReportContext
from study.spec import Spec

_METHODS = {
    "ped_anova": "PED-ANOVA: difference between the best trials and all",
    "fanova": "fANOVA: share of the variance",
    "mean_decrease_impurity": "mean decrease in impurity of a random forest",
}


def page(reading: Reading) -> None:
    """Draw the optimisation history, configurations, importance of parameters, and halving."""
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
    st.subheader("One and two parameters")
    names = [name for name in spec.space if f"config/{name}" in table and table[f"config/{name}"].notna().any()]
    left, right = st.columns(2)
    with left:
        first = choose("first", "Parameter", names, names[0], parameter_label)
        _slice(spec, table, first, metric)
    with right:
        if others := [name for name in names if name != first]:
            second = choose("second", "Second parameter", others, others[0], parameter_label)
            _contour(spec, table, first, second, metric)
    if spec.halving is not None:
        st.subheader("Trials stopped by halving")
        data = charts.rungs_data(results)
        rungs = (f"at {rung.step:,} steps {rung.stopped} of {rung.reached} were stopped" for rung in data.itertuples())
        show_chart(charts.rungs_chart(data), "rungs", "; ".join(rungs), data, f"{spec.name}-halving")


def _history(reading: Reading, table: pd.DataFrame, metric: str) -> None:
    spec = reading.results.spec
    st.subheader("Optimisation history")
    data = charts.history_data(table, reading.once("progress", reading.results.progress), spec, metric)
    if data.empty:
        st.info("The store holds no completion times of trials.")
        return
    bars = ReportContext(reading.results).error_bars
    st.caption(f"The line is the best so far; {bars}.{downsample_note(len(data))}")
    best = f"{objective_label(metric)} of {len(data)} trials in order; the best so far is {data['best'].iloc[-1]:.4g}"
    show_chart(charts.history_chart(data, metric), "history", best, data, f"{spec.name}-history")


def _parallel(reading: Reading, complete: pd.DataFrame, metric: str) -> None:
    spec = reading.results.spec
    st.subheader("Configurations")
    data = charts.parallel_data(complete, spec, [*spec.space], list(dict.fromkeys([*spec.objectives, metric])))
    count = data["trial"].nunique()
    sample = f" {count:,} of {len(complete):,} trials are drawn, a random sample." if count < len(complete) else ""
    st.caption(
        "Each line is a complete trial. Each axis spans the values of its parameter, logarithmic for loss weights. "
        f"Lines are coloured by {plain(objective_label(metric))}.{sample}"
    )
    axes = f"Parallel coordinates of {count} trials over {', '.join(parameter_label(name) for name in spec.space)}"
    show_chart(charts.parallel_chart(data, metric), "parallel", axes, data, f"{spec.name}-configurations")


def _importances(reading: Reading, table: pd.DataFrame, metric: str) -> None:
    spec = reading.results.spec
    st.subheader("Importance of parameters")
    method = choose("method", "Method", EVALUATORS, EVALUATORS[0], lambda name: _METHODS.get(name, name))
    complete = int((table["state"] == "complete").sum())
    panels, tables = [], []
    names = list(dict.fromkeys([*spec.objectives, metric]))
    for column, name in zip(st.columns(len(names)), names, strict=True):
        with column:
            try:
                scores = reading.once(("importance", name, method), partial(importances, table, spec, name, method))
            except UndeterminedError as error:
                st.info(plain(f"{objective_label(name)}: {error}."))
                continue
            data = scores.dropna(subset=["importance"]).assign(metric=name)
            data["label"] = data["parameter"].map(parameter_label)
            bars = alt.Chart(data).mark_bar(color=BLUE).properties(title=objective_label(name))
            panel = bars.encode(
                x=alt.X("importance:Q", title="share", scale=alt.Scale(domain=[0, 1]), axis=alt.Axis(format="%")),
                y=alt.Y("label:N", sort="-x", title=None, axis=alt.Axis(labelLimit=160)),
                tooltip=["parameter", alt.Tooltip("importance:Q", format=".3f"), "trials", "complete"],
            )
            best = ", ".join(f"{row.label} {row.importance:.0%}" for row in data.head(3).itertuples())
            height = 24 * max(2, len(data))
            drawn = panel.properties(height=height + 100)
            st.altair_chart(drawn, width="stretch", key=f"importance {name}", alt=f"Importance for {name}: {best}")
            conditional = data[data["trials"] < complete]
            if len(conditional):
                counts = ", ".join(f"{row.label} ({row.trials:,})" for row in conditional.itertuples())
                st.caption(f"Computed from the trials that have the parameter: {counts}.")
            panels.append(panel.properties(width=300, height=height))
            tables.append(data)
    if panels:
        download_chart(lambda: alt.hconcat(*panels), pd.concat(tables), f"{spec.name}-importance")


def _slice(spec: Spec, table: pd.DataFrame, name: str, metric: str) -> None:
    parameter, label = spec.space[name], parameter_label(name)
    data = slice_data(table, spec, name, metric)
    note, data = downsample_note(len(data)), downsample(data)
    if not is_numeric(parameter):
        x = alt.X("value:N", title=label, axis=alt.Axis(labelAngle=-30))
    elif parameter.log_uniform is not None:
        x = alt.X("value:Q", title=label, scale=alt.Scale(type="log", nice=False, padding=10))
    else:
        x = alt.X("value:Q", title=label, scale=alt.Scale(zero=False, nice=False, padding=10))
    base = alt.Chart(data).encode(x=x)
    points = base.mark_point(filled=True, size=50, opacity=0.9).encode(
        y=alt.Y("mean:Q", title=objective_label(metric), scale=alt.Scale(zero=False)),
        color=alt.Color("state:N", title=None, legend=alt.Legend(orient="top")),
        tooltip=["trial", "state", "value", alt.Tooltip("mean:Q", format=".4g")],
    )
    chart = alt.layer(error_bars(base, opacity=0.4, color=BLUE), points).properties(height=320)
    caption = f"Bars are 90 % intervals over replicates.{note}"
    show_chart(chart, "slice", f"{objective_label(metric)} against {label}", data, f"{spec.name}-slice", caption)


def _contour(spec: Spec, table: pd.DataFrame, first: str, second: str, metric: str) -> None:
    data = surface_data(table, spec, first, second, metric)
    chart = charts.contour_chart(data, table, spec, first, second, metric)
    description = f"{objective_label(metric)} over {parameter_label(first)} and {parameter_label(second)}"
    caption = "Values between trials are interpolated. Regions far from all trials are left blank."
    show_chart(chart, "contour", description, data, f"{spec.name}-contour", caption)
