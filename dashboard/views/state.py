"""What pages say when there is nothing to show yet."""

import streamlit as st

from dashboard.reading import Reading

__all__ = ["needs_a_trial"]


def needs_a_trial(reading: Reading) -> bool:
    """Whether a trial of the study has reported; if not, say what is going on."""
    results = reading.results
    if len(reading.once("steps", results.steps)):
        return True
    trials = results.trials()
    failed = trials[trials["state"] == "failed"]
    if reading.is_live:
        st.info("The first reports are on their way: trials have begun to train. This page draws them by itself.")
    else:
        st.info("No trial has reported yet. Go on with the study:")
        st.code(reading.status["resume"], language=None)
    if len(failed):
        first = failed.iloc[0]
        st.error(f"{len(failed)} of {len(trials)} trials that began have failed; trial {first['trial']} because:")
        st.text(str(first["error"]))
    return False
