"""Page 'Studies': a card for each study of the store."""

from datetime import UTC, datetime

import streamlit as st

from dashboard.address import link
from dashboard.moments import ago, local_time
from dashboard.reading import Reading, Shelf
from dashboard.text import plain
from study.errors import UserError
from study.formatting import format_duration, format_number, objective_label

__all__ = ["nothing_yet", "page", "state_line"]

_COLOURS = {"running": "blue", "complete": "green", "interrupted": "orange"}
_CARDS_IN_A_ROW = 2
_REFRESH_S = 10.0


def page(store: Shelf, names: list[str]) -> None:
    """Draw the page."""
    st.title("Studies")
    if not names:
        nothing_yet(store)
        return

    @st.fragment(run_every=_REFRESH_S)
    def cards() -> None:
        columns = st.columns(_CARDS_IN_A_ROW)
        for place, name in enumerate(store.studies()):  # includes studies created since the page was opened
            with columns[place % _CARDS_IN_A_ROW].container(border=True):
                _card(store, name)

    cards()


def nothing_yet(store: Shelf) -> None:
    """Explain how to start a study if the store is empty."""
    st.info(f"No studies in {plain(store.objects.uri)} yet. Start one with `marl-study run studies/quickstart.yaml`.")


def state_line(reading: Reading, is_timed: bool = True) -> None:
    """Show the state of a study in one line, when it was read, and whether the store is reachable."""
    status = reading.status
    trials = ", ".join(f"{count:,} {state}" for state, count in status["trials"].items() if count) or "no trial yet"
    words = f":{_COLOURS[status['state']]}-badge[{status['state']}] {trials}, of {status['target']:,}"
    left = time_left(reading)
    if left is not None:
        words += f" · about {format_duration(left)} left"
    if is_timed:
        words += f" · read {local_time(reading.at, st.context.timezone)}"
    st.markdown(words)
    if reading.trouble:
        st.warning(
            f"The store cannot be read: {plain(reading.trouble)}. This page shows the state of "
            f"{ago(reading.at, datetime.now(UTC))} and keeps trying."
        )
    if status["state"] == "interrupted":
        st.caption("Resume it with:")
        st.code(status["resume"], language=None)


def time_left(reading: Reading) -> float | None:
    """Estimate the seconds until all trials are finished, from the average duration in this run."""
    status, results = reading.status, reading.results
    if status["state"] != "running":
        return None
    last = max(results.runs)
    trials = results.trials()
    is_over = trials["state"].isin(["complete", "pruned", "failed"])
    of_this_run = int((trials[is_over]["run"] == last).sum()) if status["over"] else 0
    started = datetime.fromisoformat(str(results.runs[last]["started"]))
    if not of_this_run:
        return None
    missing = max(0, int(status["target"]) - int(status["over"]))
    return (datetime.now(UTC) - started).total_seconds() / of_this_run * missing


def _card(store: Shelf, name: str) -> None:
    try:
        reading = store.latest(name)
    except UserError as error:
        st.subheader(plain(name))
        st.error(plain(str(error)))
        return
    results, status = reading.results, reading.status
    st.subheader(plain(name))
    state_line(reading, is_timed=False)
    st.progress(min(1.0, status["over"] / max(1, status["target"])))
    front = reading.once("front", results.front)
    best, volume = st.columns([3, 2])
    with best:
        for objective, mode in results.spec.objectives.items():
            if len(front):
                value = front[objective].min() if mode == "min" else front[objective].max()
                st.metric(f"best {plain(objective_label(objective))}", format_number(float(value)))
        st.caption(f"{len(front)} trial{'s' * (len(front) != 1)} on the front" if len(front) else "no front yet")
    with volume:
        grown = reading.once("progress", results.progress)
        known = grown["hypervolume"].dropna()
        if len(known):
            st.metric("hypervolume", format_number(float(known.iloc[-1])), chart_data=known.tolist()[-200:])
    reports = reading.once("steps", results.steps)
    if len(reports):
        st.caption(f"last report {local_time(reports['time'].max(), st.context.timezone)}")
    link("trade-off", "Open", name)
