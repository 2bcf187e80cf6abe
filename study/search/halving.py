"""Asynchronous successive halving for several objectives: which trials continue at a rung.

A trial at a rung is compared with the trials that reached the rung before it, by the objectives, and continues if it is
among the best fraction of them. No trial waits for another one: Li et al., "A System for Massively Parallel
Hyperparameter Tuning", MLSys 2020, in the variant that stops a trial at a rung instead of pausing it for a later
promotion. Several objectives are ordered by non-dominated fronts, and within a front by spread: Schmucker et al.,
"Multi-objective Asynchronous Successive Halving", arXiv:2106.12639, 2021.

N trials at a rung, M objectives.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler, TrialScheduler

from study.analysis.pareto import is_in_top
from study.spec import Baseline, Spec


class Rungs:
    """The trials that reached each rung, and which of them continued: one in `reduction_factor` at each rung."""

    def __init__(self, steps: Sequence[int], reduction_factor: int, objectives: Mapping[str, str]) -> None:
        self.steps = tuple(steps)
        self._reduction_factor = reduction_factor
        self._signs = {name: 1.0 if mode == "min" else -1.0 for name, mode in objectives.items()}
        self._costs: dict[int, list[list[float]]] = {step: [] for step in steps}
        self._decisions: dict[tuple[int, int], bool] = {}

    def continues(self, trial: int, step: int, values: Mapping[str, Any]) -> bool:
        """Record a trial at a rung and return whether it continues. A second call for it returns the same.

        A trial continues if it is among the best ceil(n / reduction_factor) of the n trials at the rung so far, itself
        included. The first trial continues, and the second one only if it is better. A trial with a value that is not
        finite, or missing from the columns of its report, never continues.
        """
        if (trial, step) not in self._decisions:
            costs_NM = self._costs[step]
            report = ((values.get(name), sign) for name, sign in self._signs.items())
            costs_NM.append([math.nan if value is None else sign * float(value) for value, sign in report])
            count = math.ceil(len(costs_NM) / self._reduction_factor)
            is_finite = all(map(math.isfinite, costs_NM[-1]))
            self._decisions[trial, step] = is_finite and is_in_top(np.array(costs_NM), len(costs_NM) - 1, count)
        return self._decisions[trial, step]


def rungs_so_far(spec: Spec, reports: pd.DataFrame) -> Rungs | None:
    """Return the rungs of a study with its reports so far, in the order of writing; None without halving."""
    if spec.halving is None:
        return None
    rungs = Rungs(spec.rungs(), spec.halving.reduction_factor, spec.objectives)
    if len(reports):
        is_at_rung = (reports["seed"] == 0) & reports["step"].isin(rungs.steps)
        # Reports of older code lack objectives at rungs.
        has_objectives = reports.reindex(columns=list(spec.objectives)).notna().all(axis=1)
        for row in reports[is_at_rung & has_objectives].to_dict("records"):
            rungs.continues(int(row["trial"]), int(row["step"]), row)
    return rungs


class HalvingScheduler(FIFOScheduler):
    """Stops trials at rungs, by the report of seed 0. Trials start in the order of the searcher."""

    def __init__(self, rungs: Rungs) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # Ray's
        self._rungs = rungs

    def on_trial_result(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> str:
        """Return whether Tune stops or continues a trial."""
        step = result.get("step")
        if "failed" in result or step not in self._rungs.steps or isinstance(result["trial"], Baseline):
            return str(TrialScheduler.CONTINUE)
        row = next(row for row in result["rows"] if row["seed"] == 0 and row["step"] == step)
        continues = self._rungs.continues(result["trial"], step, row)
        return str(TrialScheduler.CONTINUE if continues else TrialScheduler.STOP)

    def __getstate__(self) -> dict[str, Any]:
        """Return nothing to Tune, which pickles all its components; a study never resumes from that."""
        return {}
