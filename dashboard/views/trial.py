"""Page 'Trial': configuration, learning curves, latents, maps and sounds of one trial."""

import time
from functools import partial

import altair as alt
import pandas as pd
import streamlit as st
from altair.typing import ChartType

from dashboard.address import TRIAL, choose, choose_many, selected_trials, spread
from dashboard.charts import download_chart, show_chart, show_grid
from dashboard.links import link_button
from dashboard.maps import map_of
from dashboard.notes import notes_of_trial, star_button
from dashboard.reading import Reading
from dashboard.text import plain
from study.analysis import metric_columns
from study.analysis.trade_off import trade_off_metrics
from study.charts.style import MissingDataError, parameter_label
from study.charts.trial import learning_chart, learning_data
from study.errors import UserError
from study.formatting import cell_text, format_number, objective_label
from study.report.figures import FIGURES, Figure, ReportContext, umap_figure

_POLL_S = 2.0
_VIEWS = ("Overview", "Latents", "Maps", "Listen", "Traverse")
_INCOMPLETE = {
    "running": "This trial is training. It shows the last budget that all replicates have reached.",
    "pruned": "Stopped by halving: other trials were better at its rung.",
    "interrupted": "Interrupted. Resume the study to continue it. This page shows the last budget reached.",
}


def page(reading: Reading) -> None:
    """Draw a selector of trials, and the chosen part of the page for one trial."""
    results = reading.results
    table = results.results()
    trial = _choose_trial(reading, table)
    row = table.set_index("trial", drop=False).loc[trial]
    _head(reading, row)
    if row["state"] == "failed":
        st.error("This trial has failed:")
        st.text(str(row["error"]))
    elif row["state"] != "complete":
        st.info(_INCOMPLETE[row["state"]])
    left, right = st.columns([3, 1])
    with left:
        view = choose("part", "View", _VIEWS, _VIEWS[0], is_segmented=True)
    if view == "Overview":
        _overview(reading, row)
        return
    seeds = list(results.spec.seeds)
    with right:
        seed = choose("seed", "Seed of the replicate", seeds, results.spec.first_seed, is_segmented=True)
    context = ReportContext(results, trial, seed, spread())
    if view == "Latents":
        _figure(reading, f"bars {trial} {context.spread}", "readings", context)
        _figure(reading, f"information {trial} {seed}", "mutual-information", context)
    elif view == "Maps":
        _maps(reading, context)
    else:
        from dashboard.listening import listening_table, traversal  # imports torch, which takes seconds

        (listening_table if view == "Listen" else traversal)(reading, trial, seed)


def _choose_trial(reading: Reading, table: pd.DataFrame) -> int:
    """Return the trial in the address; by default the first selected one, or else the first of the front."""
    trials: list[int] = table["trial"].tolist()
    states = dict(zip(trials, table["state"], strict=True))

    def text(trial: int) -> str:
        return f"{trial} · {states[trial]}{' ★' if trial in reading.marks.starred else ''}"

    default: int = [*selected_trials(trials), *reading.front["trial"], *trials][0]
    return choose(TRIAL, "Trial", trials, default, text)


def _head(reading: Reading, row: pd.Series) -> None:
    """Draw the objectives of the trial, its star, and buttons."""
    trial, spec = int(row["trial"]), reading.results.spec
    bars = "half of the 90 % interval" if spread() == "ci" else "standard deviation"
    with st.container(horizontal=True, vertical_alignment="center"):
        for name in spec.objectives:
            value, half_width = row.get(name), row.get(f"{name}/{spread()}")
            st.metric(
                plain(objective_label(name)),
                "–" if pd.isna(value) else format_number(value),
                delta=None if pd.isna(half_width) else f"± {format_number(half_width)}",
                delta_color="off",
                delta_arrow="off",
                help=f"mean over seeds, ± {bars}",
            )
        star_button(reading, trial)
        link_button("compare", "Compare", spec.name, [trial], trial)
        link_button("leakage", "Leakage", spec.name, trial=trial)
        link_button("export", "Export", spec.name, [trial], trial)


def _overview(reading: Reading, row: pd.Series) -> None:
    results, spec, trial = reading.results, reading.results.spec, int(row["trial"])
    left, right = st.columns([2, 3])
    with left:
        st.subheader("Configuration", anchor=False)
        parameters = [(parameter_label(name), cell_text(row.get(f"config/{name}"))) for name in spec.space]
        configuration = pd.DataFrame(parameters, columns=["parameter", "value"])
        st.dataframe(configuration, hide_index=True, width="stretch")
    with right:
        _learning(reading, trial)
    with st.expander("All metrics"):
        names = [name for name in metric_columns(results.results()) if pd.notna(row.get(name))]
        suffixes = {"mean": "", "standard deviation": "/sd", "± (90 % interval)": "/ci"}
        columns = {label: [row.get(f"{name}{suffix}") for name in names] for label, suffix in suffixes.items()}
        labels = [objective_label(name) for name in names]
        table = pd.DataFrame({"metric": names, **columns, "label": labels})
        st.dataframe(table, hide_index=True, width="stretch")
    notes_of_trial(reading, trial)


def _learning(reading: Reading, trial: int) -> None:
    st.subheader("Learning curves", anchor=False)
    spec = reading.results.spec
    reports = reading.results.reports([trial])
    options = [name for name in metric_columns(reports) if reports[name].notna().any()]
    default = [name for name in trade_off_metrics(spec) if name in options] or options[:1]
    names = choose_many("curves", "Metrics", options, default, objective_label, limit=6)
    if not names:
        st.info("Choose a metric.")
        return
    data = learning_data(reports, names, spread())
    charts = {name: partial(learning_chart, data, spec, name) for name in data["metric"].unique()}
    suffix = f"of trial {trial} by steps, of each replicate, and their mean"
    show_grid(reading, charts, 2, "learning", [f"{objective_label(name)} {suffix}" for name in charts])

    def all_charts() -> ChartType:
        return alt.concat(*(create() for create in charts.values()), columns=2)

    download_chart(all_charts, data, f"{spec.name}-trial-{trial}-learning")


def _maps(reading: Reading, context: ReportContext) -> None:
    """Draw the UMAP of each subspace. It is computed once; meanwhile the page says so, and asks again."""
    key = f"maps {context.trial} {context.seed}"
    try:
        data = map_of(context.latents)
    except MissingDataError as error:
        st.info(f"Not drawn: {plain(str(error))}.")
        return
    if data is not None:
        _show(reading, key, umap_figure(context, data))
        return
    started = time.monotonic()

    @st.fragment(run_every=_POLL_S)
    def ask() -> None:
        if map_of(context.latents) is not None:
            st.rerun()
        st.info(
            "The maps are computed in the background, which takes up to half a minute, and are then kept. This page "
            f"and others stay usable. {time.monotonic() - started:.0f} s so far.",
            icon=":material/hourglass_top:",
        )

    ask()


def _figure(reading: Reading, key: str, name: str, context: ReportContext) -> None:
    """Draw a figure of the report, or show why it cannot be drawn."""
    with st.spinner("Drawing; this takes some seconds the first time"):
        try:
            figure = reading.once(key, lambda: FIGURES[name][1](context))
        except (MissingDataError, UserError) as error:
            st.info(f"Not drawn: {plain(str(error))}.")
            return
    _show(reading, key, figure)


def _show(reading: Reading, key: str, figure: Figure) -> None:
    st.subheader(figure.title, anchor=False)
    file = f"{reading.results.spec.name}-{key.replace(' ', '-')}"
    show_chart(reading, lambda: figure.chart, key, figure.caption, figure.data, file, figure.caption, width="content")
