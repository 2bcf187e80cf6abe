"""Multi-objective comparison: Pareto fronts, a ranking, front candidates, the hypervolume, and its growth over time.

N is points or complete trials, M objectives, F points of a front, K other points. Costs are minimised; objectives that
are maximised change their sign.
"""

from bisect import bisect_left
from collections.abc import Container, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from study.spec import Spec


class FrontCandidates(NamedTuple):
    """Numbers of complete trials: on the front, near it, and those whose objectives are missing or not final.

    A trial is near the front if no other trial dominates its means, improved by one standard deviation in each.
    """

    front: list[int]
    near: list[int]
    unranked: list[int]


def front_candidates(results: pd.DataFrame, spec: Spec) -> FrontCandidates:
    """Return the front of a table of results, and the trials that may belong to it given their spread over seeds."""
    complete = results[results["state"] == "complete"]
    costs_NM = to_costs(complete, spec.objectives)
    is_ranked_N = np.isfinite(costs_NM).all(axis=1)
    if "step" in complete:
        is_ranked_N &= (complete["step"] == spec.train.steps).to_numpy()
    trials_N, costs_NM = complete["trial"].to_numpy()[is_ranked_N], costs_NM[is_ranked_N]
    sd_NM = complete[is_ranked_N].reindex(columns=[f"{name}/sd" for name in spec.objectives]).to_numpy(dtype=float)
    is_front_N = ~is_dominated(costs_NM, costs_NM)
    is_near_N = ~is_dominated(costs_NM - np.nan_to_num(sd_NM), costs_NM) & ~is_front_N
    groups = (trials_N[is_front_N], trials_N[is_near_N], complete["trial"].to_numpy()[~is_ranked_N])
    return FrontCandidates(*([int(trial) for trial in group] for group in groups))


def to_costs(values: pd.DataFrame, objectives: Mapping[str, str]) -> np.ndarray:
    """Return objectives as costs, [N, M]: maximised ones change their sign."""
    signs_M = np.array([1.0 if mode == "min" else -1.0 for mode in objectives.values()])
    return np.asarray(values.reindex(columns=list(objectives)).to_numpy(dtype=float) * signs_M)


def pareto_front(values: pd.DataFrame, objectives: Mapping[str, str]) -> Sequence[bool]:
    """Return for each row whether no other is at least as good in every objective and better in one."""
    costs_NM = to_costs(values, objectives)
    return list((~is_dominated(costs_NM, costs_NM)).tolist())


def is_dominated(costs_NM: np.ndarray, others_KM: np.ndarray) -> np.ndarray:
    """Return for each point whether one of the others is at least as good in every objective and better in one, [N].

    Points with a NaN neither dominate nor are dominated.
    """
    costs_NM, others_KM = np.asarray(costs_NM, dtype=float), np.asarray(others_KM, dtype=float)
    others_KM = others_KM[~np.isnan(others_KM).any(axis=1)]
    if costs_NM.shape[1] == 2 and len(others_KM):
        return _dominated_in_two(costs_NM, others_KM)
    front_FM = _front_of(others_KM)  # a dominated point is dominated by one of these
    return np.array([_dominates(front_FM, cost_M).any() for cost_M in costs_NM], dtype=bool)


def nondominated_order(costs_NM: np.ndarray) -> list[int]:
    """Return the indices of the points, best first.

    Points are sorted by front (Deb et al., NSGA-II, 2002), and within a front so that each initial part covers the
    whole trade-off: first the best point of each objective, then repeatedly the point farthest from those before it,
    with objectives scaled to the range of the front (the epsilon-net of Schmucker et al., arXiv:2106.12639, except
    that it starts with the extremes instead of a random point). Ties are broken by index. Points that are not finite in
    every objective come last.
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


def is_in_top(costs_NM: np.ndarray, index: int, count: int) -> bool:
    """Return whether a point is among the first `count` of `nondominated_order`; only its front is sorted."""
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
    """Return the volume that the points dominate up to a reference, in the product of the objectives' units.

    Points that are not better than the reference in every objective are ignored.
    """
    reference_M = np.asarray(reference_M, dtype=float)
    costs_NM = np.asarray(costs_NM, dtype=float).reshape(-1, len(reference_M))
    is_better_N = (costs_NM < reference_M).all(axis=1) & np.isfinite(costs_NM).all(axis=1)
    return _volume(costs_NM[is_better_N], reference_M)


def reference_point(baselines: Mapping[str, Any] | None, objectives: Mapping[str, str]) -> np.ndarray | None:
    """Return the costs of the untrained network, [M], or None if one of them is missing."""
    scores = (baselines or {}).get("untrained", {})
    reference_M = to_costs(pd.DataFrame([scores]), objectives)[0]
    return reference_M if np.isfinite(reference_M).all() else None


def front_progress(
    completed: pd.DataFrame,
    reports: pd.DataFrame,
    runs: Mapping[int, Mapping[str, Any]],
    live: Container[int],
    objectives: Mapping[str, str],
    reference_M: np.ndarray | None,
) -> pd.DataFrame:
    """Return the front's hypervolume and its cost at each time at which a trial completed.

    `completed` has `trial`, `time`, `run` and the means of the objectives of each complete trial; `reports` has the
    `trial`, `seed`, `step` and `time` of all reports; `live` has the numbers of the running runs. Without
    `reference_M`, the costs of the untrained network, the hypervolume is NaN.

    Returns:
        A row for each trial, by time: `time`; `trial`; `complete`, the number of complete trials; `trial_steps`, the
        sum of the steps that all replicates had reported; `device_hours`, the time that runs had taken, times their
        number of trainers; `hypervolume` between the front and the untrained network, in the product of the
        objectives' units.
    """
    if completed.empty:
        return pd.DataFrame(columns=["time", "trial", "complete", "trial_steps", "device_hours", "hypervolume"])
    completed = completed.sort_values("time", kind="stable", ignore_index=True)
    return completed[["time", "trial"]].assign(
        complete=np.arange(1, len(completed) + 1),
        trial_steps=trial_steps(reports, completed["time"]),
        device_hours=_device_hours(runs, live, completed),
        hypervolume=_hypervolumes(to_costs(completed, objectives), reference_M),
    )


def trial_steps(reports: pd.DataFrame, times: Sequence[Any] | pd.Series) -> np.ndarray:
    """Return the number of steps that all replicates together had reported at some times."""
    if reports.empty:
        return np.zeros(len(times), dtype=np.int64)
    rows = reports.sort_values("time", kind="stable", ignore_index=True)
    replicate = [rows["trial"], rows["seed"]]
    highest = rows["step"].groupby(replicate).cummax()
    gained = highest - highest.groupby(replicate).shift(fill_value=0)
    total = np.concatenate([[0], gained.cumsum().to_numpy(dtype=np.int64)])
    return np.asarray(total[rows["time"].searchsorted(pd.Series(times), side="right")])


def _device_hours(runs: Mapping[int, Mapping[str, Any]], live: Container[int], completed: pd.DataFrame) -> np.ndarray:
    """Return device hours, [N]; a run counts from its start to its end, or to its last heartbeat or row."""
    hours_N = np.zeros(len(completed))
    for number, run in runs.items():
        try:
            started = datetime.fromisoformat(str(run["started"])).astimezone(UTC)
            ended = datetime.fromisoformat(str(run.get("finished") or run["heartbeat"])).astimezone(UTC)
            trainers = float(run.get("trainers", 1))
        except (KeyError, ValueError):
            continue
        last = completed["time"].max() if number in live else completed["time"][completed["run"] == number].max()
        until = ended if pd.isna(last) else max(ended, last)
        worked = (completed["time"].clip(upper=until) - started).dt.total_seconds().clip(lower=0.0)
        hours_N += worked.to_numpy() / 3600.0 * trainers
    return hours_N


def _hypervolumes(costs_NM: np.ndarray, reference_M: np.ndarray | None) -> list[float]:
    """Return the hypervolume of the first 1, 2, …, N points."""
    if reference_M is None:
        return [float("nan")] * len(costs_NM)
    front_FM = np.empty((0, len(reference_M)))
    volumes, volume = [], 0.0
    for cost_M in costs_NM:
        # Other points leave the volume as it is.
        if (cost_M < reference_M).all() and not (front_FM <= cost_M).all(axis=1).any():
            front_FM = np.vstack([front_FM[~is_dominated(front_FM, cost_M[None])], cost_M])
            volume = hypervolume(front_FM, reference_M)
        volumes.append(volume)
    return volumes


def _dominated_in_two(costs_N2: np.ndarray, others_K2: np.ndarray) -> np.ndarray:
    """Compute `is_dominated` for two objectives without a loop.

    A point is dominated by the others that precede it in the first objective if their best second objective is better.
    """
    others_K2 = others_K2[np.lexsort(others_K2.T[::-1])]
    best_K = np.minimum.accumulate(others_K2[:, 1])
    first_N, second_N = costs_N2.T
    better_N = np.searchsorted(others_K2[:, 0], first_N, side="left")  # number of others better in the first
    not_worse_N = np.searchsorted(others_K2[:, 0], first_N, side="right")  # number better or equal in the first
    by_better_N = (better_N > 0) & (best_K[better_N - 1] <= second_N)
    by_equal_N = (not_worse_N > 0) & (best_K[not_worse_N - 1] < second_N)
    return np.asarray((by_better_N | by_equal_N) & ~np.isnan(first_N))


def _front_of(costs_NM: np.ndarray) -> np.ndarray:
    """Return the distinct points that no other dominates, [F, M]."""
    front_FM = np.empty((0, costs_NM.shape[1]))
    for cost_M in np.unique(costs_NM, axis=0):  # sorted, so that dominating points come first
        if not (front_FM <= cost_M).all(axis=1).any():
            front_FM = np.vstack([front_FM, cost_M])
    return front_FM


def _dominates(costs_NM: np.ndarray, cost_M: np.ndarray) -> np.ndarray:
    """Return which points dominate `cost_M`, [N]."""
    return np.asarray((costs_NM <= cost_M).all(axis=1) & (costs_NM < cost_M).any(axis=1))


def _front_numbers(costs_NM: np.ndarray) -> np.ndarray:
    """Return the number of each point's front: 0 if no point dominates it, else one more than its last dominator's."""
    rank_N = np.zeros(len(costs_NM), dtype=int)
    order = np.lexsort(costs_NM.T[::-1])  # dominating points come first
    if costs_NM.shape[1] == 2:
        # The point of each front that is best so far in the second objective, then in the first. If any point of a
        # front dominates another point, this one does (Zhang et al., "An Efficient Approach to Nondominated Sorting",
        # 2015).
        best: list[tuple[float, float]] = []
        for index, (first, second) in zip(order.tolist(), costs_NM[order].tolist(), strict=True):
            rank_N[index] = rank = bisect_left(best, (second, first))
            best[rank : rank + 1] = [(second, first)]
        return rank_N
    sorted_NM = costs_NM[order]
    for position, index in enumerate(order):
        dominators = order[:position][_dominates(sorted_NM[:position], sorted_NM[position])]
        rank_N[index] = rank_N[dominators].max(initial=-1) + 1
    return rank_N


def _spread_order(costs_NM: np.ndarray) -> list[int]:
    """Return the indices of a front's points: the best of each objective, then always the farthest from the chosen."""
    lowest_M = costs_NM.min(axis=0)
    range_M = costs_NM.max(axis=0) - lowest_M
    scaled_NM = (costs_NM - lowest_M) / np.where(range_M > 0, range_M, 1.0)
    chosen: list[int] = []
    distance_N = np.full(len(costs_NM), np.inf)  # to the nearest chosen point; -1 for chosen points
    extremes = [int(best) for best in scaled_NM.argmin(axis=0)]
    for _ in range(len(costs_NM)):
        index = next((best for best in extremes if best not in chosen), int(distance_N.argmax()))
        chosen.append(index)
        distance_N = np.minimum(distance_N, np.linalg.norm(scaled_NM - scaled_NM[index], axis=1))
        distance_N[chosen] = -1.0
    return chosen


def _volume(costs_NM: np.ndarray, reference_M: np.ndarray) -> float:
    """Add up slices along the last objective; each reaches to the next point."""
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
            thickness * _volume(costs_NM[: position + 1, :-1], reference_M[:-1])
            for position, thickness in enumerate(thickness_N)
            if thickness > 0
        )
    )


def _area(costs_N2: np.ndarray, reference_2: np.ndarray) -> float:
    """Sweep along the first objective: each point adds a rectangle as high as it lowers the second objective."""
    first_N, second_N = costs_N2[np.lexsort(costs_N2.T[::-1])].T
    best_before_N = np.minimum.accumulate(np.concatenate([reference_2[1:], second_N[:-1]]))
    return float(((reference_2[0] - first_N) * np.maximum(best_before_N - second_N, 0.0)).sum())
