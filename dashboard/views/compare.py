"""Page 'Compare': two to six trials side by side, with their configurations, metrics and sounds."""

from collections.abc import Sequence
from itertools import product

import altair as alt
import pandas as pd
import streamlit as st
from altair.typing import ChartType

from dashboard.address import TRIALS, choose, choose_many
from dashboard.charts import download_chart, show_grid
from dashboard.reading import Reading
from study.analysis import metric_columns
from study.analysis.aggregation import mean_and_spread
from study.charts.style import error_bars, metric_lines, parameter_label
from study.charts.trade_off import trade_off_metrics
from study.formatting import cell_text, objective_label
from study.report.figures import ReportContext
from study.spec import Spec

_MAX_TRIALS, _MAX_METRICS = 6, 14


def page(reading: Reading) -> None:
    """Draw selectors of trials and a seed, and the configurations, metrics and sounds of the chosen trials."""
    results, spec = reading.results, reading.results.spec
    table = results.results().set_index("trial", drop=False)
    states, default = table["state"].to_dict(), reading.front["trial"].tolist()[:2]
    options = table["trial"].tolist()
    trials = choose_many(TRIALS, "Trials", options, default, lambda trial: f"{trial} · {states[trial]}", _MAX_TRIALS)
    if len(trials) < 2:
        st.info("Choose at least two trials to compare.")
        return
    rows = table.loc[trials]
    st.subheader("What differs")
    names = [name for name in spec.space if f"config/{name}" in rows]  # parameters of some trial
    different = [name for name in names if rows[f"config/{name}"].nunique(dropna=False) > 1]
    labels = {f"config/{name}": parameter_label(name) for name in different}
    configurations = rows[list(labels)].rename(columns=labels).T.rename_axis("parameter")
    configurations.columns = [f"trial {trial}" for trial in trials]
    st.dataframe(configurations.map(cell_text), width="stretch")
    if len(different) < len(names):
        st.caption(f"Equal in all: {', '.join(parameter_label(name) for name in names if name not in different)}.")
    _metrics(reading, rows)
    st.subheader("Sounds")
    seed = choose("seed", "Seed of the replicate", list(spec.seeds), spec.first_seed, is_segmented=True)
    from dashboard.listening import side_by_side  # imports torch, which takes seconds

    side_by_side(reading, trials, seed)


def _metrics(reading: Reading, rows: pd.DataFrame) -> None:
    spec = reading.results.spec
    st.subheader("Metrics")
    options = [name for name in metric_columns(rows) if rows[name].notna().any()]
    axes = [name for name in trade_off_metrics(spec) if name in options]
    default = [*axes, *_readings(options, reading.results.metadata.factors)][:_MAX_METRICS]
    names = choose_many("metrics", "Metrics", options, default, objective_label)
    if not names:
        return
    st.caption(f"Each point is a mean over replicates; {ReportContext(reading.results).error_bars}.")
    columns = {"trial": rows["trial"].astype(str)}
    tables = [pd.DataFrame(columns | {"metric": name} | mean_and_spread(rows, name)) for name in names]
    data = pd.concat(tables).dropna(subset=["mean"])
    panels = {name: _panel(data[data["metric"] == name], spec, name, columns["trial"].tolist()) for name in names}
    heights = {name: panel.properties(height=26 * len(rows) + 70) for name, panel in panels.items()}
    show_grid(heights, 2, "compared", [f"{objective_label(name)} of each trial, with error bars" for name in names])
    saved = [panel.properties(width=300, height=26 * len(rows)) for panel in panels.values()]
    download_chart(lambda: alt.concat(*saved, columns=2), data, f"{spec.name}-compared")


def _readings(options: list[str], factors: Sequence[str]) -> list[str]:
    """Return what the strong and the lightweight reader find in each subspace, factor by factor."""
    names = product(factors, ("private", "shared"), ("information", "probe"))
    return [name for name in (f"{group}/{factor}/{part}" for factor, part, group in names) if name in options]


def _panel(data: pd.DataFrame, spec: Spec, metric: str, trials: list[str]) -> ChartType:
    base = alt.Chart(data).encode(
        x=alt.X("mean:Q", title=metric_lines(spec, metric)[0], scale=alt.Scale(zero=False)),
        y=alt.Y("trial:N", title="trial", sort=trials),
        color=alt.Color("trial:N", scale=alt.Scale(scheme="tableau10"), legend=None),
    )
    tooltip = ["trial", alt.Tooltip("mean:Q", format=".4g")]
    points = base.mark_point(filled=True, size=70, opacity=1).encode(tooltip=tooltip)
    return alt.layer(error_bars(base, "x"), points)
