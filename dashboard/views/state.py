"""Message for studies without reports."""

import streamlit as st

from dashboard.reading import Reading

__all__ = ["needs_a_trial"]


def needs_a_trial(reading: Reading) -> bool:
    """Return whether a trial of the study has reported; if not, show the state of the study."""
    results = reading.results
    if len(reading.once("steps", results.steps)):
        return True
    trials = results.trials()
    failed = trials[trials["state"] == "failed"]
    if reading.is_live:
        st.info("Trials are training and have not reported yet. This page updates itself.")
    else:
        st.info("No trial has reported yet. Resume the study:")
        st.code(reading.status["resume"], language=None)
    if len(failed):
        first = failed.iloc[0]
        st.error(f"{len(failed)} of {len(trials)} trials have failed. Error of trial {first['trial']}:")
        st.text(str(first["error"]))
    return False
