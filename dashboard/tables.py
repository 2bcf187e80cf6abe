"""Tables of trials on a page: labels as in charts, numbers that sort, and error bars beside their means."""

from collections.abc import Callable, Sequence
from typing import Any, Literal

import pandas as pd
import streamlit as st

from dashboard.address import spread
from dashboard.reading import Reading
from study.analysis.trade_off import PROBABILITY
from study.charts.style import parameter_label
from study.formatting import objective_label

_NUMBER = "%.3g"
_NAMES = {
    "trial": "Trial",
    "starred": "★",
    "state": "State",
    "replicates": "Seeds",
    "step": "Steps",
    "duration": "Duration (min)",
    "error": "Error",
    "starts": "Starts",
}


def column_label(reading: Reading, name: str) -> str:
    """Return the heading of a column: of a parameter, a metric, or a property of the trial."""
    if name == PROBABILITY:
        return "Probability of the front"
    if name in _NAMES:
        return _NAMES[name]
    return parameter_label(name) if name in reading.results.spec.space else objective_label(name)


def results_table(
    reading: Reading,
    rows: pd.DataFrame,
    columns: Sequence[str],
    key: str,
    height: int | Literal["auto"] = "auto",
    on_select: Callable[[], None] | Literal["ignore"] = "ignore",
    selected: Sequence[int] = (),
) -> Any:
    """Draw columns of trials: parameters, metrics with their error bars, and properties in `rows`.

    `selected` are positions of rows that are selected at first; `on_select` is called when the user changes them.
    """
    space, bars = reading.results.spec.space, spread()
    data: dict[str, pd.Series] = {}
    config: dict[str, Any] = {}
    for name in columns:
        column = f"config/{name}" if name in space else name
        if column not in rows:
            continue
        label = column_label(reading, name)
        data[name] = rows[column]
        is_number = pd.api.types.is_float_dtype(rows[column])
        if name == PROBABILITY:
            config[name] = st.column_config.ProgressColumn(label, min_value=0, max_value=1, format="%.2f")
        elif is_number and not (rows[column].dropna() % 1 == 0).all():
            config[name] = st.column_config.NumberColumn(label, format=_NUMBER)
        elif is_number:
            data[name] = rows[column].astype("Int64")
            config[name] = st.column_config.NumberColumn(label, format="localized" if name == "step" else None)
        else:
            config[name] = st.column_config.Column(label)
        if f"{name}/{bars}" in rows:
            data[f"{name}/{bars}"] = rows[f"{name}/{bars}"]
            note = "Half of the 90 % interval over seeds" if bars == "ci" else "Standard deviation over seeds"
            config[f"{name}/{bars}"] = st.column_config.NumberColumn("±", format=_NUMBER, width=70, help=note)
    options: dict[str, Any] = {}
    if on_select != "ignore":
        options = {"on_select": on_select, "selection_mode": "multi-row"}
        if selected:
            options["selection_default"] = {"selection": {"rows": list(selected)}}
    return st.dataframe(
        pd.DataFrame(data), hide_index=True, width="stretch", height=height, column_config=config, key=key, **options
    )
