"""Mutual information of single latents and factors, as a map.

N is clips, D latents, C factors.
"""

from collections.abc import Mapping, Sequence

import altair as alt
import numpy as np
import pandas as pd
import torch
from altair.typing import ChartType

from marl.data import Factor
from marl.metrics.mutual_information import factor_entropy, mutual_information
from study.charts.style import COLOURS, WIDTH
from study.report.context import SUBSPACES, Material, MissingError, Picture, latent_columns

__all__ = ["classes_of", "information_chart", "information_data", "information_picture"]

_SHADES = ("#f4f7fa", "#bfd3e3", "#7ba5c6", "#30638e", "#132f49")
_CELL, _SMALLEST_CELL, _SMALLEST_WITH_TEXT = 34, 5, 24  # pixels


def information_picture(material: Material) -> Picture:
    """Which latents of the chosen trial know which factor."""
    trial = int(material.chosen["trial"])
    data = information_data(material.latents, material.factors)
    return Picture(
        title="Which latent knows which factor",
        caption=(
            f"Each cell is the mutual information between one latent of trial {trial}, seed {material.seed}, and one "
            "factor, over the factor's entropy: 1 means that this latent alone tells the factor's class, 0 that it "
            "says nothing of it. In a model that separates, a factor has dark cells only in the subspace that is named "
            "with it; there are no error bars, as one replicate is shown."
        ),
        chart=information_chart(data, material.home),
        data=data,
    )


def information_data(latents: pd.DataFrame, factors: Sequence[Factor]) -> pd.DataFrame:
    """Mutual information of each latent with each factor, by the study's own metric.

    Args:
        latents: as in the store: `factor/<name>`, `private/<number>` and `shared/<number>` of each clip.
        factors: with their values and classes.

    Returns:
        `factor, subspace, latent` (its number), and `nmi`, over the factor's entropy; zero for a factor that has one
        class only.

    Raises:
        MissingError: when the store has no column of a factor, or values that it cannot have.
    """
    columns = [(subspace, name) for subspace in SUBSPACES for name in latent_columns(latents, subspace)]
    if not columns:
        raise MissingError("the sample of latents has no latents in it")
    latents_ND = latents[[name for _, name in columns]].to_numpy(dtype=np.float64)
    classes_NC = torch.from_numpy(np.stack([classes_of(latents, factor) for factor in factors], axis=1))
    finite_1ND = torch.tensor(latents_ND).nan_to_num(0.0, 0.0, 0.0)[None]
    information_DC = mutual_information(finite_1ND, classes_NC)[0]
    entropy_C = factor_entropy(classes_NC)
    nmi_DC = torch.where(entropy_C > 0, information_DC / entropy_C, 0.0)
    return pd.DataFrame(
        [
            {"factor": factor.name, "subspace": subspace, "latent": int(name.rpartition("/")[2]), "nmi": nmi}
            for (subspace, name), nmi_C in zip(columns, nmi_DC.tolist(), strict=True)
            for factor, nmi in zip(factors, nmi_C, strict=True)
        ]
    )


def classes_of(latents: pd.DataFrame, factor: Factor) -> np.ndarray:
    """The class of each clip, int64 [N]; numbers are taken for the nearest value of the factor.

    Raises:
        MissingError: when there is no such column, or it has a value that the factor has not.
    """
    column = f"factor/{factor.name}"
    if column not in latents:
        raise MissingError(f"the sample of latents does not say the {factor.name} of its clips")
    values = np.array(factor.values)
    if pd.api.types.is_numeric_dtype(latents[column]) and np.issubdtype(values.dtype, np.number):
        index = np.abs(latents[column].to_numpy()[:, None] - values).argmin(axis=1)
    else:
        place = {value: index for index, value in enumerate(factor.values)}
        unknown = set(latents[column]) - set(place)
        if unknown:
            raise MissingError(f"the sample of latents has a {factor.name} that the data have not: {unknown.pop()!r}")
        index = latents[column].map(place).to_numpy()
    classes_N: np.ndarray = np.array(factor.class_of_value, dtype=np.int64)[index]
    return classes_N


def information_chart(data: pd.DataFrame, home: Mapping[str, str]) -> ChartType:
    """Draw `information_data`: a row for each factor, a column for each latent, the subspaces apart."""
    count = len(data[["subspace", "latent"]].drop_duplicates())
    cell = int(np.clip((WIDTH - 220) // count, _SMALLEST_CELL, _CELL))
    names = {name: f"{name} ({home[name]})" for name in data["factor"].unique()}
    drawn = data.assign(row=data["factor"].map(names), text=data["nmi"].map("{:.2f}".format))
    parts: list[ChartType] = []
    for subspace in data["subspace"].unique():
        part = drawn[drawn["subspace"] == subspace]
        is_first = not parts
        base = alt.Chart(part).encode(
            x=alt.X(
                "latent:O",
                title="latent",
                axis=alt.Axis(labelAngle=0, labelOverlap=True, ticks=False, domain=False, grid=False),
            ),
            y=alt.Y(
                "row:N",
                title=None,
                sort=list(names.values()),
                axis=alt.Axis(labelLimit=180, ticks=False, domain=False, labelFontSize=11, grid=False)
                if is_first
                else None,
            ),
        )
        cells = base.mark_rect(stroke="white", strokeWidth=1).encode(
            color=alt.Color(
                "nmi:Q",
                title="mutual information over entropy",
                scale=alt.Scale(domain=[0, 1], range=list(_SHADES)),
                legend=alt.Legend(orient="bottom", gradientLength=200, titleLimit=260),
            )
        )
        layers = [cells]
        if cell >= _SMALLEST_WITH_TEXT:
            text = base.mark_text(fontSize=10 if cell > 28 else 8.5).encode(
                text="text:N", color=alt.condition("datum.nmi > 0.45", alt.value("white"), alt.value("#333333"))
            )
            layers.append(text)
        title = alt.Title(subspace, color=COLOURS[subspace])
        parts.append(alt.layer(*layers).properties(width=alt.Step(cell), height=alt.Step(max(cell, 26)), title=title))
    return alt.hconcat(*parts, spacing=18)
