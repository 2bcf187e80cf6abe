"""Split a recorded study into phases: duration, training speed, and use of the time of each.

The start ends with the first training step, the filling when all lanes are taken, the steady state when the last trial
has started, the tail with the last step, and the end when Ray has stopped.
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd

_NAMES = ("start", "filling", "steady", "tail", "end")


def sample(time: float, answers: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the sums over all trainers of their answers to `study.training.trainer.Trainer.progress`."""
    return {
        "time": time,
        "trainers": len(answers),
        "replicates": sum(len(answer["replicates"]) for answer in answers),
        "trained_steps": sum(answer["trained_steps"] for answer in answers),
        "lane_steps": sum(answer["lane_steps"] for answer in answers),
        **{f"seconds/{kind}": sum(one["seconds"][kind] for one in answers) for kind in answers[0]["seconds"]},
    }


def phases(
    samples: Sequence[Mapping[str, Any]], lanes: int, last_start: float, ended: float
) -> dict[str, dict[str, Any]]:
    """Return the statistics of each phase and of the whole, interpolating between samples.

    Args:
        samples: Results of `sample`; times are seconds since the start of the command.
        lanes: Lanes of all trainers.
        last_start: Time of the last trial's start.
        ended: Time when Ray had stopped.

    Returns:
        `seconds`, `trial_steps`, `trial_steps_per_second`, `trial_steps_per_training_second`,
        `useful_share_of_lane_steps` and the `share_of_time` of the trainers' activities; None if a divisor is zero.
    """
    table = pd.DataFrame(samples).set_index("time")
    trained = table["trained_steps"]
    if not trained.any():
        raise ValueError("nothing was trained")
    kinds = [name for name in table if name.startswith("seconds/")]
    first = trained.ne(0).idxmax()
    # A trainer counts from its first step, which may be earlier than the first request for its progress.
    first_step = first - table.loc[first, kinds].drop("seconds/idle").sum() / table.loc[first, "trainers"]
    full = max(first_step, min(table.index[table["replicates"] >= lanes], default=table.index[-1]))
    last_start = max(last_start, full)
    last_step = max(trained.eq(trained.iloc[-1]).idxmax(), last_start)

    def between(name: str, start: float, end: float) -> float:
        counts = table[name]
        if name.endswith("_steps"):
            counts = pd.concat([pd.Series({first_step: 0}), counts.loc[first:]])
        return float(np.diff(np.interp([start, end], counts.index, counts))[0])

    borders = [0.0, first_step, full, last_start, last_step, ended]
    found: dict[str, dict[str, Any]] = {}
    for name, (start, end) in zip((*_NAMES, "whole"), (*pairwise(borders), (0.0, ended)), strict=True):
        steps, lane_steps = between("trained_steps", start, end), between("lane_steps", start, end)
        seconds = {kind.removeprefix("seconds/"): between(kind, start, end) for kind in kinds}
        spent, training = sum(seconds.values()), seconds["training"]
        found[name] = {
            "seconds": end - start,
            "trial_steps": steps,
            "trial_steps_per_second": steps / (end - start) if end > start else None,
            "trial_steps_per_training_second": steps / training if training else None,
            "useful_share_of_lane_steps": steps / lane_steps if lane_steps else None,
            "share_of_time": {kind: value / spent for kind, value in seconds.items()} if spent else {},
        }
    return found
