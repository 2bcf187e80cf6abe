"""Deletion of weights far from the front, and of objects that killed writers have left."""

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from rich.table import Table

from marl.checkpoint import STATE_FILE
from study.analysis import StudyResults
from study.analysis.pareto import FrontCandidates, front_candidates
from study.formatting import format_bytes
from study.store.lease import check_no_live_run

__all__ = ["CleanupPlan", "Deletion", "clean_up", "cleanup_table", "kept_line", "plan_cleanup"]

_FAR, _ENDED_EARLY, _LEFT_BEHIND = (
    "weights far from the front",
    "checkpoints of trials that were stopped or failed",
    "left behind by a writer that was killed",
)
_OBJECT = re.compile(r"checkpoints/(?P<trial>\d+)/(?P<seed>\d+)/(?P<step>\d+)/(?P<file>[^/]+)")


class Deletion(NamedTuple):
    """Objects of a trial to delete.

    Attributes:
        trial: Number of the trial.
        prefix: Name of the object, or prefix of the names, within the study.
        reason: Why they can be deleted.
        objects: Number of objects.
        size: Their size in bytes.
    """

    trial: int
    prefix: str
    reason: str
    objects: int
    size: int


class CleanupPlan(NamedTuple):
    """What to delete, and the complete trials whose weights stay."""

    deletions: list[Deletion]
    kept: FrontCandidates


def plan_cleanup(results: StudyResults) -> CleanupPlan:
    """Return what can be deleted. Weights of front candidates stay, and all of trials that run or were interrupted.

    Raises:
        UserError: If the study is running.
    """
    check_no_live_run(results.store, results.runs)
    table = results.results()
    states = dict(zip(table["trial"].astype(int), table["state"], strict=True))
    candidates = front_candidates(table, results.spec)
    sizes: dict[int, dict[str, int]] = {}
    for name, size in results.store.checkpoint_sizes().items():
        if match := _OBJECT.fullmatch(name):
            sizes.setdefault(int(match["trial"]), {})[name] = size
    deletions: list[Deletion] = []
    for trial, by_name in sorted(sizes.items()):
        state = states.get(trial)
        if any(trial in trials for trials in candidates):
            deletions += _left_behind(results, trial, by_name)
        elif state in ("complete", "pruned", "failed"):
            reason = _FAR if state == "complete" else _ENDED_EARLY
            deletions.append(Deletion(trial, f"checkpoints/{trial}", reason, len(by_name), sum(by_name.values())))
    return CleanupPlan(deletions, candidates)


def clean_up(results: StudyResults, plan: CleanupPlan) -> None:
    """Delete what is planned. The store first records the complete trials whose weights are deleted."""
    for deletion in plan.deletions:
        if deletion.reason == _FAR:
            results.store.write_discarded(deletion.trial)
        results.store.objects.delete(f"{results.store.name}/{deletion.prefix}")


def cleanup_table(plan: CleanupPlan, dry_run: bool) -> Table:
    """Return a table of deletions by reason."""
    table = Table(box=None, pad_edge=False, header_style="bold", show_footer=True)
    mood = "would be " if dry_run else ""
    table.add_column(f"{mood}deleted", f"{mood}freed", no_wrap=True)
    for heading, total in zip(("trials", "objects", "size"), _totals(plan.deletions), strict=True):
        table.add_column(heading, total, justify="right", no_wrap=True)
    for reason in (_FAR, _ENDED_EARLY, _LEFT_BEHIND):
        if chosen := [deletion for deletion in plan.deletions if deletion.reason == reason]:
            table.add_row(reason, *_totals(chosen))
    return table


def kept_line(plan: CleanupPlan) -> str:
    """Return a sentence about the trials whose weights stay."""
    groups = zip(("on the front", "near it", "without final values of all objectives"), plan.kept, strict=True)
    counts = [f"{len(trials)} {where}" for where, trials in groups if trials]
    return f"kept the weights of {sum(map(len, plan.kept))} trials" + (f": {', '.join(counts)}" if counts else "")


def _totals(deletions: Sequence[Deletion]) -> tuple[str, str, str]:
    """Return the number of trials, the number of objects and their size, as text."""
    objects, size = sum(deletion.objects for deletion in deletions), sum(deletion.size for deletion in deletions)
    return str(len({deletion.trial for deletion in deletions})), f"{objects:,}", format_bytes(size)


def _left_behind(results: StudyResults, trial: int, sizes: dict[str, int]) -> Iterator[Deletion]:
    """Yield checkpoints before the last one of a kept trial, and optimiser states that the last one does not name."""
    full_budget = results.spec.train.steps
    for name, size in sizes.items():
        match = _OBJECT.fullmatch(name)
        if match is None or (int(match["step"]) == full_budget and match["file"] != STATE_FILE):
            continue
        step, last = int(match["step"]), results.store.checkpoint_files(trial, int(match["seed"]), full_budget)
        # Without a checkpoint at the full budget, the earlier ones are all that the trial has.
        if last is not None and (step < full_budget or (step == full_budget and STATE_FILE not in last)):
            yield Deletion(trial, name, _LEFT_BEHIND, 1, size)
