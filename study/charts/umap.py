"""UMAP of the latents: clips as points on a plane for each subspace, coloured by each factor.

N is clips, D latents.
"""

import altair as alt
import numpy as np
import pandas as pd
from altair.typing import ChartType

from study.charts.style import SUBSPACES, WIDTH, MissingDataError, factor_label, latent_columns

__all__ = ["MAX_CLIPS", "umap_chart", "umap_data"]

MAX_CLIPS = 1000
"""Maximum number of clips, the first of the stored sample, whose order is random."""

_MIN_CLIPS = 20
_NEIGHBOURS = 15
_MAX_COLUMNS = 3


def umap_data(latents: pd.DataFrame) -> pd.DataFrame:
    """Return the positions of the clips in the UMAP of each subspace.

    Args:
        latents: Sample of latents as stored.

    Returns:
        `clip`, `subspace`, `x`, `y`, and the factors by their names in the store. Empty subspaces are skipped.

    Raises:
        MissingDataError: If there are too few clips, or no latents.
    """
    sample = latents.iloc[:MAX_CLIPS]
    if len(sample) < _MIN_CLIPS:
        raise MissingDataError(f"UMAP needs at least {_MIN_CLIPS} clips; the sample of latents has {len(sample)}")
    factors = [name for name in sample if str(name).startswith("factor/")]
    maps = []
    for subspace in SUBSPACES:
        columns = latent_columns(sample, subspace)
        if not columns:
            continue
        position_N2 = _embed(sample[columns].to_numpy(dtype=np.float32))
        maps.append(sample[["clip", *factors]].assign(subspace=subspace, x=position_N2[:, 0], y=position_N2[:, 1]))
    if not maps:
        raise MissingDataError("the sample of latents has no latents")
    return pd.concat(maps, ignore_index=True)


def umap_chart(data: pd.DataFrame) -> ChartType:
    """Draw `umap_data`: a row for each subspace, a column for each factor."""
    factors = [str(name).removeprefix("factor/") for name in data if str(name).startswith("factor/")]
    size = WIDTH // min(max(len(factors), 2), _MAX_COLUMNS) - 40
    columns: list[ChartType] = []
    for index, factor in enumerate(factors):
        values = data[f"factor/{factor}"]
        points = data[["subspace", "x", "y"]].assign(value=values)
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
            alt.Chart(points[points["subspace"] == subspace])
            .mark_circle(size=9, opacity=0.8)
            .encode(
                x=alt.X("x:Q", axis=None, scale=alt.Scale(zero=False)),
                y=alt.Y(
                    "y:Q",
                    title=f"{subspace} latents" if index % _MAX_COLUMNS == 0 else None,
                    axis=alt.Axis(labels=False, ticks=False, grid=False, domain=False, titleFontSize=12),
                    scale=alt.Scale(zero=False),
                ),
                color=colour,
            )
            .properties(width=size, height=size)
            for subspace in data["subspace"].unique()
        ]
        columns.append(alt.vconcat(*rows, spacing=10))
    chart: ChartType = alt.concat(*columns, columns=_MAX_COLUMNS, spacing=16).resolve_scale(color="independent")
    return chart


def _embed(latents_ND: np.ndarray) -> np.ndarray:
    """Return the UMAP to two dimensions, float64 [N, 2]. It is deterministic on one machine."""
    from umap import UMAP  # takes ten seconds to compile

    reducer = UMAP(n_neighbors=min(_NEIGHBOURS, len(latents_ND) - 1), min_dist=0.1, random_state=0, n_jobs=1)
    return np.asarray(reducer.fit_transform(np.nan_to_num(latents_ND)), dtype=np.float64)
