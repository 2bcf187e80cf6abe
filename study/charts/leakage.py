"""Leakage: what readers find of each factor in each subspace, as matrices of one model or of several."""

from collections.abc import Mapping
from itertools import product
from typing import Literal

import altair as alt
import pandas as pd
from altair.typing import ChartType

from study.analysis.aggregation import Spread
from study.analysis.statistics import readings
from study.charts import style

Reader = Literal["strong", "linear", "lightweight"]
READERS: Mapping[Reader, str] = {"strong": "information", "linear": "linear_information", "lightweight": "probe"}
"""The group of metrics of each reader."""

_CELL_WIDTH, _CELL_HEIGHT, _GAP = 64, 34, 0.1


def leakage_data(models: pd.DataFrame, classes: Mapping[str, int], spread: Spread = "ci") -> pd.DataFrame:
    """Return what all readers find of each factor in each subspace of each model, between nothing (0) and all (1).

    `models` has the name of each model in a column `model`, and the columns of `StudyResults.results`. `classes` is the
    number of classes of each factor.

    Returns:
        `model`, `factor`, `subspace`, `reader`, `share`, and the ends of its error bar `low` and `high`.
    """
    tables = []
    for (_, row), (factor, count), subspace in product(models.iterrows(), classes.items(), style.SUBSPACES):
        table = readings(row, factor, count, subspace)
        is_wanted = table["metric"].str.startswith(tuple(f"{group}/" for group in READERS.values()))
        tables.append(table[is_wanted].assign(model=row["model"], factor=factor, subspace=subspace))
    data = pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()
    if data.empty:
        groups = ", ".join(f"{group}/…" for group in READERS.values())
        raise style.MissingDataError(f"these models have no metrics of the groups {groups}")
    data = data.assign(low=data["share"] - data[spread], high=data["share"] + data[spread])
    return data[["model", "factor", "subspace", "reader", "share", "low", "high"]]


def readers_of(data: pd.DataFrame) -> list[Reader]:
    """Return the readers that `leakage_data` has values of, the strong one first."""
    found = set(data["reader"])
    return [reader for reader in READERS if reader in found]


def leakage_table(data: pd.DataFrame) -> pd.DataFrame:
    """Return `leakage_data` as text in percent, with a row for each cell of the matrices and a column for each model.

    A value is followed by its interval: `28.2 (20.1 to 36.4)`.
    """
    text = _percent(data["share"]) + (" (" + _intervals(data) + ")").where(data["low"].notna(), "")
    wide = data.assign(text=text).pivot_table("text", ["factor", "subspace", "reader"], "model", "first", sort=False)
    return wide.fillna("–").reset_index().rename_axis(columns=None)


def _percent(share: pd.Series) -> pd.Series:
    return (100 * share).map("{:.1f}".format)


def _intervals(data: pd.DataFrame) -> pd.Series:
    """Return the ends of each error bar in percent; `none` for a single replicate."""
    return (_percent(data["low"]) + " to " + _percent(data["high"])).where(data["low"].notna(), "none")


def leakage_chart(data: pd.DataFrame, home: Mapping[str, str], reader: Reader, columns: int = 4) -> ChartType:
    """Draw `leakage_data` of one reader: a matrix for each model, with a row for each factor.

    `home` is the subspace that is meant to hold each factor; its cells have a frame.
    """
    shown = data[data["reader"] == reader].copy()
    if shown.empty:
        raise style.MissingDataError(f"these models have no readings of the {reader} reader")
    shown["belongs"] = shown["factor"].map(home) == shown["subspace"]
    shown["text"] = (100 * shown["share"]).round().astype(int).astype(str)
    shown["interval"] = _intervals(shown)
    colour = alt.Color(
        "share:Q",
        title="share of the factor",
        scale=style.cell_colours(),
        legend=alt.Legend(orient="top", format="%", gradientLength=160),
    )
    share = alt.Tooltip("share:Q", format=".1%")
    tooltip = [alt.Tooltip("model:N"), alt.Tooltip("factor:N"), alt.Tooltip("subspace:N"), share]
    tooltip.append(alt.Tooltip("interval:N"))
    # Gaps keep the frames apart; lines of axes would cover them.
    scale = alt.Scale(paddingInner=_GAP)
    x_axis = alt.Axis(labelAngle=0, orient="top", domain=False, ticks=False, grid=False)
    y_axis = alt.Axis(labelLimit=160, domain=False, ticks=False, grid=False)
    panels: list[ChartType] = []
    for index, model in enumerate(shown["model"].unique()):
        base = alt.Chart(shown[shown["model"] == model]).encode(
            x=alt.X("subspace:N", sort=list(style.SUBSPACES), title=None, axis=x_axis, scale=scale),
            y=alt.Y("factor:N", sort=list(home), title=None, axis=None if index % columns else y_axis, scale=scale),
            tooltip=tooltip,
        )
        cells = base.mark_rect(stroke=style.LINES).encode(color=colour)
        frames = base.transform_filter("datum.belongs").mark_rect(
            filled=False, stroke=style.ORANGE, strokeWidth=3, fillOpacity=0
        )
        texts = base.mark_text(fontSize=13).encode(text="text:N", color=style.cell_text_colour("share"))
        panel = alt.layer(cells, frames, texts)
        panels.append(panel.properties(width=alt.Step(_CELL_WIDTH), height=alt.Step(_CELL_HEIGHT), title=str(model)))
    return alt.concat(*panels, columns=columns, spacing=24)
