"""Page 'Log and failures': failed trials with their errors, and the log of all runs."""

import pandas as pd
import streamlit as st

from dashboard.address import choose, type_text
from dashboard.links import link_button
from dashboard.reading import Reading
from dashboard.tables import results_table
from study.formatting import printable

_MAX_LINES, _MAX_ERRORS = 5000, 20
_ALL_RUNS = "all"


def page(reading: Reading) -> None:
    """Draw the failed trials, grouped by error, and the log with a filter."""
    _failures(reading)
    _log(reading)


def _failures(reading: Reading) -> None:
    results = reading.results
    table = results.results()
    failed = table[table["state"] == "failed"]
    restarts = results.trial_events()
    starts = restarts[restarts["state"] == "running"]["trial"].value_counts() if len(restarts) else pd.Series(dtype=int)
    st.subheader(f"Failed trials ({len(failed)})", anchor=False)
    if failed.empty:
        repeated = int((starts > 1).sum())
        st.caption("No trial has failed." + (f" {repeated} were started more than once." if repeated else ""))
        return
    errors = failed["error"].fillna("unknown")
    counts = errors.value_counts()
    if len(counts) > _MAX_ERRORS:
        st.caption(f"The {_MAX_ERRORS} most frequent of {len(counts)} errors are shown.")
    for number, error in enumerate(counts.index[:_MAX_ERRORS]):
        rows = failed[errors == error]
        with st.container(border=True):
            trials = ", ".join(map(str, rows["trial"].head(20))) + (" …" if len(rows) > 20 else "")
            st.markdown(f"**{len(rows)} trial{'s' * (len(rows) != 1)}**: {trials}")
            st.code(str(error), language=None, wrap_lines=True)
            shown = rows.assign(starts=rows["trial"].map(starts))
            results_table(reading, shown, ["trial", "starts", "step", *results.spec.space], key=f"failure {number}")
            link_button("trial", f"Open trial {rows['trial'].iloc[0]}", results.spec.name, trial=rows["trial"].iloc[0])


def _log(reading: Reading) -> None:
    st.subheader("Log", anchor=False)
    lines = reading.once("log", reading.results.log)
    if lines.empty:
        st.info("The study has no log.")
        return
    left, right = st.columns([3, 1], vertical_alignment="bottom")
    with left:
        words = type_text("words", "Filter", placeholder="words that a line must have, such as: trial 7").casefold()
    with right:
        runs = [_ALL_RUNS, *map(str, sorted(lines["run"].dropna().astype(int).unique()))]
        run = choose("run", "Run", runs, _ALL_RUNS)
    if run != _ALL_RUNS:
        lines = lines[lines["run"] == int(run)]
    if words:
        lines = lines[lines["line"].str.casefold().str.contains(words, regex=False)]
    last = lines.tail(_MAX_LINES)
    omitted = len(lines) - len(last)
    if last.empty:
        st.info("No line of the log matches.")
        return
    st.caption(
        f"{len(lines):,} line{'s' * (len(lines) != 1)}"
        + (f"; the first {omitted:,} are left out here" if omitted else "")
        + "."
    )
    zone = st.context.timezone or "UTC"
    times = pd.to_datetime(last["time"], utc=True).dt.tz_convert(zone).dt.strftime("%Y-%m-%d %H:%M:%S")
    text = "\n".join(f"{time}  {printable(line)}" for time, line in zip(times, last["line"], strict=True))
    st.code(text, language=None, wrap_lines=True, height=520)
    st.download_button("Save these lines", text, f"{reading.results.spec.name}.log", on_click="ignore")
