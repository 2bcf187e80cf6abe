"""What pages say when there is nothing to show yet."""

import streamlit as st

from dashboard.reading import Reading

__all__ = ["needs_a_trial"]


def needs_a_trial(reading: Reading) -> bool:
    """Whether the study has a report of a trial; if not, say what is going on."""
    if reading.results.size[1]:
        return True
    counts = reading.status["trials"]
    if counts["failed"]:
        first = reading.results.trials().query("state == 'failed'").iloc[0]
        st.error(
            f"All {counts['failed']} trials that began have failed; the first one, trial {first['trial']}, because:"
        )
        st.text(str(first["error"]))
    elif reading.status["state"] == "running":
        st.info("The first reports are on their way: trials have begun to train. This page draws them by itself.")
    else:
        st.info(f"No trial has reported yet. Go on with the study: `{reading.status['resume']}`")
    return False
