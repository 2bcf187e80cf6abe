"""Page 'Stars and notes': what the readers of a study have marked and written."""

from datetime import UTC, datetime

import streamlit as st

from dashboard.address import type_text
from dashboard.links import link
from dashboard.notes import note_card
from dashboard.reading import Reading
from dashboard.tables import results_table
from study.analysis.trade_off import PROBABILITY


def page(reading: Reading) -> None:
    """Draw the trials with stars, and all notes, newest first."""
    results, marks = reading.results, reading.marks
    spec = results.spec
    if not marks.starred and not marks.notes:
        st.info("No trial has a star or a note yet. Both are given on the page of a trial.")
        link("trial", "Open a trial", spec.name)
        return
    st.subheader(f"Stars ({len(marks.starred)})", anchor=False)
    if marks.starred:
        table = results.results().merge(reading.front_probability, on="trial", how="left")
        rows = table[table["trial"].isin(marks.starred)]
        results_table(reading, rows, ["trial", "state", *spec.objectives, PROBABILITY, *spec.space], key="starred")
        with st.container(horizontal=True):
            for trial in rows["trial"]:
                link("trial", f"Trial {trial}", spec.name, trial=int(trial))
    st.subheader(f"Notes ({len(marks.notes)})", anchor=False)
    words = type_text("words", "Search in notes", placeholder="a word of the text or the author's name").casefold()
    now = datetime.now(UTC)
    for note in reversed(marks.notes):
        if words in f"{note.text} {note.author}".casefold():
            with st.container(border=True):
                link("trial", f"Trial {note.trial}", spec.name, trial=note.trial)
                note_card(reading, note, now)
