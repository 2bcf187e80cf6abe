"""Factors from the columns of a table: what a clip is, as somebody wrote it down.

N is clips, C factors.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from marl.data.dataset import UNKNOWN, Factor
from marl.data.source import Value

__all__ = ["MOST_CLASSES", "factor_of"]

MOST_CLASSES = 20
"""Of numbers: those that are more fall into so many classes, of about as many clips each."""
# A number that hardly ever comes twice was measured; one of a grid comes again and again.
_CLIPS_PER_VALUE = 10


def factor_of(name: str, column_N: Sequence[Value]) -> tuple[Factor, Tensor]:
    """A factor, and the index of its value for each clip, int64 [N], `UNKNOWN` where there is none.

    Words are classes, each its own. So are numbers, if there are not more than `MOST_CLASSES` of them. More of them
    are classes of neighbours, with about as many clips in each; if hardly two clips have the same number it counts as
    measured (`Factor.is_continuous`).

    Raises:
        ValueError: when fewer than two different values are known, or words and numbers are mixed.
    """
    known = [value for value in column_N if value is not None]
    kinds = {isinstance(value, str) for value in known}
    if len(kinds) > 1:
        raise ValueError(f"factor {name!r} mixes words and numbers; make it one or the other")
    values = tuple(sorted(set(known)))
    if len(values) < 2:
        raise ValueError(f"factor {name!r} must differ between clips; all have {values[0] if values else 'none'!r}")
    index_of = {value: index for index, value in enumerate(values)}
    index_N = torch.tensor([UNKNOWN if value is None else index_of[value] for value in column_N])
    if kinds == {True} or len(values) <= MOST_CLASSES:
        return Factor(name, values, tuple(range(len(values)))), index_N
    is_continuous = len(values) * _CLIPS_PER_VALUE > len(known)
    counts = index_N[index_N != UNKNOWN].bincount(minlength=len(values))
    below = counts.cumsum(0) - counts
    # Values with many clips may leave a class empty, so those that are there are numbered anew.
    rough = (below * MOST_CLASSES) // len(known)
    class_of_value = rough.unique(return_inverse=True)[1]
    return Factor(name, values, tuple(class_of_value.tolist()), is_continuous), index_N
