"""Page 'Studies': a card for each study of the store. Other pages show the state of one study above their content."""

from datetime import UTC, datetime

import pandas as pd
import streamlit as st

from dashboard.address import spread
from dashboard.links import link
from dashboard.reading import Reading, StoreReader
from dashboard.text import ago, local_time, plain
from study.errors import UserError
from study.formatting import format_duration, format_number, objective_label

_COLOURS = {"running": "blue", "complete": "green", "interrupted": "orange"}
_COLUMNS = 2
_REFRESH_S = 10.0


def page(store: StoreReader, names: list[str]) -> None:
    """Draw a card for each study of the store."""
    st.title("Studies")
    if not names:
        show_first_command(store)
        return

    @st.fragment(run_every=_REFRESH_S)
    def cards() -> None:
        columns = st.columns(_COLUMNS)
        for position, name in enumerate(store.studies()):  # includes studies created since the page was opened
            with columns[position % _COLUMNS].container(border=True):
                _card(store, name)

    cards()


def show_first_command(store: StoreReader) -> None:
    """Explain how to start a study if the store is empty."""
    st.info(f"No studies in {plain(store.objects.uri)} yet. Start one with `marl-study run quickstart`.")


def has_reports(reading: Reading) -> bool:
    """Return whether a trial of the study has reported; if not, explain why not."""
    results = reading.results
    if len(reading.once("steps", results.steps)):
        return True
    if reading.is_live:
        st.info("Trials are training and have not reported yet. This page updates itself.")
    else:
        st.info("No trial has reported yet. Resume the study:")
        st.code(reading.status["resume"], language=None)
    trials = results.trials()
    failed = trials[trials["state"] == "failed"]
    if len(failed):
        first = failed.iloc[0]
        st.error(f"{len(failed)} of {len(trials)} trials have failed. Error of trial {first['trial']}:")
        st.text(str(first["error"]))
    return False


def state_line(reading: Reading, is_timed: bool = True) -> None:
    """Show the state of a study in one line, when it was read, and whether the store is reachable."""
    status = reading.status
    trials = ", ".join(f"{count:,} {state}" for state, count in status["trials"].items() if count) or "no trial yet"
    line = f":{_COLOURS[status['state']]}-badge[{status['state']}] {trials}, of {status['target']:,}"
    left_s = time_left_s(reading)
    if left_s is not None:
        line += f" · about {format_duration(left_s)} left"
    if is_timed:
        line += f" · read {local_time(reading.time, st.context.timezone)}"
    st.markdown(line)
    if reading.outage:
        st.warning(
            f"The store cannot be read: {plain(reading.outage)}. This page shows the state of "
            f"{ago(reading.time, datetime.now(UTC))} and keeps trying."
        )
    if status["state"] == "interrupted":
        st.caption("Resume it with:")
        st.code(status["resume"], language=None)


def time_left_s(reading: Reading) -> float | None:
    """Estimate the seconds until all trials are finished, at the rate of this run; None if unknown."""
    status, results = reading.status, reading.results
    if status["state"] != "running" or not status["finished"]:
        return None
    run = max(results.runs)
    trials = results.trials()
    is_finished = trials["state"].isin(["complete", "pruned", "failed"])
    finished = int((is_finished & (trials["run"] == run)).sum())
    elapsed = datetime.now(UTC) - datetime.fromisoformat(str(results.runs[run]["started"]))
    missing = max(0, int(status["target"]) - int(status["finished"]))
    return elapsed.total_seconds() / finished * missing if finished else None


def best_values(reading: Reading) -> None:
    """Draw the best value of each objective with its interval."""
    front = reading.front
    for objective, mode in reading.results.spec.objectives.items() if len(front) else ():
        best = front.loc[front[objective].idxmin() if mode == "min" else front[objective].idxmax()]
        half_width = best.get(f"{objective}/{spread()}")
        st.metric(
            f"{'lowest' if mode == 'min' else 'highest'} {plain(objective_label(objective))}",
            format_number(float(best[objective])),
            delta=None if pd.isna(half_width) else f"± {format_number(half_width)}",
            delta_color="off",
            delta_arrow="off",
            help=f"Trial {int(best['trial'])}: mean over seeds.",
        )


def _card(store: StoreReader, name: str) -> None:
    st.subheader(plain(name))
    try:
        reading = store.latest(name)
    except UserError as error:
        st.error(plain(str(error)))
        return
    results, status = reading.results, reading.status
    state_line(reading, is_timed=False)
    st.progress(min(1.0, status["finished"] / max(1, status["target"])))
    front = reading.front
    left, right = st.columns([3, 2])
    with left:
        best_values(reading)
        st.caption(f"{len(front)} trial{'s' * (len(front) != 1)} on the front" if len(front) else "no front yet")
    with right:
        volumes = reading.once("progress", results.progress)["hypervolume"].dropna()
        if len(volumes):
            st.metric("hypervolume", format_number(float(volumes.iloc[-1])), chart_data=volumes.tolist()[-200:])
    reports = reading.once("steps", results.steps)
    if len(reports):
        st.caption(f"last report {local_time(reports['time'].max(), st.context.timezone)}")
    link("trade-off", "Open", name)
