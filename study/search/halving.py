"""Asynchronous successive halving for several objectives: which trials go on at a rung.

At each rung a trial is compared with those that were there before it, by values that are cheap and known early, and
goes on if it is among the best part of them. Nobody waits for anybody: Li et al., "A System for Massively Parallel
Hyperparameter Tuning", MLSys 2020, in the variant that stops a trial when it arrives instead of pausing it to be
promoted later. With several objectives the order is that of fronts, spread within each: Schmucker et al.,
"Multi-objective Asynchronous Successive Halving", arXiv:2106.12639, 2021.

N is trials at a rung, M objectives.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler, TrialScheduler

from study.analysis.pareto import is_in_top
from study.spec import Baseline, Spec, proxy_metric

__all__ = ["HalvingScheduler", "Rungs", "rungs_so_far"]


class Rungs:
    """What is known of the trials at each rung, and which of them went on.

    Args:
        steps: of the rungs.
        reduction: at each rung one trial in so many goes on.
        objectives: `min` or `max` by name.
    """

    def __init__(self, steps: Sequence[int], reduction: int, objectives: Mapping[str, str]) -> None:
        self.steps = tuple(steps)
        self._reduction = reduction
        self._signs = {proxy_metric(name): 1.0 if mode == "min" else -1.0 for name, mode in objectives.items()}
        self._costs: dict[int, list[list[float]]] = {step: [] for step in steps}
        self._verdicts: dict[tuple[int, int], bool] = {}

    def goes_on(self, trial: int, step: int, values: Mapping[str, Any]) -> bool:
        """Record a trial at a rung and say whether it goes on; one that was there before is told the same again.

        It goes on if it is among the first ceil(n / reduction) of the n trials that have come so far, itself included.
        So the first of all goes on, the second only if it is better. What is not finite never does.

        Args:
            trial: its number.
            step: of the rung.
            values: columns of a report; one that it lacks is not finite.
        """
        if (trial, step) not in self._verdicts:
            costs_NM = self._costs[step]
            costs_NM.append([sign * _number(values.get(name)) for name, sign in self._signs.items()])
            count = math.ceil(len(costs_NM) / self._reduction)
            is_finite = all(map(math.isfinite, costs_NM[-1]))
            self._verdicts[trial, step] = is_finite and is_in_top(np.array(costs_NM), len(costs_NM) - 1, count)
        return self._verdicts[trial, step]


def rungs_so_far(spec: Spec, reports: pd.DataFrame) -> Rungs | None:
    """The rungs of a study as its reports, in the order in which they came, have filled them; none without halving."""
    if spec.halving is None:
        return None
    rungs = Rungs(spec.rungs(), spec.halving.reduction_factor, spec.objectives)
    if len(reports):
        judged = (reports["seed"] == 0) & reports["step"].isin(rungs.steps)
        for row in reports[judged].to_dict("records"):
            rungs.goes_on(int(row["trial"]), int(row["step"]), row)
    return rungs


class HalvingScheduler(FIFOScheduler):
    """Stops trials at rungs, by the report of seed 0; otherwise first come, first served.

    Args:
        rungs: as they are before the first trial.
    """

    def __init__(self, rungs: Rungs) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # Ray's
        self._rungs = rungs

    def on_trial_result(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> str:
        """Stop or go on."""
        step = result.get("step")
        if "failed" in result or step not in self._rungs.steps or isinstance(result["trial"], Baseline):
            return str(TrialScheduler.CONTINUE)
        row = next(row for row in result["rows"] if row["seed"] == 0 and row["step"] == step)
        goes_on = self._rungs.goes_on(result["trial"], step, row)
        return str(TrialScheduler.CONTINUE if goes_on else TrialScheduler.STOP)

    def __getstate__(self) -> dict[str, Any]:
        """Nothing, when Tune pickles all that it was given: a study is never restored from that."""
        return {}


def _number(value: Any) -> float:
    return float(value) if value is not None else math.nan
