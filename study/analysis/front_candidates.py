"""Which complete trials are on the front, and which may belong to it as far as the spread over seeds lets one say."""

from typing import NamedTuple

import numpy as np
import pandas as pd

from study.analysis.pareto import costs_of, dominated
from study.spec import Spec

__all__ = ["Contenders", "contenders"]


class Contenders(NamedTuple):
    """Complete trials by number.

    Attributes:
        front: those that no other beats.
        near: whose means, improved by one standard deviation in every objective, no complete trial's means dominate.
        unjudged: whose values cannot be read.
    """

    front: list[int]
    near: list[int]
    unjudged: list[int]


def contenders(results: pd.DataFrame, spec: Spec) -> Contenders:
    """The front of a table of results, and who may belong to it."""
    complete = results[results["state"] == "complete"]
    costs_NM = costs_of(complete, spec.objectives)
    is_judged_N = np.isfinite(costs_NM).all(axis=1)
    if "step" in complete:
        is_judged_N &= (complete["step"] == spec.train.steps).to_numpy()
    trials_N, costs_NM = complete["trial"].to_numpy()[is_judged_N], costs_NM[is_judged_N]
    spread_NM = complete[is_judged_N].reindex(columns=[f"{name}/sd" for name in spec.objectives]).to_numpy(dtype=float)
    is_front_N = ~dominated(costs_NM, costs_NM)
    is_near_N = ~dominated(costs_NM - np.nan_to_num(spread_NM), costs_NM) & ~is_front_N
    groups = (trials_N[is_front_N], trials_N[is_near_N], complete["trial"].to_numpy()[~is_judged_N])
    return Contenders(*([int(trial) for trial in group] for group in groups))
