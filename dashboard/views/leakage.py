"""Page 'Leakage': what readers find of each factor in each subspace, of one trial and beside others."""

from collections.abc import Mapping
from functools import partial

import pandas as pd
import streamlit as st

from dashboard.address import TRIAL, choose, selected_trials, spread
from dashboard.charts import show_chart
from dashboard.links import link_button
from dashboard.reading import Reading
from study.charts.leakage import Reader, leakage_chart, leakage_data, leakage_table, readers_of
from study.charts.style import MissingDataError, spread_text
from study.report.figures import ReportContext, mutual_information_figure
from study.spec import Baseline

_MAX_TRIALS = 12
_ABOUT: Mapping[Reader, str] = {
    "strong": "The strong reader sees samples of the posteriors, which is what the decoder receives.",
    "linear": "The linear reader sees samples of the posteriors. The less it finds of a shared factor in the private "
    "subspace, the farther swaps go.",
    "lightweight": "The lightweight reader is the small network of the papers, and sees means of the posteriors.",
}


def page(reading: Reading) -> None:
    """Draw the matrices of one trial and of the references, which latent knows which factor, and other trials."""
    results = reading.results
    table = results.results()
    complete = table[table["state"] == "complete"]
    if complete.empty:
        st.info("No trial is complete yet.")
        return
    trials = complete["trial"].tolist()
    left, right = st.columns([1, 2])
    with left:
        default = [*selected_trials(trials), *reading.front["trial"], *trials][0]
        trial = choose(TRIAL, "Trial", trials, default)
    context = ReportContext(results, trial, spread=spread())
    try:
        classes = {factor.name: factor.classes for factor in context.factors}
        models = _models(reading, complete, [trial])
        data = leakage_data(models, classes, spread())
    except MissingDataError as error:
        st.info(f"Not drawn: {error}.")
        return
    with right:
        names = readers_of(data)
        reader = choose("reader", "Reader", names, names[0], is_segmented=True)
    create = partial(leakage_chart, data, context.home, reader)
    st.caption(
        "A number is the percentage of a factor that a reader finds out from a subspace; chance is 0. "
        "A frame marks the subspace that the factor belongs in: wanted are 100 inside of frames and 0 outside. "
        + _ABOUT[reader]
    )
    name = results.spec.name
    show_chart(reading, create, "leakage", _description(data, trial), data, f"{name}-leakage-{trial}", width="content")
    _table(reading, data)
    _latents(reading, context)
    _others(reading, complete, classes, context, reader)


def _models(reading: Reading, complete: pd.DataFrame, trials: list[int], references: bool = True) -> pd.DataFrame:
    rows = complete.set_index("trial", drop=False).loc[trials]
    models = rows.assign(model=[f"trial {trial}" for trial in trials])
    baselines = reading.results.baselines() if references else pd.DataFrame()
    if len(baselines):
        labels = [Baseline(name).label for name in baselines["baseline"]]
        models = pd.concat([models, baselines.assign(model=labels)], ignore_index=True)
    return models


def _latents(reading: Reading, context: ReportContext) -> None:
    st.subheader("Which latent knows which factor", anchor=False)
    key = ("mutual information", context.trial, context.seed)
    try:
        figure = reading.once(key, lambda: mutual_information_figure(context))
    except MissingDataError as error:
        st.info(f"Not drawn: {error}.")
        return
    file = f"{reading.results.spec.name}-latents-{context.trial}"
    show_chart(
        reading, lambda: figure.chart, "latents", figure.caption, figure.data, file, figure.caption, width="content"
    )


def _others(
    reading: Reading, complete: pd.DataFrame, classes: dict[str, int], context: ReportContext, reader: Reader
) -> None:
    trial = context.trial
    selected = selected_trials(complete["trial"])
    trials = [number for number in selected or reading.front["trial"].tolist() if number != trial][:_MAX_TRIALS]
    if not trials:
        return
    st.subheader("Selected trials" if selected else "Other trials on the front", anchor=False)
    data = leakage_data(_models(reading, complete, trials, references=False), classes, spread())
    create = partial(leakage_chart, data, context.home, reader)
    name = reading.results.spec.name
    show_chart(reading, create, "leakage of others", _description(data), data, f"{name}-leakage", width="content")
    _table(reading, data)
    link_button("compare", "Compare", reading.results.spec.name, [trial, *trials][:6])


def _table(reading: Reading, data: pd.DataFrame) -> None:
    with st.expander("Values with intervals"):
        st.dataframe(leakage_table(data), hide_index=True, width="stretch")
        st.caption(f"Percentages of the factor: {spread_text(reading.results.spec.replicates, spread())}.")


def _description(data: pd.DataFrame, trial: int | None = None) -> str:
    shown = data if trial is None else data[data["model"] == f"trial {trial}"]
    cells = (f"{row.factor} from {row.subspace} {row.share:.0%} ({row.reader})" for row in shown.head(12).itertuples())
    return f"Matrices of factors and subspaces: {', '.join(cells)}"
