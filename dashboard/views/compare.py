"""Page 'Compare': two to six trials side by side, with their configurations, metrics and sounds."""

import altair as alt
import pandas as pd
import streamlit as st

from dashboard.address import CHOSEN, choose_many, choose_part
from dashboard.downloads import download_chart
from dashboard.reading import Reading
from dashboard.views.state import needs_a_trial
from study.analysis import metric_columns
from study.analysis.aggregation import mean_and_spread
from study.charts.style import metric_lines, parameter_label
from study.charts.trade_off import trade_off_metrics
from study.formatting import cell_text, objective_label
from study.report.figures import ReportContext

__all__ = ["page"]

_MAX_TRIALS = 6


def page(reading: Reading) -> None:
    """Draw the page."""
    results, spec = reading.results, reading.results.spec
    if not needs_a_trial(reading):
        return
    table = results.results()
    trials = _which(reading, table)
    if len(trials) < 2:
        st.info("Choose at least two trials to compare.")
        return
    rows = table.set_index("trial", drop=False).loc[trials]
    st.subheader("What differs")
    known = [name for name in spec.space if f"config/{name}" in rows]  # parameters of some trial
    different = [name for name in known if rows[f"config/{name}"].nunique(dropna=False) > 1]
    st.dataframe(_side_by_side(rows, {f"config/{name}": parameter_label(name) for name in different}), width="stretch")
    same = [name for name in known if name not in different]
    if same:
        st.caption(f"Equal in all: {', '.join(parameter_label(name) for name in same)}.")
    _metrics(reading, table, rows)
    st.subheader("Sounds")
    seed = choose_part("seed", "Seed of the replicate", list(spec.seeds), spec.first_seed)
    from dashboard.listening import side_by_side  # imports torch, which takes seconds

    side_by_side(reading, trials, seed)


def _which(reading: Reading, table: pd.DataFrame) -> list[int]:
    """Return the trials in the address, by default the first two of the front."""
    known = table["trial"].tolist()
    usual = reading.once("front", reading.results.front)["trial"].tolist()[:2]
    states = dict(zip(known, table["state"], strict=True))
    return choose_many(CHOSEN, "Trials", known, usual, lambda trial: f"{trial} · {states[trial]}", _MAX_TRIALS)


def _metrics(reading: Reading, table: pd.DataFrame, rows: pd.DataFrame) -> None:
    spec = reading.results.spec
    st.subheader("Metrics")
    known = [name for name in metric_columns(table) if rows[name].notna().any()]
    probes = [name for name in known if name.startswith("probe/")]
    usual = [*(name for name in trade_off_metrics(spec) if name in known), *probes][:8]
    names = choose_many("metrics", "Metrics", known, usual, objective_label)
    if not names:
        return
    st.caption(f"Each point is a mean over replicates; {ReportContext(reading.results).error_bars}.")
    data = pd.concat(
        [
            pd.DataFrame({"trial": rows["trial"].astype(str), "metric": name, **mean_and_spread(rows, name)})
            for name in names
        ]
    ).dropna(subset=["mean"])
    panels = []
    for name in names:
        base = alt.Chart(data[data["metric"] == name]).encode(
            x=alt.X("mean:Q", title=metric_lines(spec, name)[0], scale=alt.Scale(zero=False)),
            y=alt.Y("trial:N", title="trial", sort=rows["trial"].astype(str).tolist()),
            color=alt.Color("trial:N", scale=alt.Scale(scheme="tableau10"), legend=None),
        )
        bars = base.transform_filter("isValid(datum.low)").mark_rule().encode(x=alt.X("low:Q"), x2="high:Q")
        points = base.mark_point(filled=True, size=70, opacity=1).encode(
            tooltip=["trial", alt.Tooltip("mean:Q", format=".4g")]
        )
        panels.append(alt.layer(bars, points).properties(height=26 * len(rows) + 70))
    columns = st.columns(2)
    for place, (name, panel) in enumerate(zip(names, panels, strict=True)):
        with columns[place % 2]:
            st.altair_chart(
                panel,
                width="stretch",
                key=f"compared {name}",
                alt=f"{objective_label(name)} of each trial, with error bars",
            )
    whole = alt.concat(*(panel.properties(width=300, height=26 * len(rows)) for panel in panels), columns=2)
    download_chart(lambda: whole, data, f"{spec.name}-compared")


def _side_by_side(rows: pd.DataFrame, columns: dict[str, str]) -> pd.DataFrame:
    """Return a table of text with a row for each column of the results and a column for each trial."""
    shown = rows[list(columns)].rename(columns=columns).T.rename_axis("parameter")
    shown.columns = [f"trial {trial}" for trial in rows["trial"]]
    return shown.map(cell_text)
