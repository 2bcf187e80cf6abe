"""Deletes weights that nobody will look at; keeps those of the front, and of trials that may belong to it."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
from rich.table import Table

from marl.checkpoint import STATE_FILE
from study.pareto import dominated
from study.progress import costs_of
from study.recorder import refuse_if_live
from study.results import StudyResults
from study.tables import format_bytes

__all__ = ["Deletion", "Plan", "kept_line", "plan_prune", "prune", "prune_table"]

_FAR, _ENDED_EARLY, _LEFT_BEHIND = (
    "weights far from the front",
    "checkpoints of trials that were stopped or failed",
    "left behind by a writer that was killed",
)
_OBJECT = re.compile(r"checkpoints/(?P<trial>\d+)/(?P<seed>\d+)/(?P<step>\d+)/(?P<file>[^/]+)")


@dataclass(frozen=True)
class Deletion:
    """What goes together: an object, or all under a prefix.

    Attributes:
        trial: whose it is.
        prefix: in the study.
        why: it goes.
        objects: how many these are.
        size: their bytes.
    """

    trial: int
    prefix: str
    why: str
    objects: int
    size: int


@dataclass(frozen=True)
class Plan:
    """What to delete, and the complete trials whose weights stay.

    Attributes:
        deletions: all of them.
        front: trials on the front.
        near: others that may belong to it.
        unjudged: complete trials whose values cannot be read.
    """

    deletions: list[Deletion]
    front: list[int]
    near: list[int]
    unjudged: list[int]


def plan_prune(results: StudyResults) -> Plan:
    """What can be deleted of a study.

    Near the front is a complete trial whose means, improved by one standard deviation in every objective, no complete
    trial's means dominate. Trials that run or were interrupted are left alone.

    Raises:
        UserError: when the study is being run.
    """
    refuse_if_live(results.store.name, results.launches)
    table = results.results()
    states = dict(zip(table["trial"].astype(int), table["state"], strict=True))
    front, near, unjudged = _kept(results, table[table["state"] == "complete"])
    kept = {*front, *near, *unjudged}
    objects: dict[int, dict[str, int]] = {}
    for name, size in results.store.checkpoint_sizes().items():
        if match := _OBJECT.fullmatch(name):
            objects.setdefault(int(match["trial"]), {})[name] = size
    deletions: list[Deletion] = []
    for trial, sizes in sorted(objects.items()):
        state = states.get(trial)
        if trial in kept:
            deletions += _left_behind(results, trial, sizes)
        elif state in ("complete", "pruned", "failed"):
            why = _FAR if state == "complete" else _ENDED_EARLY
            deletions.append(Deletion(trial, f"checkpoints/{trial}", why, len(sizes), sum(sizes.values())))
    return Plan(deletions, front, near, unjudged)


def prune(results: StudyResults, plan: Plan) -> None:
    """Delete what is planned. That weights of a complete trial were deleted is noted before they are."""
    for deletion in plan.deletions:
        if deletion.why == _FAR:
            results.store.write_discarded(deletion.trial)
        results.store.objects.delete(f"{results.store.name}/{deletion.prefix}")


def prune_table(plan: Plan, dry_run: bool) -> Table:
    """What goes, and why."""
    table = Table(box=None, pad_edge=False, header_style="bold", show_footer=True)
    table.add_column(
        "would be deleted" if dry_run else "deleted", "would be freed" if dry_run else "freed", no_wrap=True
    )
    for heading, total in zip(("trials", "objects", "size"), _counts(plan.deletions), strict=True):
        table.add_column(heading, total, justify="right", no_wrap=True)
    for why in (_FAR, _ENDED_EARLY, _LEFT_BEHIND):
        chosen = [deletion for deletion in plan.deletions if deletion.why == why]
        if chosen:
            table.add_row(why, *_counts(chosen))
    return table


def kept_line(plan: Plan) -> str:
    """What stays, and why."""
    kinds = {"on the front": plan.front, "near it": plan.near, "without values to judge by": plan.unjudged}
    parts = [f"{len(trials)} {where}" for where, trials in kinds.items() if trials]
    kept = f"kept the weights of {sum(map(len, kinds.values()))} trials"
    return f"{kept}: {', '.join(parts)}" if parts else kept


def _counts(deletions: Iterable[Deletion]) -> tuple[str, str, str]:
    deletions = list(deletions)
    trials = {deletion.trial for deletion in deletions}
    objects, size = sum(one.objects for one in deletions), sum(one.size for one in deletions)
    return str(len(trials)), f"{objects:,}", format_bytes(size)


def _kept(results: StudyResults, complete: pd.DataFrame) -> tuple[list[int], list[int], list[int]]:
    """Complete trials on the front, near it, and those that cannot be judged."""
    objectives = results.spec.objectives
    costs_NM = costs_of(complete, objectives)
    is_judged_N = np.isfinite(costs_NM).all(axis=1)
    if "step" in complete:
        is_judged_N &= (complete["step"] == results.spec.train.steps).to_numpy()
    trials_N, costs_NM = complete["trial"].to_numpy()[is_judged_N], costs_NM[is_judged_N]
    spread_NM = complete[is_judged_N].reindex(columns=[f"{name}/sd" for name in objectives]).to_numpy(dtype=float)
    is_front_N = ~dominated(costs_NM, costs_NM)
    is_near_N = ~dominated(costs_NM - np.nan_to_num(spread_NM), costs_NM) & ~is_front_N
    groups = (trials_N[is_front_N], trials_N[is_near_N], complete["trial"].to_numpy()[~is_judged_N])
    front, near, unjudged = ([int(trial) for trial in group] for group in groups)
    return front, near, unjudged


def _left_behind(results: StudyResults, trial: int, sizes: dict[str, int]) -> Iterator[Deletion]:
    """Of a trial whose weights stay: checkpoints before the last, and an optimiser state that is no part of that."""
    steps = results.spec.train.steps
    for name, size in sizes.items():
        match = _OBJECT.fullmatch(name)
        if match is None or (int(match["step"]) == steps and match["file"] != STATE_FILE):
            continue
        last = results.store.checkpoint_files(trial, int(match["seed"]), steps)
        # Without its end, the rest is all there is.
        if last is not None and int(match["step"]) <= steps and (int(match["step"]) < steps or STATE_FILE not in last):
            yield Deletion(trial, name, _LEFT_BEHIND, 1, size)
