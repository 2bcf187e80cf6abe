"""Growth of a study's front over time, and its cost. M is objectives, N complete trials, F trials of a front."""

from collections.abc import Container, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pandas as pd

from study.analysis.pareto import hypervolume, is_dominated, to_costs

__all__ = ["front_progress", "reference_point", "trial_steps"]


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
