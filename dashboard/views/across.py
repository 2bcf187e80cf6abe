"""Page 'Compare studies': fronts and hypervolumes of several studies, and what differs in their specs."""

from functools import partial
from typing import Any

import pandas as pd
import streamlit as st

from dashboard import address
from dashboard.charts import show_chart
from dashboard.reading import Reading, StoreReader
from dashboard.text import plain
from study.analysis.trade_off import default_axes, trade_off_data
from study.charts.across import fronts_chart
from study.charts.hypervolume import hypervolume_chart
from study.errors import UserError
from study.formatting import cell_text, objective_label

_MAX_STUDIES = 6


def page(store: StoreReader, names: list[str]) -> None:
    """Draw a selector of studies, their fronts, their hypervolumes, and differences of their specs."""
    chosen = address.choose_many("studies", "Studies", names, names[:2], limit=_MAX_STUDIES)
    readings: dict[str, Reading] = {}
    for name in chosen:
        try:
            readings[name] = store.latest(name)
        except UserError as error:
            st.warning(plain(f"{name}: {error}"))
    if len(readings) < 2:
        st.info("Choose at least two studies.")
        return
    first, *_ = readings.values()
    objectives = dict(first.results.spec.objectives)
    others = {name for name, reading in readings.items() if dict(reading.results.spec.objectives) != objectives}
    if others:
        listed = " and ".join(objective_label(name) for name in objectives)
        st.info(plain(f"{', '.join(sorted(others))}: other objectives than {listed}, so only the specs are compared."))
    comparable = {name: reading for name, reading in readings.items() if name not in others}
    if len(comparable) > 1:
        _fronts(comparable)
        _growth(comparable)
    _differences(readings)


def _fronts(readings: dict[str, Reading]) -> None:
    first, *_ = readings.values()
    axes = default_axes(first.results.spec)
    data = {name: trade_off_data(reading.results, axes, spread=address.spread()) for name, reading in readings.items()}
    if all(table["final"].sum() == 0 for table in data.values()):
        st.info("No trial of these studies is complete yet.")
        return
    counts = ", ".join(f"{name} {int(table['front'].sum())}" for name, table in data.items())
    table = pd.concat([rows.assign(study=name) for name, rows in data.items()])
    bars = "90 % intervals" if address.spread() == "ci" else "standard deviations"
    show_chart(
        None,
        partial(fronts_chart, data, axes, first.results.spec),
        "fronts",
        f"Fronts of {len(data)} studies; trials on them: {counts}",
        table,
        "fronts",
        f"Large points are on the front of their study, with {bars} over seeds; small ones are its other trials. "
        "Studies are comparable if they have the same data and the same metrics; the table below shows what differs.",
    )


def _growth(readings: dict[str, Reading]) -> None:
    """Draw hypervolumes with one reference point: the worst untrained network in each objective."""
    known = []
    for reading in readings.values():
        costs = reading.results.reference()
        if costs is not None:
            known.append(pd.Series(costs, index=list(reading.results.spec.objectives)))
    if not known:
        return
    reference = pd.DataFrame(known).max()
    tables = []
    for name, reading in readings.items():
        # Studies may have their objectives in different orders.
        growth = reading.results.progress(reference[list(reading.results.spec.objectives)].to_numpy())
        tables.append(growth.dropna(subset=["hypervolume"]).assign(study=name))
    growth = pd.concat(tables, ignore_index=True)
    if growth.empty:
        return
    st.subheader("Hypervolume of the front", anchor=False)
    show_chart(
        None,
        partial(hypervolume_chart, growth),
        "growth",
        f"Hypervolume of {len(tables)} studies against trained steps",
        growth,
        "hypervolumes",
        "All volumes have the same reference point: in each objective, the worst untrained network of these studies.",
    )


def _differences(readings: dict[str, Reading]) -> None:
    st.subheader("What differs in their specs", anchor=False)
    columns = {name: _flat(reading.results.spec.model_dump(mode="json")) for name, reading in readings.items()}
    table = pd.DataFrame(columns).map(cell_text)
    different = table[table.nunique(axis=1) > 1].drop(index="name", errors="ignore")
    if different.empty:
        st.caption("The specs differ in their names only.")
        return
    st.dataframe(different.rename_axis("field"), width="stretch")


def _flat(content: Any, path: str = "") -> dict[str, object]:
    """Return the leaves of nested sections by their paths."""
    if not isinstance(content, dict) or not content:
        return {path: content}
    leaves: dict[str, object] = {}
    for name, value in content.items():
        leaves |= _flat(value, f"{path}.{name}" if path else name)
    return leaves
