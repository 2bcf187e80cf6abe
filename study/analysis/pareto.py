"""What it means to be better in several objectives at once: fronts, an order, and the volume that a front dominates.

N is points, M objectives. Costs are minimised; whoever maximises changes the sign.
"""

from bisect import bisect_left
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

__all__ = ["costs_of", "dominated", "hypervolume", "is_among_first", "nondominated_order", "pareto_front"]


def costs_of(values: pd.DataFrame, objectives: Mapping[str, str]) -> np.ndarray:
    """Objectives as costs, [N, M]: what is maximised has its sign changed."""
    signs_M = np.array([1.0 if mode == "min" else -1.0 for mode in objectives.values()])
    costs_NM: np.ndarray = values.reindex(columns=list(objectives)).to_numpy(dtype=float) * signs_M
    return costs_NM


def pareto_front(values: pd.DataFrame, objectives: Mapping[str, str]) -> Sequence[bool]:
    """For each row whether no other is at least as good in every objective and better in one."""
    costs_NM = costs_of(values, objectives)
    is_on_front: list[bool] = (~dominated(costs_NM, costs_NM)).tolist()
    return is_on_front


def dominated(costs_NM: np.ndarray, others_KM: np.ndarray) -> np.ndarray:
    """For each point whether one of the others is at least as good in every objective and better in one, [N].

    What is not a number is neither better nor worse than anything.
    """
    costs_NM, others_KM = np.asarray(costs_NM, dtype=float), np.asarray(others_KM, dtype=float)
    others_KM = others_KM[~np.isnan(others_KM).any(axis=1)]
    if costs_NM.shape[1] == 2 and len(others_KM):
        return _dominated_in_two(costs_NM, others_KM)
    front_FM = _front_of(others_KM)  # whoever is dominated is dominated by one of these
    return np.array([_dominates(front_FM, cost_M).any() for cost_M in costs_NM], dtype=bool)


def nondominated_order(costs_NM: np.ndarray) -> list[int]:
    """Indices of the points, best first.

    Front after front (Deb et al., NSGA-II, 2002). Within a front the order keeps its spread, so that any first part of
    it covers the whole trade-off: the best of each objective, then always the point farthest from those before it, each
    objective scaled to the front's own range (an epsilon-net, as in Schmucker et al., arXiv:2106.12639). Departs from
    them in beginning with the extremes instead of a random point. Ties are broken by index; points that are not finite
    in every objective come last.
    """
    costs_NM = np.asarray(costs_NM, dtype=float)
    is_finite_N = np.isfinite(costs_NM).all(axis=1)
    finite, others = np.flatnonzero(is_finite_N), np.flatnonzero(~is_finite_N)
    if costs_NM.shape[1] == 1:
        order = finite[np.argsort(costs_NM[finite, 0], kind="stable")].tolist()
    else:
        rank_N = _front_numbers(costs_NM[finite])
        fronts = (finite[rank_N == rank] for rank in range(rank_N.max(initial=-1) + 1))
        order = [int(front[index]) for front in fronts for index in _spread_order(costs_NM[front])]
    return [*order, *others.tolist()]


def is_among_first(costs_NM: np.ndarray, index: int, count: int) -> bool:
    """Whether a point is among the first so many of `nondominated_order`, without putting all others in order."""
    costs_NM = np.asarray(costs_NM, dtype=float)
    is_finite_N = np.isfinite(costs_NM).all(axis=1)
    if not is_finite_N[index] or costs_NM.shape[1] == 1:
        return index in nondominated_order(costs_NM)[:count]
    rank_N = np.full(len(costs_NM), len(costs_NM))
    rank_N[is_finite_N] = _front_numbers(costs_NM[is_finite_N])
    before = int((rank_N < rank_N[index]).sum())
    front = np.flatnonzero(rank_N == rank_N[index])
    if before >= count or before + len(front) <= count:
        return before < count
    return index in front[_spread_order(costs_NM[front])[: count - before]]


def hypervolume(costs_NM: np.ndarray, reference_M: Sequence[float] | np.ndarray) -> float:
    """The volume of what is worse than some point and better than the reference, in the product of the units.

    Points that are not better than the reference in every objective count nothing.
    """
    reference_M = np.asarray(reference_M, dtype=float)
    costs_NM = np.asarray(costs_NM, dtype=float).reshape(-1, len(reference_M))
    counts_N = (costs_NM < reference_M).all(axis=1) & np.isfinite(costs_NM).all(axis=1)
    return _volume(costs_NM[counts_N], reference_M)


def _dominated_in_two(costs_N2: np.ndarray, others_K2: np.ndarray) -> np.ndarray:
    """`dominated` in two objectives, without a loop: in the order of the first, it is the best so far in the second."""
    others_K2 = others_K2[np.lexsort(others_K2.T[::-1])]
    best_K = np.minimum.accumulate(others_K2[:, 1])
    first_N, second_N = costs_N2.T
    better_N = np.searchsorted(others_K2[:, 0], first_N, side="left")  # how many others are better in the first
    alike_N = np.searchsorted(others_K2[:, 0], first_N, side="right")  # and these or as good
    is_behind_N = (better_N > 0) & (best_K[better_N - 1] <= second_N)
    is_beside_N = (alike_N > 0) & (best_K[alike_N - 1] < second_N)
    found_N: np.ndarray = (is_behind_N | is_beside_N) & ~np.isnan(first_N)
    return found_N


def _front_of(costs_NM: np.ndarray) -> np.ndarray:
    """The points that no other dominates, each once, [F, M]."""
    front_FM = np.empty((0, costs_NM.shape[1]))
    for cost_M in np.unique(costs_NM, axis=0):  # in order, so that whoever dominates a point comes before it
        if not (front_FM <= cost_M).all(axis=1).any():
            front_FM = np.vstack([front_FM, cost_M])
    return front_FM


def _dominates(costs_NM: np.ndarray, cost_M: np.ndarray) -> np.ndarray:
    """Which points are at least as good as one in every objective and better in one."""
    is_dominator_N: np.ndarray = np.logical_and((costs_NM <= cost_M).all(axis=1), (costs_NM < cost_M).any(axis=1))
    return is_dominator_N


def _front_numbers(costs_NM: np.ndarray) -> np.ndarray:
    """The front that each point is in: 0 for those that none dominates, else one behind the last dominator's."""
    rank_N = np.zeros(len(costs_NM), dtype=int)
    order = np.lexsort(costs_NM.T[::-1])  # whoever dominates a point comes before it
    if costs_NM.shape[1] == 2:
        # Of each front the point that is best in the second objective so far, and then in the first: if any of a front
        # dominates a point, this does (Zhang et al., "An Efficient Approach to Nondominated Sorting", 2015).
        best: list[tuple[float, float]] = []
        for index, (first, second) in zip(order.tolist(), costs_NM[order].tolist(), strict=True):
            rank_N[index] = rank = bisect_left(best, (second, first))
            best[rank : rank + 1] = [(second, first)]
        return rank_N
    sorted_NM = costs_NM[order]
    for place, index in enumerate(order):
        dominators = order[:place][_dominates(sorted_NM[:place], sorted_NM[place])]
        rank_N[index] = rank_N[dominators].max(initial=-1) + 1
    return rank_N


def _spread_order(costs_NM: np.ndarray) -> list[int]:
    """Indices of a front's points: the best of each objective, then always the farthest from those chosen."""
    lowest_M = costs_NM.min(axis=0)
    range_M = costs_NM.max(axis=0) - lowest_M
    scaled_NM = (costs_NM - lowest_M) / np.where(range_M > 0, range_M, 1.0)
    chosen: list[int] = []
    distance_N = np.full(len(costs_NM), np.inf)  # to the nearest of those chosen; -1 for these
    extremes = [int(best) for best in scaled_NM.argmin(axis=0)]
    for _ in range(len(costs_NM)):
        waiting = [index for index in extremes if index not in chosen]
        index = waiting[0] if waiting else int(distance_N.argmax())
        chosen.append(index)
        distance_N = np.minimum(distance_N, np.linalg.norm(scaled_NM - scaled_NM[index], axis=1))
        distance_N[chosen] = -1.0
    return chosen


def _volume(costs_NM: np.ndarray, reference_M: np.ndarray) -> float:
    """By slices along the last objective, each as thick as the way to the next point."""
    if not len(costs_NM):
        return 0.0
    if len(reference_M) == 1:
        return float(reference_M[0] - costs_NM.min())
    if len(reference_M) == 2:
        return _area(costs_NM, reference_M)
    costs_NM = costs_NM[np.argsort(costs_NM[:, -1], kind="stable")]
    thickness_N = np.diff(costs_NM[:, -1], append=reference_M[-1])
    return float(
        sum(
            thickness * _volume(costs_NM[: place + 1, :-1], reference_M[:-1])
            for place, thickness in enumerate(thickness_N)
            if thickness > 0
        )
    )


def _area(costs_N2: np.ndarray, reference_2: np.ndarray) -> float:
    """By one sweep along the first objective: each point adds what it lowers the second by."""
    first_N, second_N = costs_N2[np.lexsort(costs_N2.T[::-1])].T
    before_N = np.minimum.accumulate(np.concatenate([reference_2[1:], second_N[:-1]]))
    return float(((reference_2[0] - first_N) * np.maximum(before_N - second_N, 0.0)).sum())
