"""Functional ANOVA of a random forest: how much of what a forest predicts varies with one parameter alone.

Hutter, Hoos and Leyton-Brown, "An efficient approach for assessing hyperparameter importance", ICML 2014. Computed by
whole leaves of a tree at a time: Optuna's evaluator, which goes through them one by one, takes half a minute for a
thousand trials, and this a second. For real numbers both give the same. The values of a whole number and of a choice
count alike here; there the lowest and the highest whole number count half, and the one-hot columns of a choice are
numbers of their own, so that configurations count that have two choices at once, or none.

N is trials, C columns, L leaves, K the values of a choice.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn.ensemble import RandomForestRegressor  # type: ignore[import-untyped]

__all__ = ["main_effects"]

_TREES = 64  # as many as Optuna has


def main_effects(columns: Sequence[np.ndarray], values_N: np.ndarray, seed: int) -> np.ndarray:
    """The part of a forest's variance that is each parameter's own, without interactions; a mean over trees.

    Args:
        columns: of each parameter: numbers from 0 to 1, [N], over which its range spreads evenly, or one-hot, [N, K].
        values_N: what depends on them; not all the same.
        seed: of the forest.

    Returns:
        One number from 0 to 1 a parameter; together at most 1. Not a number where no tree tells any trials apart.
    """
    x_NC = np.column_stack(columns)
    forest = RandomForestRegressor(n_estimators=_TREES, max_depth=64, random_state=seed).fit(x_NC, values_N)
    ends = np.cumsum([1 if column.ndim == 1 else column.shape[1] for column in columns]).tolist()
    parts = [slice(start, end) for start, end in zip([0, *ends], ends, strict=False)]
    is_choice = [column.ndim > 1 for column in columns]
    found = [_of_tree(estimator.tree_, parts, is_choice, x_NC.shape[1]) for estimator in forest.estimators_]
    varying = [effects for effects in found if effects is not None]
    return np.mean(varying, axis=0) if varying else np.full(len(columns), np.nan)


def _of_tree(
    tree: Any,
    parts: Sequence[slice],
    is_choice: Sequence[bool],
    columns: int,
) -> np.ndarray | None:
    """Of one tree; none where it predicts the same everywhere."""
    low_LC, high_LC, value_L = _leaves(tree, columns)
    # The share of a parameter's range that each leaf holds; of a choice, which values, [L, K].
    allowed = [
        _allowed(low_LC[:, part], high_LC[:, part]) if choice else None
        for part, choice in zip(parts, is_choice, strict=True)
    ]
    share_PL = np.array(
        [
            (high_LC - low_LC)[:, part.start] if held is None else held.mean(axis=1)
            for part, held in zip(parts, allowed, strict=True)
        ]
    )
    weight_L = share_PL.prod(axis=0)
    mean = weight_L @ value_L
    variance = weight_L @ (value_L - mean) ** 2
    if not variance > 0:
        return None
    effects = np.zeros(len(parts))
    for index, (part, held) in enumerate(zip(parts, allowed, strict=True)):
        # What a leaf adds to the mean prediction at each value that it holds.
        added_L = np.delete(share_PL, index, axis=0).prod(axis=0) * (value_L - mean)
        if held is None:
            effects[index] = _variance_of_steps(low_LC[:, part.start], high_LC[:, part.start], added_L)
        else:
            effects[index] = ((held.T @ added_L) ** 2).mean()
    shares: np.ndarray = effects / variance
    return shares


def _leaves(tree: Any, columns: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Where each leaf begins and ends in each column, [L, C], and what it predicts, [L]."""
    low, high = np.zeros((tree.node_count, columns)), np.ones((tree.node_count, columns))
    level = np.array([0])
    while len(level):  # all nodes of one depth at once
        level = level[tree.children_left[level] >= 0]
        left, right, column = tree.children_left[level], tree.children_right[level], tree.feature[level]
        for child in (left, right):
            low[child], high[child] = low[level], high[level]
        high[left, column] = low[right, column] = tree.threshold[level]
        level = np.concatenate([left, right])
    is_leaf = tree.children_left < 0
    return low[is_leaf], high[is_leaf], tree.value[is_leaf, 0, 0]


def _allowed(low_LK: np.ndarray, high_LK: np.ndarray) -> np.ndarray:
    """Which values of a choice a leaf holds, [L, K]: their own column may be one, and every other column zero."""
    must_LK, may_LK = low_LK > 0, high_LK >= 1
    others_must_LK = must_LK.sum(axis=1, keepdims=True) - must_LK
    allowed_LK: np.ndarray = may_LK & (others_must_LK == 0)
    return allowed_LK


def _variance_of_steps(low_L: np.ndarray, high_L: np.ndarray, added_L: np.ndarray) -> float:
    """The mean square of a sum of steps over the range from 0 to 1, each from one place to another."""
    places = np.concatenate([low_L, high_L])
    order = np.argsort(places, kind="stable")
    level = np.cumsum(np.concatenate([added_L, -added_L])[order])
    return float((level[:-1] ** 2) @ np.diff(places[order]))
