"""Of more rows than a chart can show, those that it shows."""

import pandas as pd

__all__ = ["MOST_POINTS", "sample_of", "sample_sentence"]

MOST_POINTS = 2000
"""More points hide one another, and a browser is slow to draw them."""


def sample_of(rows: pd.DataFrame, keep: pd.Series | None = None) -> pd.DataFrame:
    """All rows, or of many those to keep and a random sample of the others, the same each time, in their order."""
    if len(rows) <= MOST_POINTS:
        return rows
    kept = rows.index[:0] if keep is None else rows.index[keep]
    others = rows.drop(kept)
    drawn = others.sample(max(0, min(MOST_POINTS - len(kept), len(others))), random_state=0)
    return rows.loc[rows.index.isin(kept.union(drawn.index))]


def sample_sentence(count: int) -> str:
    """What a chart says of so many trials; nothing where all are drawn."""
    return "" if count <= MOST_POINTS else f" Drawn are {MOST_POINTS:,} of {count:,}, a random sample."
