"""Creation of studies. Ray, which takes seconds to import, is imported only to plan for a cluster."""

from datetime import UTC, datetime

from study.analysis import StudyResults
from study.datasets.load import check_pairs
from study.environment import commit, package_versions
from study.errors import UserError, command_for
from study.search.sampler import past_trials
from study.spec import parse_spec
from study.spec.resolve import resolve
from study.spec.resolved_spec import ResolvedSpec, StackPlan
from study.storage import ObjectStore
from study.store import StudyMetadata, StudyStore
from study.store.layout import incompatible
from study.training.planning import DeviceType, device_type, plan_stacks

__all__ = ["confirmation_spec", "create_study", "spec_of"]


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
            resume, exists = command_for(store.uri, "resume"), f"study {store.name!r} is already in {store.objects.uri}"
            if names == ["search"] and old["search"] | {"trials": new["search"]["trials"]} == new["search"]:
                trials = new["search"]["trials"]
                raise UserError(f"{exists}; to bring it to {trials} trials, use `{resume} --trials {trials}`")
            raise UserError(
                f"{exists} with another spec ({', '.join(names[:3])} differ{'s' if len(names) == 1 else ''}); rename "
                f"this one with --set name=NAME, or resume the existing one with `{resume}`"
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
    )
    store.create(metadata)
    return metadata


def spec_of(metadata: StudyMetadata) -> ResolvedSpec:
    """Return the spec of a study with all current fields; newer fields have the values that older code implied.

    Raises:
        UserError: If the spec has a field that this version does not know.
    """
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
        raise UserError(f"--confirm: study {spec.name!r} has no complete trial yet, so no front")
    changes = {
        "name": f"{spec.name}-confirmed",
        "replicates": replicates,
        "first_seed": spec.seeds.stop,
        "include": front,
        "halving": None,
        "search": {"sampler": "random", "trials": len(front), "seed": spec.search.seed},
    }
    return ResolvedSpec(parse_spec(spec.model_dump(mode="json", exclude_none=True) | changes, "--confirm"))


def _plan_on_cluster(address: str, resolved: ResolvedSpec, objects: ObjectStore) -> StackPlan:
    """Plan the stacks on a device of a cluster, once there is one."""
    import ray

    from study.runs.ray_cluster import ray_session
    from study.training.nodes import ResourcePlan

    with ray_session(address):
        resources = ResourcePlan(objects.uri, resolved.spec, lanes=1, is_shared=True)
        on_gpu = resources.device == "cuda"
        task = ray.remote(num_cpus=0 if on_gpu else 1, num_gpus=1 if on_gpu else 0)(_plan)
        plan: StackPlan = ray.get(task.remote(resolved, resources.device, objects.uri))
    return plan


def _plan(resolved: ResolvedSpec, device: DeviceType, store_uri: str) -> StackPlan:
    return plan_stacks(resolved, device, ObjectStore(store_uri))
