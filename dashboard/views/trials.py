"""Page 'All trials': a table of every trial to sort, to filter and to select from."""

from functools import partial
from typing import Any

import pandas as pd
import streamlit as st

from dashboard import address
from dashboard.links import link_button
from dashboard.reading import Reading
from dashboard.tables import column_label, results_table
from dashboard.text import plain
from study.analysis import metric_columns
from study.analysis.tables import filter_rows
from study.analysis.trade_off import PROBABILITY
from study.errors import UserError

_TABLE = "all trials"
_DRAWN = "selection of all trials"
_HEIGHT = 560
_PROPERTIES = ("trial", "starred", "state", PROBABILITY, "replicates", "step", "duration", "error")
_PROBABILITY_NAME = "probability of the front"
_EXAMPLE = "state = complete, separation > 0.3"


def page(reading: Reading) -> None:
    """Draw the filter, the choice of columns, the table, and what can be done with the selected trials."""
    spec = reading.results.spec
    requested = f"{st.query_params.get('columns', '')} {st.query_params.get('filter', '')}".casefold()
    is_probable = not reading.is_large or PROBABILITY in requested or _PROBABILITY_NAME in requested
    content = ("all trials", is_probable, tuple(sorted(reading.marks.starred)))
    table = reading.once(content, partial(_table, reading, is_probable))
    left, right = st.columns([4, 1], vertical_alignment="bottom")
    options = [*_PROPERTIES, *spec.space, *metric_columns(table)]
    shown = [name for name in _default_columns(reading, table) if name in options]
    with right, st.popover("Columns", width="stretch"):
        columns = address.choose_many("columns", "Columns", options, shown, partial(column_label, reading))
    names = _names(reading, table)
    with left:
        text = address.type_text(
            "filter",
            "Filter",
            placeholder=_EXAMPLE,
            help_text="Conditions separated by commas. A name is a heading of the table, or a metric or a parameter as "
            "in the spec; then one of <, <=, >, >=, = and !=, and a value.",
        )
    try:
        rows = filter_rows(table, text, names).reset_index(drop=True)
    except UserError as error:
        st.warning(
            f"The filter is not applied: {plain(str(error).rstrip('?'))}" + ("?" if str(error).endswith("?") else ".")
        )
        rows = table
    selected = address.selected_trials(table["trial"])
    _actions(reading, rows, selected, len(table))
    positions = rows.index[rows["trial"].isin(selected)].tolist()
    # A table keeps its own selection, so its key changes with selections that were made elsewhere.
    before, changes = st.session_state.get(_DRAWN, (selected, 0))
    changes += before != selected
    st.session_state[_DRAWN] = (selected, changes)
    key = f"{_TABLE} {hash((tuple(rows['trial']), address.spread(), changes))}"
    results_table(
        reading,
        rows,
        ["trial", *(name for name in columns if name != "trial")],
        key,
        height=_HEIGHT,
        on_select=partial(_take_selection, key, rows["trial"].tolist()),
        selected=positions,
    )
    st.caption(
        "Click a heading to sort, and the box at the left of a row to select its trial. "
        "Means are over seeds at the last budget that all seeds have reached."
    )


def _default_columns(reading: Reading, table: pd.DataFrame) -> list[str]:
    spec = reading.results.spec
    optional = {"error": table["error"].notna().any(), PROBABILITY: spec.replicates > 1 and not reading.is_large}
    properties = [name for name in _PROPERTIES if optional.get(name, True)]
    return [*properties[:3], *spec.objectives, *properties[3:-1], *spec.space, *properties[-1:]]


def _table(reading: Reading, is_probable: bool) -> pd.DataFrame:
    """Return the results of all trials with star, duration in minutes and, if asked for, probability of the front."""
    results = reading.results
    table = results.results()
    if is_probable:
        table = table.merge(reading.front_probability, on="trial", how="left")
    table["starred"] = table["trial"].isin(reading.marks.starred).map({True: "★", False: ""})
    times = results.steps().groupby("trial")["time"].agg(["min", "max"])
    events = results.trial_events()
    if len(events):
        started = events[events["state"] == "running"].groupby("trial")["time"].min()
        times["min"] = started.reindex(times.index).combine_first(times["min"])
    table["duration"] = table["trial"].map((times["max"] - times["min"]).dt.total_seconds() / 60)
    return table.sort_values("trial", ignore_index=True)


def _names(reading: Reading, table: pd.DataFrame) -> dict[str, str]:
    """Return the columns that a filter can use, by each of their names."""
    space = reading.results.spec.space
    names: dict[str, str] = {}
    for name in [*_PROPERTIES, *space, *metric_columns(table)]:
        column = f"config/{name}" if name in space else name
        if column in table:
            short = name.rpartition("/")[2] if name in reading.results.spec.objectives else name
            names |= {short: column, name: column, column_label(reading, name): column}
    return names


def _actions(reading: Reading, rows: pd.DataFrame, selected: list[int], total: int) -> None:
    spec = reading.results.spec
    with st.container(horizontal=True, vertical_alignment="center"):
        count = f"{len(rows):,} of {total:,} trials" if len(rows) < total else f"{total:,} trials"
        st.markdown(f"**{count}**" + (f", {len(selected)} selected" if selected else ""), width="content")
        if selected:
            link_button("trial", f"Open trial {selected[0]}", spec.name, selected, selected[0])
        link_button("compare", "Compare", spec.name, selected)
        link_button("export", "Export", spec.name, selected)
        if selected:
            st.button("Clear the selection", on_click=address.select_trials, args=[()])
        csv = partial(rows.to_csv, index=False)
        st.download_button("CSV", csv, f"{spec.name}-trials.csv", mime="text/csv", on_click="ignore")
    if len(selected) >= address.MAX_SELECTED:
        st.caption(f"A link holds at most {address.MAX_SELECTED} trials; the others were left out.")


def _take_selection(key: str, trials: list[int]) -> None:
    """Copy the selected rows into the address; selected trials that the filter hides stay selected."""
    state: Any = st.session_state[key]
    hidden = [trial for trial in address.selected_trials() if trial not in set(trials)]
    address.select_trials([*hidden, *(trials[row] for row in state["selection"]["rows"])])
    st.session_state[_DRAWN] = (address.selected_trials(), st.session_state[_DRAWN][1])
