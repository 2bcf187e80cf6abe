"""Page 'Trial': configuration, learning curves, latents, maps and sounds of one trial."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import altair as alt
import pandas as pd
import streamlit as st

from dashboard.address import TRIALS, choose, choose_many, link, select_trials, selected_trials
from dashboard.charts import download_chart, show_chart, show_grid
from dashboard.reading import Reading
from dashboard.text import ago, paragraphs, plain
from study.analysis import metric_columns
from study.charts.style import MissingDataError, parameter_label
from study.charts.trade_off import trade_off_metrics
from study.charts.trial import learning_chart, learning_data
from study.errors import UserError
from study.formatting import cell_text, format_number, objective_label
from study.report.figures import FIGURES, ReportContext
from study.store.notes import MAX_AUTHOR, MAX_TEXT

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
    view = choose("part", "View", _VIEWS, _VIEWS[0], is_segmented=True)
    if view == "Overview":
        _overview(reading, row)
        return
    seed = choose("seed", "Seed of the replicate", list(results.spec.seeds), results.spec.first_seed, is_segmented=True)
    context = ReportContext(results, trial, seed)
    if view == "Latents":
        _figure(reading, f"bars {trial}", "readings", context)
        _figure(reading, f"information {trial} {seed}", "mutual-information", context)
    elif view == "Maps":
        _figure(reading, f"maps {trial} {seed}", "umap", context)
    else:
        from dashboard.listening import listening_table, traversal  # imports torch, which takes seconds

        (listening_table if view == "Listen" else traversal)(reading, trial, seed)


def _choose_trial(reading: Reading, table: pd.DataFrame) -> int:
    """Return the trial in the address; by default the first of the front, or else the first trial."""
    trials: list[int] = table["trial"].tolist()
    states = dict(zip(trials, table["state"], strict=True))
    # For a link to several trials this page shows the first.
    if len(selected_trials()) > 1:
        select_trials(selected_trials(trials)[:1])

    def text(trial: int) -> str:
        return f"{trial} · {states[trial]}{' ★' if trial in reading.marks.starred else ''}"

    default: int = [*reading.front["trial"], *trials][0]
    return choose(TRIALS, "Trial", trials, default, text)


def _head(reading: Reading, row: pd.Series) -> None:
    """Draw the objectives of the trial, its star, and links."""
    trial, spec = int(row["trial"]), reading.results.spec
    *cells, star, compare, export = st.columns([*(2 for _ in spec.objectives), 1, 1, 1], vertical_alignment="center")
    for cell, name in zip(cells, spec.objectives, strict=True):
        label, value, half_width = plain(objective_label(name)), row.get(name), row.get(f"{name}/ci")
        if pd.isna(value):
            cell.metric(label, "–")
            continue
        cell.metric(
            label,
            format_number(value),
            delta=None if pd.isna(half_width) else f"± {format_number(half_width)}",
            delta_color="off",
            delta_arrow="off",
            help="mean over replicates, ± half of its 90 % interval",
        )
    with star:
        is_starred = trial in reading.marks.starred
        action = reading.notes.unstar if is_starred else reading.notes.star
        label, note = "★ Starred" if is_starred else "☆ Star", "Stars are kept in the store and visible to all users."
        if st.button(label, help=note) and _change(reading, action, trial):
            st.rerun()
    with compare:
        link("compare", "Compare", spec.name, [trial])
    with export:
        link("export", "Export", spec.name, [trial])


def _overview(reading: Reading, row: pd.Series) -> None:
    results, spec, trial = reading.results, reading.results.spec, int(row["trial"])
    if row["state"] == "failed":
        st.error("This trial has failed:")
        st.text(str(row["error"]))
    elif row["state"] != "complete":
        st.info(_INCOMPLETE[row["state"]])
    left, right = st.columns([2, 3])
    with left:
        st.subheader("Configuration")
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
    _notes(reading, trial)


def _learning(reading: Reading, trial: int) -> None:
    st.subheader("Learning curves")
    spec = reading.results.spec
    reports = reading.results.reports([trial])
    options = [name for name in metric_columns(reports) if reports[name].notna().any()]
    default = [name for name in trade_off_metrics(spec) if name in options] or options[:1]
    names = choose_many("curves", "Metrics", options, default, objective_label, limit=6)
    if not names:
        st.info("Choose a metric.")
        return
    data = learning_data(reports, names)
    charts = {name: learning_chart(data, spec, name) for name in data["metric"].unique()}
    suffix = f"of trial {trial} by steps, of each replicate, and their mean"
    show_grid(charts, 2, "learning", [f"{objective_label(name)} {suffix}" for name in charts])
    download_chart(lambda: alt.concat(*charts.values(), columns=2), data, f"{spec.name}-trial-{trial}-learning")


def _figure(reading: Reading, key: str, name: str, context: ReportContext) -> None:
    """Draw a figure of the report, or show why it cannot be drawn."""
    with st.spinner("Drawing; this takes some seconds the first time"):
        try:
            figure = reading.once(key, lambda: FIGURES[name][1](context))
        except (MissingDataError, UserError) as error:
            st.info(f"Not drawn: {plain(str(error))}.")
            return
    st.subheader(figure.title)
    st.caption(figure.caption)
    file = f"{reading.results.spec.name}-{key.replace(' ', '-')}"
    show_chart(figure.chart, key, figure.caption, figure.data, file, width="content")


def _notes(reading: Reading, trial: int) -> None:
    st.subheader("Notes")
    for note in reading.marks.notes:
        if note.trial != trial:
            continue
        author = f"{plain(note.author)}, " if note.author else ""
        with st.container(border=True):
            st.markdown(paragraphs(note.text))
            st.caption(f"{author}{ago(note.time, datetime.now(UTC))}")
            if st.button("Remove", key=f"remove {note.name}") and _change(reading, reading.notes.remove, note):
                st.rerun()
    with st.form("note"):
        # The key changes with the number of notes, which empties the field after a note is saved.
        key, note_help = f"note {trial} {len(reading.marks.notes)}", "Kept in the store and visible to all users."
        text = st.text_area("Note on this trial", max_chars=MAX_TEXT, help=note_help, key=key)
        author = st.text_input("Your name (optional)", max_chars=MAX_AUTHOR)
        is_requested = st.form_submit_button("Save note") and bool(text.strip())
    if is_requested and _change(reading, reading.notes.write, trial, text, author):
        st.rerun()


def _change(reading: Reading, action: Callable[..., Any], *arguments: Any) -> bool:
    """Write a star or note and reread the study, or show why writing failed."""
    try:
        action(*arguments)
    except UserError as error:
        st.error(plain(str(error)))
        return False
    reading.expire()
    return True
