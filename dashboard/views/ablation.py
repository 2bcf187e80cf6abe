"""Page 'Ablation': the effect of each loss weight on each metric, as in the figures of the papers."""

import altair as alt
import streamlit as st

from dashboard.address import choose, choose_many
from dashboard.downloads import download_chart
from dashboard.reading import Reading
from dashboard.text import plain
from dashboard.views.state import needs_a_trial
from study.analysis import metric_columns
from study.analysis.parameter_effects import find_sweep, is_numeric
from study.charts.parameter_panels import default_parameters, small_multiple_chart, small_multiples_data
from study.charts.style import MissingDataError, downsample_note, parameter_description, parameter_label
from study.charts.trade_off import trade_off_metrics
from study.formatting import objective_label
from study.report.figures import ReportContext

__all__ = ["page"]

_IN_A_ROW = 3
_NOTHING = "nothing"


def page(reading: Reading) -> None:
    """Draw the page."""
    results, spec = reading.results, reading.results.spec
    if not needs_a_trial(reading):
        return
    table = results.results()
    numbers = [name for name, parameter in spec.space.items() if is_numeric(parameter)]
    choices = [name for name in spec.space if name not in numbers]
    if not numbers:
        st.info("This study has no numeric parameter. On the trade-off page, trials can be coloured by its choices.")
        return
    left, middle, right = st.columns([3, 3, 2])
    with left:
        parameters = choose_many("parameters", "Parameters", numbers, default_parameters(spec), parameter_label)
    with middle:
        known = list(dict.fromkeys([*trade_off_metrics(spec), *metric_columns(table)]))
        metrics = choose_many("metrics", "Metrics", known, trade_off_metrics(spec), objective_label)
    with right:
        usual = "contrast.strategy" if "contrast.strategy" in choices else _NOTHING
        series = choose("series", "Series", [_NOTHING, *choices], usual, parameter_label)
    if not parameters or not metrics:
        st.info("Choose at least one parameter and one metric.")
        return
    try:
        data = small_multiples_data(table, spec, parameters, metrics, None if series == _NOTHING else series)
    except MissingDataError as error:
        st.info(f"{str(error).capitalize()}.")
        return
    alone = find_sweep(table, spec).reference is not None
    st.caption(
        ("Each panel shows the complete trials that differ only in its parameter. " if alone else "")
        + f"Each point is the mean of a complete trial over its replicates; {ReportContext(results).error_bars}."
        + ("" if alone else " The other parameters differ between the trials as well.")
        + downsample_note(int((table["state"] == "complete").sum()))
    )
    meanings = {parameter_label(name): parameter_description(name).strip() for name in parameters}
    st.caption("; ".join(f"{label}: {meaning}" for label, meaning in meanings.items() if meaning))
    every = []
    for metric in metrics:
        st.subheader(plain(objective_label(metric)))
        panels = {name: chart for name in parameters if (chart := small_multiple_chart(data, spec, name, metric))}
        columns = st.columns(min(_IN_A_ROW, max(2, len(panels))))
        for place, (name, chart) in enumerate(panels.items()):
            with columns[place % len(columns)]:
                words = f"{objective_label(metric)} against {parameter_label(name)}, with error bars"
                st.altair_chart(chart, width="stretch", key=f"{metric} {name}", alt=words)
        every.append(alt.hconcat(*(chart.properties(width=240, height=180) for chart in panels.values())))
    download_chart(lambda: alt.vconcat(*every), data, f"{spec.name}-ablation")
