"""Page 'Trial': configuration, learning curves, latents, maps and sounds of one trial."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import altair as alt
import pandas as pd
import streamlit as st

from dashboard.address import CHOSEN, choose, choose_many, choose_part, chosen_trials, link, set_chosen
from dashboard.downloads import download_chart
from dashboard.moments import ago
from dashboard.reading import Reading
from dashboard.text import paragraphs, plain
from dashboard.views.state import needs_a_trial
from study.analysis import metric_columns
from study.charts.style import MissingDataError, parameter_label
from study.charts.trade_off import trade_off_metrics
from study.charts.trial import learning_chart, learning_data
from study.errors import UserError
from study.formatting import cell_text, format_number, objective_label
from study.report.figures import Figure, ReportContext
from study.store.notes import MAX_AUTHOR, MAX_TEXT

__all__ = ["page"]

_PARTS = ("Overview", "Latents", "Maps", "Listen", "Traverse")


def page(reading: Reading) -> None:
    """Draw the page."""
    results = reading.results
    if not needs_a_trial(reading):
        return
    table = results.results()
    trial = _which(reading, table)
    row = table.set_index("trial", drop=False).loc[trial]
    _head(reading, row)
    part = choose_part("part", "View", _PARTS, _PARTS[0])
    if part == "Overview":
        _overview(reading, row)
        return
    seed = choose_part("seed", "Seed of the replicate", list(results.spec.seeds), results.spec.first_seed)
    context = ReportContext(results, trial, seed)
    if part == "Latents":
        from study.report.figures import accuracy_figure, mutual_information_figure

        _picture(reading, f"bars {trial}", lambda: accuracy_figure(context))
        _picture(reading, f"information {trial} {seed}", lambda: mutual_information_figure(context))
    elif part == "Maps":
        from study.report.figures import umap_figure

        _picture(reading, f"maps {trial} {seed}", lambda: umap_figure(context))
    elif part == "Listen":
        from dashboard.listening import listening_table

        listening_table(reading, trial, seed)
    else:
        from dashboard.listening import traversal

        traversal(reading, trial, seed)


def _which(reading: Reading, table: pd.DataFrame) -> int:
    """Return the trial in the address; by default the first of the front, or else the first trial."""
    trials: list[int] = table["trial"].tolist()
    front: list[int] = reading.once("front", reading.results.front)["trial"].tolist()
    starred = reading.marks.starred
    states = dict(zip(trials, table["state"], strict=True))
    # For a link to several trials this page shows the first.
    if len(chosen_trials()) > 1:
        set_chosen(chosen_trials(trials)[:1])
    return choose(
        CHOSEN,
        "Trial",
        trials,
        next(iter([*front, *trials])),
        lambda trial: f"{trial} · {states[trial]}{' ★' if trial in starred else ''}",
    )


def _head(reading: Reading, row: pd.Series) -> None:
    """Draw the objectives of the trial, its star, and links."""
    trial = int(row["trial"])
    objectives = list(reading.results.spec.objectives)
    columns = st.columns([*(2 for _ in objectives), 1, 1, 1], vertical_alignment="center")
    for place, name in enumerate(objectives):
        value, spread = row.get(name), row.get(f"{name}/ci")
        with columns[place]:
            if pd.isna(value):
                st.metric(plain(objective_label(name)), "–")
            else:
                st.metric(
                    plain(objective_label(name)),
                    format_number(value),
                    delta=None if pd.isna(spread) else f"± {format_number(spread)}",
                    delta_color="off",
                    delta_arrow="off",
                    help="mean over replicates, ± half of its 90 % interval",
                )
    is_starred = trial in reading.marks.starred
    with columns[-3]:
        action = reading.notes.unstar if is_starred else reading.notes.star
        is_asked = st.button(
            "★ Starred" if is_starred else "☆ Star",
            help="Stars are kept in the store and visible to all users.",
        )
        if is_asked and _change(reading, action, trial):
            st.rerun()
    with columns[-2]:
        link("compare", "Compare", reading.results.spec.name, [trial])
    with columns[-1]:
        link("export", "Export", reading.results.spec.name, [trial])


def _overview(reading: Reading, row: pd.Series) -> None:
    results, spec, trial = reading.results, reading.results.spec, int(row["trial"])
    if row["state"] == "failed":
        st.error("This trial has failed:")
        st.text(str(row["error"]))
    elif row["state"] != "complete":
        st.info(
            {
                "running": "This trial is training. It shows the last budget that all replicates have reached.",
                "pruned": "Stopped by halving: other trials were better at its rung.",
                "interrupted": "Interrupted. Resume the study to continue it. This page shows the last budget reached.",
            }[row["state"]]
        )
    left, right = st.columns([2, 3])
    with left:
        st.subheader("Configuration")
        values = {parameter_label(name): row.get(f"config/{name}") for name in spec.space}
        st.dataframe(
            pd.DataFrame({"parameter": list(values), "value": [cell_text(value) for value in values.values()]}),
            hide_index=True,
            width="stretch",
        )
    with right:
        _learning(reading, trial)
    with st.expander("All metrics"):
        names = [name for name in metric_columns(results.results()) if pd.notna(row.get(name))]
        st.dataframe(
            pd.DataFrame(
                {
                    "metric": names,
                    "mean": [row[name] for name in names],
                    "standard deviation": [row.get(f"{name}/sd") for name in names],
                    "± (90 % interval)": [row.get(f"{name}/ci") for name in names],
                }
            ),
            hide_index=True,
            width="stretch",
        )
    _notes(reading, trial)


def _learning(reading: Reading, trial: int) -> None:
    st.subheader("Learning curves")
    spec = reading.results.spec
    mine = reading.results.reports([trial])
    known = [name for name in metric_columns(mine) if mine[name].notna().any()]
    usual = [name for name in trade_off_metrics(spec) if name in known] or known[:1]
    names = choose_many("curves", "Metrics", known, usual, objective_label, most=6)
    if not names:
        st.info("Choose a metric.")
        return
    data = learning_data(mine, names)
    drawn = list(data["metric"].unique())
    charts = [learning_chart(data, spec, name) for name in drawn]
    columns = st.columns(2)
    for place, (name, chart) in enumerate(zip(drawn, charts, strict=True)):
        with columns[place % 2]:
            words = f"{objective_label(name)} of trial {trial} by steps, of each replicate, and their mean"
            st.altair_chart(chart, width="stretch", key=f"learning {name}", alt=words)
    download_chart(lambda: alt.concat(*charts, columns=2), data, f"{spec.name}-trial-{trial}-learning")


def _picture(reading: Reading, key: str, draw: Callable[[], Figure]) -> None:
    """Draw a picture of the report, or show why it cannot be drawn."""
    with st.spinner("Drawing; this takes some seconds the first time"):
        try:
            found = reading.once(key, draw)
        except (MissingDataError, UserError) as error:
            st.info(f"Not drawn: {plain(str(error))}.")
            return
    st.subheader(found.title)
    st.caption(found.caption)
    st.altair_chart(found.chart, width="content", key=key, alt=found.caption)
    download_chart(lambda: found.chart, found.data, f"{reading.results.spec.name}-{key.replace(' ', '-')}")


def _notes(reading: Reading, trial: int) -> None:
    st.subheader("Notes")
    for note in reading.marks.notes:
        if note.trial != trial:
            continue
        who = f"{plain(note.author)}, " if note.author else ""
        with st.container(border=True):
            st.markdown(paragraphs(note.text))
            st.caption(f"{who}{ago(note.time, datetime.now(UTC))}")
            if st.button("Remove", key=f"remove {note.name}") and _change(reading, reading.notes.remove, note):
                st.rerun()
    with st.form("note"):
        # The key changes with the number of notes, which empties the field after a note is saved.
        field = f"note {trial} {len(reading.marks.notes)}"
        text = st.text_area(
            "Note on this trial", max_chars=MAX_TEXT, help="Kept in the store and visible to all users.", key=field
        )
        author = st.text_input("Your name (optional)", max_chars=MAX_AUTHOR)
        is_asked = st.form_submit_button("Save note") and bool(text.strip())
    if is_asked and _change(reading, reading.notes.write, trial, text, author):
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
