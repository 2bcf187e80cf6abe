"""Page 'Search': optimisation history, configurations, importance of parameters, and halving."""

from functools import partial

import altair as alt
import pandas as pd
import streamlit as st

from dashboard.address import choose
from dashboard.downloads import download_chart
from dashboard.reading import Reading
from dashboard.text import plain
from dashboard.views.state import needs_a_trial
from study.analysis import metric_columns
from study.analysis.importance import EVALUATORS, UndeterminedError, importances
from study.analysis.parameter_effects import is_numeric, slice_data, surface_data
from study.charts.search import (
    MAX_LINES,
    contour_chart,
    history_chart,
    history_data,
    parallel_chart,
    parallel_data,
    rungs_chart,
    rungs_data,
)
from study.charts.style import BLUE, downsample, downsample_note, parameter_label
from study.formatting import objective_label
from study.report.figures import ReportContext

__all__ = ["page"]

_METHODS = {
    "ped_anova": "PED-ANOVA: difference between the best trials and all",
    "fanova": "fANOVA: share of the variance",
    "mean_decrease_impurity": "mean decrease in impurity of a random forest",
}


def page(reading: Reading) -> None:
    """Draw the page."""
    results, spec = reading.results, reading.results.spec
    if not needs_a_trial(reading):
        return
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
    _slice_and_contour(reading, table, metric)
    _halving(reading, table)


def _history(reading: Reading, table: pd.DataFrame, metric: str) -> None:
    st.subheader("Optimisation history")
    progress = reading.once("progress", reading.results.progress)
    data = history_data(table, progress, reading.results.spec, metric)
    if data.empty:
        st.info("The store holds no completion times of trials.")
        return
    bars = ReportContext(reading.results).error_bars
    st.caption(f"The line is the best so far; {bars}.{downsample_note(len(data))}")
    words = f"{objective_label(metric)} of {len(data)} trials in order; the best so far is {data['best'].iloc[-1]:.4g}"
    st.altair_chart(history_chart(data, metric), width="stretch", key="history", alt=words)
    download_chart(lambda: history_chart(data, metric), data, f"{reading.results.spec.name}-history")


def _parallel(reading: Reading, complete: pd.DataFrame, metric: str) -> None:
    st.subheader("Configurations")
    spec = reading.results.spec
    data = parallel_data(complete, spec, [*spec.space], list(dict.fromkeys([*spec.objectives, metric])))
    chart = parallel_chart(data, metric)
    drawn = data["trial"].nunique()
    st.caption(
        "Each line is a complete trial. Each axis spans the values of its parameter, logarithmic for loss weights. "
        f"Lines are coloured by {plain(objective_label(metric))}."
        + (f" {drawn:,} of {len(complete):,} trials are drawn, a random sample." if len(complete) > MAX_LINES else "")
    )
    words = f"Parallel coordinates of {drawn} trials over {', '.join(parameter_label(name) for name in spec.space)}"
    st.altair_chart(chart, width="stretch", key="parallel", alt=words)
    download_chart(lambda: chart, data, f"{spec.name}-configurations")


def _importances(reading: Reading, table: pd.DataFrame, metric: str) -> None:
    st.subheader("Importance of parameters")
    spec = reading.results.spec
    method = choose("method", "Method", EVALUATORS, EVALUATORS[0], lambda name: _METHODS.get(name, name))
    panels, parts = [], []
    names = list(dict.fromkeys([*spec.objectives, metric]))
    for column, name in zip(st.columns(len(names)), names, strict=True):
        with column:
            try:
                found = reading.once(("importance", name, method), partial(importances, table, spec, name, method))
            except UndeterminedError as error:
                st.info(plain(f"{objective_label(name)}: {error}."))
                continue
            data = found.dropna(subset=["importance"]).assign(metric=name)
            data["label"] = data["parameter"].map(parameter_label)
            panel = (
                alt.Chart(data)
                .mark_bar(color=BLUE)
                .encode(
                    x=alt.X("importance:Q", title="share", scale=alt.Scale(domain=[0, 1]), axis=alt.Axis(format="%")),
                    y=alt.Y("label:N", sort="-x", title=None, axis=alt.Axis(labelLimit=160)),
                    tooltip=["parameter", alt.Tooltip("importance:Q", format=".3f"), "trials", "complete"],
                )
                .properties(height=24 * max(2, len(data)) + 100, title=objective_label(name))
            )
            best = ", ".join(f"{row.label} {row.importance:.0%}" for row in data.head(3).itertuples())
            st.altair_chart(panel, width="stretch", key=f"importance {name}", alt=f"Importance for {name}: {best}")
            some = data[data["trials"] < len(table[table["state"] == "complete"])]
            if len(some):
                st.caption(
                    "Computed from the trials that have the parameter: "
                    + ", ".join(f"{row.label} ({row.trials:,})" for row in some.itertuples())
                    + "."
                )
            panels.append(panel.properties(width=300, height=24 * max(2, len(data))))
            parts.append(data)
    if panels:
        download_chart(lambda: alt.hconcat(*panels), pd.concat(parts), f"{spec.name}-importance")


def _slice_and_contour(reading: Reading, table: pd.DataFrame, metric: str) -> None:
    spec = reading.results.spec
    names = [name for name in spec.space if f"config/{name}" in table and table[f"config/{name}"].notna().any()]
    st.subheader("One and two parameters")
    left, right = st.columns(2)
    with left:
        first = choose("first", "Parameter", names, names[0], parameter_label)
        data = slice_data(table, spec, first, metric)
        count, data = len(data), downsample(data)
        kind = "Q" if is_numeric(spec.space[first]) else "N"
        base = alt.Chart(data).encode(
            x=alt.X(
                f"value:{kind}", title=parameter_label(first), scale=_scale(spec.space[first].log_uniform is not None)
            )
            if kind == "Q"
            else alt.X("value:N", title=parameter_label(first), axis=alt.Axis(labelAngle=-30))
        )
        bars = base.transform_filter("isValid(datum.low)").mark_rule(opacity=0.4, color=BLUE)
        points = base.mark_point(filled=True, size=50, opacity=0.9).encode(
            y=alt.Y("mean:Q", title=objective_label(metric), scale=alt.Scale(zero=False)),
            color=alt.Color("state:N", title=None, legend=alt.Legend(orient="top")),
            tooltip=["trial", "state", "value", alt.Tooltip("mean:Q", format=".4g")],
        )
        chart = alt.layer(bars.encode(y=alt.Y("low:Q"), y2="high:Q"), points).properties(height=320)
        words = f"{objective_label(metric)} against {parameter_label(first)}"
        st.altair_chart(chart, width="stretch", key="slice", alt=words)
        st.caption(f"Bars are 90 % intervals over replicates.{downsample_note(count)}")
        download_chart(lambda: chart, data, f"{spec.name}-slice")
    with right:
        others = [name for name in names if name != first]
        if not others:
            return
        second = choose("second", "Second parameter", others, others[0], parameter_label)
        _contour(reading, table, first, second, metric)


def _contour(reading: Reading, table: pd.DataFrame, first: str, second: str, metric: str) -> None:
    spec = reading.results.spec
    try:
        data = surface_data(table, spec, first, second, metric)
    except UndeterminedError as error:
        st.info(f"{plain(str(error))}.")
        return
    chart = contour_chart(data, table, spec, first, second, metric)
    words = f"{objective_label(metric)} over {parameter_label(first)} and {parameter_label(second)}"
    st.altair_chart(chart, width="stretch", key="contour", alt=words)
    st.caption("Values between trials are interpolated. Regions far from all trials are left blank.")
    download_chart(lambda: chart, data, f"{spec.name}-contour")


def _halving(reading: Reading, table: pd.DataFrame) -> None:
    spec = reading.results.spec
    if spec.halving is None:
        return
    st.subheader("Trials stopped by halving")
    data = rungs_data(reading.results)
    st.altair_chart(
        rungs_chart(data),
        width="stretch",
        key="rungs",
        alt="; ".join(
            f"at {row.step:,} steps {row.stopped} of {row.reached} were stopped" for row in data.itertuples()
        ),
    )
    download_chart(lambda: rungs_chart(data), data, f"{spec.name}-halving")


def _scale(is_log: bool) -> alt.Scale:
    return alt.Scale(type="log", nice=False, padding=10) if is_log else alt.Scale(zero=False, nice=False, padding=10)
