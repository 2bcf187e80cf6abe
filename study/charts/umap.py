"""Clips as points on a plane: each subspace by UMAP, coloured by each factor.

N is clips, D latents.
"""

import altair as alt
import numpy as np
import pandas as pd
from altair.typing import ChartType

from study.charts.style import WIDTH, factor_label
from study.report.context import SUBSPACES, Material, MissingError, Picture, latent_columns

__all__ = ["maps_chart", "maps_data", "maps_picture"]

MOST_CLIPS = 1000
"""Of the sample in the store, whose order is random; more take longer and hide one another."""

_LEAST_CLIPS = 20
_NEIGHBOURS = 15
_MOST_IN_A_ROW = 3


def maps_picture(material: Material) -> Picture:
    """Where the latents of the chosen trial put the clips."""
    trial = int(material.chosen["trial"])
    data = maps_data(material.latents)
    return Picture(
        title="Maps of the subspaces",
        caption=(
            f"Each point is one of {data['clip'].nunique():,} held-out clips in one subspace of trial {trial}, seed "
            f"{material.seed}: UMAP puts clips near one another whose latents are, and its axes have no unit. A "
            "subspace that holds the factor of a column has clusters or a gradient in its colours, one that does not "
            "mixes them; there are no error bars, as one replicate is shown."
        ),
        chart=maps_chart(data),
        data=data,
    )


def maps_data(latents: pd.DataFrame) -> pd.DataFrame:
    """Where the clips are in each subspace.

    Args:
        latents: as in the store.

    Returns:
        `clip, subspace, x, y`, and the factors by their names in the store; subspaces without a latent are left out.

    Raises:
        MissingError: when there are too few clips, or no latents.
    """
    sample = latents.iloc[:MOST_CLIPS]
    if len(sample) < _LEAST_CLIPS:
        raise MissingError(f"a map needs {_LEAST_CLIPS} clips; the sample of latents has {len(sample)}")
    factors = [name for name in sample if str(name).startswith("factor/")]
    parts = []
    for subspace in SUBSPACES:
        columns = latent_columns(sample, subspace)
        if not columns:
            continue
        plane_N2 = _plane(sample[columns].to_numpy(dtype=np.float32))
        parts.append(sample[["clip", *factors]].assign(subspace=subspace, x=plane_N2[:, 0], y=plane_N2[:, 1]))
    if not parts:
        raise MissingError("the sample of latents has no latents in it")
    return pd.concat(parts, ignore_index=True)


def maps_chart(data: pd.DataFrame) -> ChartType:
    """Draw `maps_data`: a row for each subspace, a column for each factor."""
    factors = [str(name).removeprefix("factor/") for name in data if str(name).startswith("factor/")]
    size = WIDTH // min(max(len(factors), 2), _MOST_IN_A_ROW) - 40
    columns: list[ChartType] = []
    for place, factor in enumerate(factors):
        values = data[f"factor/{factor}"]
        drawn = data[["subspace", "x", "y"]].assign(value=values)
        if pd.api.types.is_numeric_dtype(values):
            colour = alt.Color(
                "value:Q",
                title=factor_label(factor),
                scale=alt.Scale(scheme="viridis"),
                legend=alt.Legend(
                    orient="top", gradientLength=size - 10, gradientThickness=8, gradientOpacity=1, tickCount=4
                ),
            )
        else:
            colour = alt.Color(
                "value:N",
                title=factor_label(factor),
                scale=alt.Scale(scheme="tableau10"),
                legend=alt.Legend(
                    orient="top", columns=4, labelLimit=70, columnPadding=6, symbolSize=50, symbolOpacity=1
                ),
            )
        rows = [
            alt.Chart(drawn[drawn["subspace"] == subspace])
            .mark_circle(size=9, opacity=0.8)
            .encode(
                x=alt.X("x:Q", axis=None, scale=alt.Scale(zero=False)),
                y=alt.Y(
                    "y:Q",
                    title=f"{subspace} latents" if place % _MOST_IN_A_ROW == 0 else None,
                    axis=alt.Axis(labels=False, ticks=False, grid=False, domain=False, titleFontSize=12),
                    scale=alt.Scale(zero=False),
                ),
                color=colour,
            )
            .properties(width=size, height=size)
            for subspace in data["subspace"].unique()
        ]
        columns.append(alt.vconcat(*rows, spacing=10))
    maps = alt.concat(*columns, columns=_MOST_IN_A_ROW, spacing=16)
    chart: ChartType = maps.resolve_scale(color="independent")
    return chart


def _plane(latents_ND: np.ndarray) -> np.ndarray:
    """UMAP to two dimensions, float64 [N, 2]; the same for the same latents on one machine."""
    from umap import UMAP  # compiles itself, which takes some ten seconds

    reducer = UMAP(n_neighbors=min(_NEIGHBOURS, len(latents_ND) - 1), min_dist=0.1, random_state=0, n_jobs=1)
    return np.asarray(reducer.fit_transform(np.nan_to_num(latents_ND)), dtype=np.float64)
