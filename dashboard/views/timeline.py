"""Page 'Timeline': trials on trainers over time, the rate of training, and the device time of each run."""

from functools import partial

import pandas as pd
import streamlit as st

from dashboard.charts import draw, show_chart
from dashboard.reading import Reading
from study.analysis.timeline import runs_table, throughput, trial_spans
from study.charts.timeline import activity_chart, spans_chart, throughput_chart
from study.formatting import format_number

_ACTIVITIES = ("training", "evaluation", "idle")


def page(reading: Reading) -> None:
    """Draw when trials ran, how fast they trained, and what it cost."""
    results, name = reading.results, reading.results.spec.name
    spans = reading.once("spans", partial(trial_spans, results))
    runs = reading.once("runs", partial(runs_table, results))
    if spans.empty:
        st.info("No trial has started yet.")
        return
    _totals(runs, spans)
    if (spans["trainer"] < 0).all():
        place = "in a free row, because the study has not recorded the trainers of its trials"
    else:
        place = "in a free row of its trainer"
    counts = spans["state"].value_counts()
    show_chart(
        reading,
        partial(spans_chart, spans),
        "spans",
        "Trials over time: " + ", ".join(f"{count} {state}" for state, count in counts.items()),
        spans,
        f"{name}-timeline",
        f"Each bar is a trial from its start to its end, {place}; a cross marks a failure or an interruption.",
    )
    rates = reading.once("throughput", partial(throughput, results))
    if len(rates):
        st.subheader("Rate of training", anchor=False)
        show_chart(
            reading,
            partial(throughput_chart, rates),
            "throughput",
            f"Trained steps per second over time, at most {rates['trial_steps_per_s'].max():.3g}",
            rates,
            f"{name}-throughput",
            "Steps of all replicates together. Steps between two reports are spread evenly over the time between them.",
        )
    if runs["training"].notna().any():
        st.subheader("What trainers did", anchor=False)
        description = "Device hours of each run by training, evaluation and idle time"
        draw(reading, partial(activity_chart, runs), "activity", description)


def _totals(runs: pd.DataFrame, spans: pd.DataFrame) -> None:
    device = next(iter(runs["device"].replace("", None).dropna()), "")
    unit = "GPU-hours" if "cuda" in device.lower() or "nvidia" in device.lower() else "device-hours"
    busy = runs[list(_ACTIVITIES)].sum()
    with st.container(horizontal=True):
        st.metric(unit, format_number(float(runs["device_hours"].sum())), help="Time of all trainers of all runs.")
        st.metric(
            "trained steps",
            f"{int(runs['trained_steps'].sum()):,}",
            help="With the plain VAE and repeated steps.",
        )
        if busy.sum():
            st.metric("evaluation", f"{busy['evaluation'] / busy.sum():.0%}", help="Share of the trainers' time.")
            st.metric("idle", f"{busy['idle'] / busy.sum():.0%}", help="Share of the trainers' time.")
        st.metric("failed", int((spans["state"] == "failed").sum()), help="Trials that failed.")
        interruptions = int((spans["state"] == "interrupted").sum())
        st.metric("interrupted", interruptions, help="Times that a trial was interrupted.")
