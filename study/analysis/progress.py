"""How a study's front grew, and what that cost: one row for each trial that completed.

Computed from tables alone, whole columns at a time; a study may have ten thousand trials.
"""

from collections.abc import Container, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pandas as pd

from study.analysis.pareto import costs_of, dominated, hypervolume

__all__ = ["progress_of", "reference_of", "trial_steps"]

_COLUMNS = ["time", "trial", "complete", "trial_steps", "device_hours", "hypervolume"]
_S_PER_HOUR = 3600.0


def reference_of(baselines: Mapping[str, Any] | None, objectives: Mapping[str, str]) -> np.ndarray | None:
    """Costs of the untrained network, [M]; none when one of them is not known."""
    scores = (baselines or {}).get("untrained", {})
    reference_M = costs_of(pd.DataFrame([scores]), objectives)[0]
    return reference_M if np.isfinite(reference_M).all() else None


def progress_of(
    completed: pd.DataFrame,
    reports: pd.DataFrame,
    runs: Mapping[int, Mapping[str, Any]],
    live: Container[int],
    objectives: Mapping[str, str],
    reference_M: np.ndarray | None,
) -> pd.DataFrame:
    """Complete trials, and what they cost, over time.

    Args:
        completed: `trial`, `time`, `run` and the means of the objectives of each complete trial.
        reports: `trial`, `seed`, `step` and `time` of all reports.
        runs: by number.
        live: which of them are at work.
        objectives: with the direction of each.
        reference_M: costs of the untrained network; without it there is no hypervolume.

    Returns:
        A row a trial, by time: `time`; `trial`; `complete`, how many there were then; `trial_steps` that all replicates
        had reported; `device_hours`, for how long runs had run times the trainers of each; `hypervolume` of the
        front between it and the untrained network, in the product of the objectives' units.
    """
    if completed.empty:
        return pd.DataFrame(columns=_COLUMNS)
    completed = completed.sort_values("time", kind="stable", ignore_index=True)
    return pd.DataFrame(
        {
            "time": completed["time"],
            "trial": completed["trial"],
            "complete": np.arange(1, len(completed) + 1),
            "trial_steps": trial_steps(reports, completed["time"]),
            "device_hours": _device_hours(runs, live, completed),
            "hypervolume": _hypervolumes(costs_of(completed, objectives), reference_M),
        }
    )


def trial_steps(reports: pd.DataFrame, times: Sequence[Any] | pd.Series) -> np.ndarray:
    """Steps that replicates had trained by some times, as far as they had reported: the highest of each, added up."""
    if reports.empty:
        return np.zeros(len(times), dtype=np.int64)
    rows = reports.sort_values("time", kind="stable", ignore_index=True)
    replicate = [rows["trial"], rows["seed"]]
    highest = rows["step"].groupby(replicate).cummax()
    gained = highest - highest.groupby(replicate).shift(fill_value=0)
    total = np.concatenate([[0], gained.cumsum().to_numpy(dtype=np.int64)])
    reached: np.ndarray = total[rows["time"].searchsorted(pd.Series(times), side="right")]
    return reached


def _device_hours(runs: Mapping[int, Mapping[str, Any]], live: Container[int], completed: pd.DataFrame) -> np.ndarray:
    """Each run counts from its start to its end, or to its last sign of life."""
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
        hours_N += worked.to_numpy() / _S_PER_HOUR * trainers
    return hours_N


def _hypervolumes(costs_NM: np.ndarray, reference_M: np.ndarray | None) -> list[float]:
    """Of the front of the first one, two, three … points."""
    if reference_M is None:
        return [float("nan")] * len(costs_NM)
    front_FM = np.empty((0, len(reference_M)))
    volumes, volume = [], 0.0
    for cost_M in costs_NM:
        # Only a point that is better than the reference and not worse than the front changes it.
        if (cost_M < reference_M).all() and not (front_FM <= cost_M).all(axis=1).any():
            front_FM = np.vstack([front_FM[~dominated(front_FM, cost_M[None])], cost_M])
            volume = hypervolume(front_FM, reference_M)
        volumes.append(volume)
    return volumes
