"""Page 'Ablation': the effect of each loss weight on each metric, as in the figures of the papers."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import altair as alt
import streamlit as st
from altair.typing import ChartType

from dashboard.address import choose, choose_many, spread
from dashboard.charts import download_chart, show_grid
from dashboard.reading import Reading
from dashboard.text import plain
from study.analysis import metric_columns
from study.analysis.parameter_effects import find_sweep, is_numeric
from study.analysis.trade_off import trade_off_metrics
from study.charts.parameter_panels import default_parameters, small_multiple_chart, small_multiples_data
from study.charts.style import MissingDataError, downsample_note, parameter_description, parameter_label, spread_text
from study.formatting import objective_label

_MAX_COLUMNS = 3
_NO_SERIES = "nothing"


def page(reading: Reading) -> None:
    """Draw selectors, and a chart of each chosen metric against each chosen parameter."""
    results, spec = reading.results, reading.results.spec
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
        options = list(dict.fromkeys([*trade_off_metrics(spec), *metric_columns(table)]))
        metrics = choose_many("metrics", "Metrics", options, trade_off_metrics(spec), objective_label)
    with right:
        default = "contrast.strategy" if "contrast.strategy" in choices else _NO_SERIES
        series = choose("series", "Series", [_NO_SERIES, *choices], default, parameter_label)
    if not parameters or not metrics:
        st.info("Choose at least one parameter and one metric.")
        return
    try:
        arguments = (parameters, metrics, None if series == _NO_SERIES else series, spread())
        compute = partial(small_multiples_data, table, spec, *arguments)
        data = reading.once(("ablation", str(arguments)), compute)
    except MissingDataError as error:
        st.info(f"{str(error).capitalize()}.")
        return
    is_sweep = reading.once("is sweep", lambda: find_sweep(table, spec).reference is not None)
    st.caption(
        ("Each panel shows the complete trials that differ only in its parameter. " if is_sweep else "")
        + f"Each point is a complete trial, the {spread_text(spec.replicates, spread())}."
        + ("" if is_sweep else " The other parameters differ between the trials as well.")
        + downsample_note(int((table["state"] == "complete").sum()))
    )
    meanings = {parameter_label(name): parameter_description(name).strip() for name in parameters}
    st.caption("; ".join(f"{label}: {meaning}" for label, meaning in meanings.items() if meaning))
    rows = []
    for metric in metrics:
        label = objective_label(metric)
        st.subheader(plain(label))
        drawn = set(data["parameter"][data["metric"] == metric])
        panels = {name: partial(small_multiple_chart, data, spec, name, metric) for name in parameters if name in drawn}
        descriptions = [f"{label} against {parameter_label(name)}, with error bars" for name in panels]
        show_grid(reading, panels, min(_MAX_COLUMNS, max(2, len(panels))), metric, descriptions)
        rows.append(panels)
    download_chart(partial(_all_panels, rows), data, f"{spec.name}-ablation")


def _all_panels(rows: Sequence[Mapping[str, Callable[[], ChartType]]]) -> ChartType:
    """Return one chart of all panels."""
    panels = ([create().properties(width=240, height=180) for create in row.values()] for row in rows)
    return alt.vconcat(*(alt.hconcat(*row) for row in panels if row))
