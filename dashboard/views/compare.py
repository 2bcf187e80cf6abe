"""Page 'Compare': two to six trials side by side, with their configurations, metrics, learning curves and sounds."""

from collections.abc import Sequence
from functools import partial
from itertools import product

import altair as alt
import pandas as pd
import streamlit as st
from altair.typing import ChartType

from dashboard.address import TRIALS, choose, choose_many, spread
from dashboard.charts import download_chart, draw, show_grid
from dashboard.links import link_button
from dashboard.reading import Reading
from study.analysis import metric_columns
from study.analysis.trade_off import trade_off_metrics
from study.charts.comparison import comparison_chart, comparison_data
from study.charts.style import parameter_label, spread_text
from study.charts.trial import curves_chart
from study.formatting import cell_text, objective_label

_MAX_TRIALS, _MAX_METRICS = 6, 14
_MODES = ("Listen", "Blind test")


def page(reading: Reading) -> None:
    """Draw selectors of trials and a seed, and what the chosen trials are, reach and sound like."""
    results, spec = reading.results, reading.results.spec
    table = results.results().set_index("trial", drop=False)
    trials = _choose_trials(reading, table)
    if len(trials) < 2:
        st.info("The study has a single trial, so there is nothing to compare.")
        return
    rows = table.loc[trials]
    _configurations(reading, rows)
    _metrics(reading, rows)
    _curves(reading, trials)
    st.subheader("Sounds", anchor=False)
    left, right = st.columns(2)
    with left:
        mode = choose("mode", "Mode", _MODES, _MODES[0], is_segmented=True)
    with right:
        seed = choose("seed", "Seed of the replicate", list(spec.seeds), spec.first_seed, is_segmented=True)
    from dashboard.comparison import blind_test, side_by_side  # imports torch, which takes seconds

    (side_by_side if mode == _MODES[0] else blind_test)(reading, trials, seed)


def _choose_trials(reading: Reading, table: pd.DataFrame) -> list[int]:
    """Return the selected trials; fewer than two are filled up from the front."""
    states, options = table["state"].to_dict(), table["trial"].tolist()
    with st.container(horizontal=True, vertical_alignment="bottom"):
        trials = choose_many(TRIALS, "Trials", options, (), lambda trial: f"{trial} · {states[trial]}", _MAX_TRIALS)
        link_button("leakage", "Leakage", reading.results.spec.name, trials)
        link_button("export", "Export", reading.results.spec.name, trials)
    if len(trials) < 2:
        others = [trial for trial in dict.fromkeys([*reading.front["trial"], *options]) if trial not in trials]
        trials += others[: 2 - len(trials)]
        st.caption(f"Fewer than two trials are selected, so these are compared: {', '.join(map(str, trials))}.")
    return trials


def _configurations(reading: Reading, rows: pd.DataFrame) -> None:
    st.subheader("What differs", anchor=False)
    spec = reading.results.spec
    names = [name for name in spec.space if f"config/{name}" in rows]  # parameters of some trial
    different = [name for name in names if rows[f"config/{name}"].nunique(dropna=False) > 1]
    labels = {f"config/{name}": parameter_label(name) for name in different}
    configurations = rows[list(labels)].rename(columns=labels).T.rename_axis("parameter")
    configurations.columns = [f"trial {trial}" for trial in rows["trial"]]
    st.dataframe(configurations.map(cell_text), width="stretch")
    if len(different) < len(names):
        st.caption(f"Equal in all: {', '.join(parameter_label(name) for name in names if name not in different)}.")


def _metrics(reading: Reading, rows: pd.DataFrame) -> None:
    spec = reading.results.spec
    st.subheader("Metrics", anchor=False)
    options = [name for name in metric_columns(rows) if rows[name].notna().any()]
    axes = [name for name in trade_off_metrics(spec) if name in options]
    default = [*axes, *_readings(options, reading.results.metadata.factors)][:_MAX_METRICS]
    with st.popover("Choose metrics"):
        names = choose_many("metrics", "Metrics", options, default, objective_label)
    if not names:
        return
    data = comparison_data(rows, reading.results.baselines(), names, spread())
    st.caption(
        f"Each point is the {spread_text(spec.replicates, spread())}. Information and accuracies have an axis from 0 "
        "to 1; information is 0 by chance."
    )
    panels = {name: partial(comparison_chart, data, spec, name) for name in names}
    show_grid(
        reading, panels, 2, "compared", [f"{objective_label(name)} of each trial, with error bars" for name in names]
    )

    def all_panels() -> ChartType:
        return alt.concat(*(create().properties(width=300) for create in panels.values()), columns=2)

    download_chart(all_panels, data, f"{spec.name}-compared")


def _curves(reading: Reading, trials: list[int]) -> None:
    spec, reports = reading.results.spec, reading.results.reports(trials)
    place = {trial: position for position, trial in enumerate(trials)}
    reports = reports.sort_values("trial", key=lambda column: column.map(place), kind="stable")
    metrics = [name for name in trade_off_metrics(spec) if name in reports and reports[name].notna().any()]
    if not metrics:
        return
    st.subheader("Learning curves", anchor=False)
    for column, metric in zip(st.columns(len(metrics)), metrics, strict=True):
        with column:
            label = f"{objective_label(metric)} of trials {', '.join(map(str, trials))} by steps, means over seeds"
            draw(reading, partial(curves_chart, reports, spec, metric), f"curves {metric}", label)


def _readings(options: list[str], factors: Sequence[str]) -> list[str]:
    """Return what the strong and the lightweight reader find in each subspace, factor by factor."""
    names = product(factors, ("private", "shared"), ("information", "probe"))
    return [name for name in (f"{group}/{factor}/{part}" for factor, part, group in names) if name in options]
