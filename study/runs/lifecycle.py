"""Life cycle of a stored study: its creation, and the deletion of weights that are far from its front.

Ray, which takes seconds to import, is imported only to plan for a cluster.
"""

import re
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import NamedTuple

from rich.table import Table

from marl.checkpoint import STATE_FILE
from study.analysis import StudyResults
from study.analysis.pareto import FrontCandidates, front_candidates
from study.datasets import check_pairs
from study.environment import commit, package_versions
from study.errors import UserError, command_for, is_command_line, option
from study.formatting import format_bytes
from study.search.sampler import past_trials
from study.spec import parse_spec
from study.spec.plugins import load_recorded
from study.spec.resolve import resolve
from study.spec.resolved_spec import ResolvedSpec, StackPlan
from study.storage import ObjectStore
from study.store import StudyMetadata, StudyStore
from study.store.layout import incompatible
from study.store.lease import check_no_live_run
from study.training.planning import DeviceType, device_type, plan_stacks

_FAR, _ENDED_EARLY, _LEFT_BEHIND = (
    "weights far from the front",
    "checkpoints of trials that were stopped or failed",
    "left behind by a writer that was killed",
)
_OBJECT = re.compile(r"checkpoints/(?P<trial>\d+)/(?P<seed>\d+)/(?P<step>\d+)/(?P<file>[^/]+)")


def create_study(store: StudyStore, resolved: ResolvedSpec, address: str | None = None) -> StudyMetadata:
    """Write the metadata of a study, unless the study exists with the same spec.

    Args:
        store: Where the study will be.
        resolved: Spec of the study.
        address: Address of the cluster for whose devices the stacks are planned; None for this machine.

    Raises:
        UserError: If the store is not writable, or has a study of this name with another spec; or if too many clips
            cannot be paired.
    """
    store.objects.check_writable()
    if store.exists():
        metadata = store.metadata()
        if (existing := spec_of(metadata)) != resolved:
            old, new = (spec.model_dump(mode="json") for spec in (existing.spec, resolved.spec))
            names = [name for name in old if old[name] != new[name]]
            exists = f"study {store.name!r} is already in {store.objects.uri}"
            if names == ["search"] and old["search"] | {"trials": new["search"]["trials"]} == new["search"]:
                trials = new["search"]["trials"]
                resume = command_for(store.uri, "resume", trials=trials)
                raise UserError(f"{exists}; to bring it to {trials} trials, use `{resume}`")
            rename = "--set name=NAME" if is_command_line() else 'overrides={"name": NAME}'
            raise UserError(
                f"{exists} with another spec ({', '.join(names[:3])} differ{'s' if len(names) == 1 else ''}); rename "
                f"this one with {rename}, or resume the existing one with `{command_for(store.uri, 'resume')}`"
            )
        return metadata
    check_pairs(resolved, store.objects)
    if address is None:
        plan = plan_stacks(resolved, device_type(), store.objects)
    else:
        plan = _plan_on_cluster(address, resolved, store.objects)
    metadata = StudyMetadata(
        spec=resolved.spec,
        stack=plan.model_dump(mode="json"),
        factors=resolved.factors,
        created=datetime.now(UTC),
        writer=" of commit ".join(filter(None, (package_versions()["marl-study"], commit()))),
        plugins=[source.model_dump() for source in resolved.plugins],
    )
    store.create(metadata)
    return metadata


def spec_of(metadata: StudyMetadata) -> ResolvedSpec:
    """Return the spec of a study with all current fields; newer fields have the values that older code implied.

    Its plug-ins are imported, if their sources are those with which the study started.

    Raises:
        UserError: If the spec has a field that this version does not know, or `load_recorded` raises it.
    """
    load_recorded(metadata.spec, metadata.plugins)
    try:
        return resolve(metadata.spec)
    except UserError as error:
        raise incompatible(metadata.spec, metadata.writer, str(error)) from None


def confirmation_spec(results: StudyResults, replicates: int) -> ResolvedSpec:
    """Return a spec that trains the front of a study again, in its order, under the next unused seeds.

    The best of many trials are partly the luckiest ones; their values under new seeds are unbiased.

    Raises:
        UserError: If the study has no front yet, or its name is too long to append to.
    """
    spec = results.spec
    parameters = {trial.number: trial.parameters for trial in past_trials(results)}
    front = [parameters[int(trial)] for trial in results.front()["trial"]]
    if not front:
        raise UserError(f"{option('confirm')}: study {spec.name!r} has no complete trial yet, so no front")
    changes = {
        "name": f"{spec.name}-confirmed",
        "replicates": replicates,
        "first_seed": spec.seeds.stop,
        "include": front,
        "halving": None,
        "search": {"sampler": "random", "trials": len(front), "seed": spec.search.seed},
    }
    return ResolvedSpec(parse_spec(spec.model_dump(mode="json", exclude_none=True) | changes, option("confirm")))


def _plan_on_cluster(address: str, resolved: ResolvedSpec, objects: ObjectStore) -> StackPlan:
    """Plan the stacks on a device of a cluster, once there is one."""
    import ray

    from study.runs.ray_cluster import ray_session
    from study.training.nodes import ResourcePlan

    with ray_session(address):
        resources = ResourcePlan(objects.uri, resolved.spec, lanes=1, target=1, is_shared=True)
        on_gpu = resources.device == "cuda"
        task = ray.remote(num_cpus=0 if on_gpu else 1, num_gpus=1 if on_gpu else 0)(_plan)
        plan: StackPlan = ray.get(task.remote(resolved, resources.device, objects.uri))
    return plan


def _plan(resolved: ResolvedSpec, device: DeviceType, store_uri: str) -> StackPlan:
    return plan_stacks(resolved, device, ObjectStore(store_uri))


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
    """Return the number of trials, the number of objects and the total size of some deletions, as three strings."""
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
