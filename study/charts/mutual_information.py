"""Mutual information between single latents and factors, as a heat map.

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
from study.charts.style import COLOURS, SUBSPACES, WIDTH, MissingDataError, latent_columns

__all__ = ["factor_classes", "mutual_information_chart", "mutual_information_data"]

_SHADES = ("#f4f7fa", "#bfd3e3", "#7ba5c6", "#30638e", "#132f49")
_MAX_CELL, _MIN_CELL, _MIN_CELL_WITH_TEXT = 34, 5, 24  # pixels


def mutual_information_data(latents: pd.DataFrame, factors: Sequence[Factor]) -> pd.DataFrame:
    """Return the mutual information of each latent with each factor, as the study's metrics compute it.

    Args:
        latents: Sample of latents as stored: `factor/<name>`, `private/<number>` and `shared/<number>` of each clip.
        factors: Factors with their values and classes.

    Returns:
        `factor`, `subspace`, `latent` (its number), and `nmi`, the mutual information divided by the factor's entropy;
        0 for a factor with one class.

    Raises:
        MissingDataError: If the sample lacks a factor, or has a value that is not among the factor's values.
    """
    columns = [(subspace, name) for subspace in SUBSPACES for name in latent_columns(latents, subspace)]
    if not columns:
        raise MissingDataError("the sample of latents has no latents")
    latents_ND = latents[[name for _, name in columns]].to_numpy(dtype=np.float64)
    classes_NC = torch.from_numpy(np.stack([factor_classes(latents, factor) for factor in factors], axis=1))
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


def factor_classes(latents: pd.DataFrame, factor: Factor) -> np.ndarray:
    """Return the class of each clip, int64 [N]. A number is rounded to the nearest value of the factor.

    Raises:
        MissingDataError: If there is no such column, or a value that is not among the factor's values.
    """
    column = f"factor/{factor.name}"
    if column not in latents:
        raise MissingDataError(f"the sample of latents lacks the {factor.name} of its clips")
    values = np.array(factor.values)
    if pd.api.types.is_numeric_dtype(latents[column]) and np.issubdtype(values.dtype, np.number):
        index_N = np.abs(latents[column].to_numpy()[:, None] - values).argmin(axis=1)
    else:
        index_of_value = {value: index for index, value in enumerate(factor.values)}
        unknown = set(latents[column]) - set(index_of_value)
        if unknown:
            raise MissingDataError(f"the sample of latents has an unknown {factor.name}: {unknown.pop()!r}")
        index_N = latents[column].map(index_of_value).to_numpy()
    classes_N: np.ndarray = np.array(factor.class_of_value, dtype=np.int64)[index_N]
    return classes_N


def mutual_information_chart(data: pd.DataFrame, home: Mapping[str, str]) -> ChartType:
    """Draw `mutual_information_data`: a row for each factor, a column for each latent, a panel for each subspace.

    Args:
        data: Mutual information.
        home: Subspace that is meant to hold each factor.
    """
    count = len(data[["subspace", "latent"]].drop_duplicates())
    cell = int(np.clip((WIDTH - 220) // count, _MIN_CELL, _MAX_CELL))
    names = {name: f"{name} ({home[name]})" for name in data["factor"].unique()}
    labelled = data.assign(row=data["factor"].map(names), text=data["nmi"].map("{:.2f}".format))
    panels: list[ChartType] = []
    for subspace in data["subspace"].unique():
        base = alt.Chart(labelled[labelled["subspace"] == subspace]).encode(
            x=alt.X(
                "latent:O",
                title="latent",
                axis=alt.Axis(labelAngle=0, labelOverlap=True, ticks=False, domain=False, grid=False),
            ),
            y=alt.Y(
                "row:N",
                title=None,
                sort=list(names.values()),
                axis=None
                if panels
                else alt.Axis(labelLimit=180, ticks=False, domain=False, labelFontSize=11, grid=False),
            ),
        )
        cells = base.mark_rect(stroke="white", strokeWidth=1).encode(
            color=alt.Color(
                "nmi:Q",
                title="mutual information / entropy",
                scale=alt.Scale(domain=[0, 1], range=list(_SHADES)),
                legend=alt.Legend(orient="bottom", gradientLength=200, titleLimit=260),
            )
        )
        layers = [cells]
        if cell >= _MIN_CELL_WITH_TEXT:
            text = base.mark_text(fontSize=10 if cell > 28 else 8.5).encode(
                text="text:N", color=alt.condition("datum.nmi > 0.45", alt.value("white"), alt.value("#333333"))
            )
            layers.append(text)
        title = alt.Title(subspace, color=COLOURS[subspace])
        panels.append(alt.layer(*layers).properties(width=alt.Step(cell), height=alt.Step(max(cell, 26)), title=title))
    return alt.hconcat(*panels, spacing=18)
