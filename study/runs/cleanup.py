"""Deletes weights that nobody will look at; keeps those of the front, and of trials that may belong to it."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from rich.table import Table

from marl.checkpoint import STATE_FILE
from study.analysis import StudyResults
from study.analysis.pareto import FrontCandidates, front_candidates
from study.formatting import format_bytes
from study.store.lease import check_no_live_run

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
    """What to delete, and what stays.

    Attributes:
        deletions: all of them.
        kept: the complete trials whose weights stay.
    """

    deletions: list[Deletion]
    kept: FrontCandidates


def plan_prune(results: StudyResults) -> Plan:
    """What can be deleted of a study.

    Weights of front candidates stay (`study.analysis.pareto.FrontCandidates`). Trials that run or were interrupted are
    left alone.

    Raises:
        UserError: when the study is being run.
    """
    check_no_live_run(results.store, results.runs)
    table = results.results()
    states = dict(zip(table["trial"].astype(int), table["state"], strict=True))
    found = front_candidates(table, results.spec)
    kept = {*found.front, *found.near, *found.unranked}
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
    return Plan(deletions, found)


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
    kinds = dict(zip(("on the front", "near it", "without values to judge by"), plan.kept, strict=True))
    parts = [f"{len(trials)} {where}" for where, trials in kinds.items() if trials]
    kept = f"kept the weights of {sum(map(len, kinds.values()))} trials"
    return f"{kept}: {', '.join(parts)}" if parts else kept


def _counts(deletions: Iterable[Deletion]) -> tuple[str, str, str]:
    deletions = list(deletions)
    trials = {deletion.trial for deletion in deletions}
    objects, size = sum(one.objects for one in deletions), sum(one.size for one in deletions)
    return str(len(trials)), f"{objects:,}", format_bytes(size)


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
