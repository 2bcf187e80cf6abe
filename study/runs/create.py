"""The document with which a study begins; written without Ray, which takes seconds to import."""

from datetime import UTC, datetime

from study.analysis import StudyResults
from study.environment import commit, package_versions
from study.errors import UserError, command_for
from study.search.sampler import past_trials
from study.spec import Spec, parse_spec
from study.spec.resolve import resolve
from study.spec.resolved_spec import ResolvedSpec, StackPlan
from study.storage import ObjectStore
from study.store import StudyMetadata, StudyStore
from study.store.layout import incompatible
from study.training.planning import DeviceType, device_type, plan_stacks

__all__ = ["begin", "confirmation_of", "spec_of"]


def begin(store: StudyStore, resolved: ResolvedSpec, address: str | None = None) -> StudyMetadata:
    """Write a study's document, or find that it has the same spec.

    Args:
        store: where the study will be.
        resolved: spec of the study.
        address: of the cluster whose devices decide about its stacks; none for this machine.

    Raises:
        UserError: when the store cannot be written, or holds a study of that name with another spec.
    """
    store.objects.check_writable()
    if store.exists():
        metadata = store.metadata()
        if (known := spec_of(metadata)) != resolved:
            raise UserError(
                f"study {store.name!r} is already in {store.objects.uri} with another spec "
                f"({_difference(known.spec, resolved.spec)}); rename this one, resume the existing one with "
                f"`{command_for(store.uri, 'resume')}`, or delete it"
            )
        return metadata
    device, objects = device_type(), store.objects
    plan = plan_stacks(resolved, device, objects) if address is None else _planned_on(address, resolved, objects)
    metadata = StudyMetadata(
        spec=resolved.spec,
        stack=plan.model_dump(mode="json"),
        factors=resolved.factors,
        created=datetime.now(UTC),
        writer=_this_version(),
    )
    store.create(metadata)
    return metadata


def spec_of(metadata: StudyMetadata) -> ResolvedSpec:
    """The spec of a study with every field of today: one that came after the study began is as code without it did.

    Raises:
        UserError: when the document has a field that is not known here.
    """
    try:
        return resolve(metadata.spec)
    except UserError as error:
        raise incompatible(metadata.spec, metadata.writer, str(error)) from None


def _this_version() -> str:
    return " of commit ".join(filter(None, (package_versions()["marl-study"], commit())))


def _planned_on(address: str, resolved: ResolvedSpec, objects: ObjectStore) -> StackPlan:
    """As `plan_stacks`, on a device of a cluster; this waits until there is one."""
    import ray

    from study.runs.ray_cluster import ray_session
    from study.training.resources import ResourcePlan

    with ray_session(address):
        resource_plan = ResourcePlan(objects.uri, resolved.spec, lanes=1, is_shared=True)
        on_cuda = resource_plan.device == "cuda"
        plan = ray.remote(num_cpus=0 if on_cuda else 1, num_gpus=1 if on_cuda else 0)(_planned)
        found: StackPlan = ray.get(plan.remote(resolved, resource_plan.device, objects.uri))
    return found


def _planned(resolved: ResolvedSpec, device: DeviceType, store_uri: str) -> StackPlan:
    return plan_stacks(resolved, device, ObjectStore(store_uri))


def _difference(old: Spec, new: Spec) -> str:
    """The first fields in which two specs differ."""
    before, after = old.model_dump(mode="json"), new.model_dump(mode="json")
    names = [name for name in before if before[name] != after[name]]
    return f"{', '.join(names[:3])} differ{'s' if len(names) == 1 else ''}"


def confirmation_of(results: StudyResults, replicates: int) -> ResolvedSpec:
    """A spec whose trials are the front of a study, in its order, under the seeds that come after those of the study.

    Whoever takes the best of many takes the luckiest, too; fresh seeds say what is left of it.

    Raises:
        UserError: when the study has no front yet, or its name leaves no room for another.
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
