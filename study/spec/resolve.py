"""Resolution of a spec: defaults filled in, and every section checked against marl before anything trains."""

from collections.abc import Mapping
from typing import Any, cast

from pydantic import BaseModel, ValidationError

from marl.config import Config
from marl.data import SPLIT_UNITS, AudioDatasetConfig
from marl.evaluation import INTERMEDIATE, metric_names
from marl.models import build_network
from marl.objective import check_compatible
from study.errors import UserError
from study.spec.resolved_spec import ResolvedSpec
from study.spec.schema import Spec, explain, proxy_metric
from study.spec.space import Parameter, Scalar, active_parameters, grid

__all__ = ["resolve"]

_DEFAULT_TRIALS = 100


def resolve(spec: Spec) -> ResolvedSpec:
    """Return the spec with every default filled in, checked against marl.

    Raises:
        UserError: When a section, a value of the space, or a name breaks a rule.
    """
    resolved = ResolvedSpec(spec)
    _check_data(resolved)
    _check_objectives(resolved)
    sections = {name: getattr(resolved.base_config, name).model_dump(mode="json") for name in Config.model_fields}
    sections |= {"data": resolved.data.model_dump(mode="json"), "audio": resolved.audio.model_dump(mode="json")}
    resolved = ResolvedSpec(spec.model_copy(update=sections))
    space = {name: _typed_parameter(resolved, name, parameter) for name, parameter in spec.space.items()}
    resolved = ResolvedSpec(resolved.spec.model_copy(update={"space": space}))
    include = tuple(_typed_included(resolved, number, values) for number, values in enumerate(spec.include))
    search = spec.search.model_copy(update={"trials": _trials(resolved.spec)})
    resolved = ResolvedSpec(resolved.spec.model_copy(update={"include": include, "search": search}))
    _check_networks(resolved)
    return resolved


def _check_data(resolved: ResolvedSpec) -> None:
    data, factors = resolved.data, resolved.factors
    if isinstance(data, AudioDatasetConfig) and data.split not in (allowed := (*SPLIT_UNITS, *factors)):
        raise UserError(f"data.split: must be one of {', '.join(allowed)}; got {data.split!r}")
    shared = resolved.base_config.views.shared
    if not shared or not set(shared) < set(factors):
        raise UserError(f"views.shared: must name some but not all of {', '.join(factors)}; got {list(shared)}")


def _check_objectives(resolved: ResolvedSpec) -> None:
    intermediate = metric_names(resolved.factors, INTERMEDIATE)
    for name in resolved.spec.objectives:
        if name not in resolved.metrics:
            raise UserError(f"objectives: {name!r} is not a metric; there are {', '.join(resolved.metrics)}")
        if resolved.spec.halving and proxy_metric(name) not in intermediate:
            raise UserError(
                f"objectives: with halving, must be metrics of intermediate reports; got {name!r}, which only final "
                "reports have; choose another metric or leave out halving"
            )


def _check_networks(resolved: ResolvedSpec) -> None:
    """Check that every extreme of the space has a network that fits the spectrogram, and terms that fit together."""
    plan = resolved.stack_plan(lanes=1)
    for name, parameter in resolved.spec.space.items():
        conditions = {other: values[0] for other, values in parameter.when.items()}
        for value in parameter.extremes():
            try:
                config = resolved.trial_config({**conditions, name: value})
                build_network(plan.architecture(resolved.audio, config))
            except ValueError as error:
                raise UserError(f"space.{name}: {error}") from None
    for candidate in resolved.candidates:
        try:
            check_compatible(candidate, build_network(plan.architecture(resolved.audio, candidate)))
        except ValueError as error:
            raise UserError(str(error)) from None


def _trials(spec: Spec) -> int:
    trials = spec.search.trials
    if spec.search.sampler != "grid":
        return _DEFAULT_TRIALS if trials is None else trials
    try:
        cells = len(spec.include) + len(grid(spec.space))
    except ValueError as error:
        raise UserError(f"search.sampler: {error}") from None
    if trials not in (None, cells):
        raise UserError(f"search.trials: must be {cells}, the number of grid cells, or be left out; got {trials}")
    return cells


def _typed_parameter(resolved: ResolvedSpec, name: str, parameter: Parameter) -> Parameter:
    """Return the parameter with values of the type of its field; YAML 1.1 reads 1e-3 as text, for example."""
    typed = tuple(_typed_value(resolved, name, value) for value in parameter.extremes())
    when = {
        other: tuple(_typed_value(resolved, other, value) for value in values)
        for other, values in parameter.when.items()
    }
    parameter = parameter.model_copy(update={"when": when})
    if parameter.choice is not None:
        return parameter.model_copy(update={"choice": typed})
    if isinstance(typed[0], bool | str):
        raise UserError(f"space.{name}: takes a choice, because it is not a number; got a range")
    if isinstance(typed[0], int) and parameter.int is None:
        raise UserError(f"space.{name}: takes choice or int, because it is a whole number; got another range")
    return parameter


def _typed_value(resolved: ResolvedSpec, name: str, value: Scalar) -> Scalar:
    owner: Any = Config
    for part in name.split("."):
        fields = owner.model_fields if isinstance(owner, type) and issubclass(owner, BaseModel) else {}
        if part not in fields:
            raise UserError(f"space.{name}: no such field of a model's configuration{_listed(fields)}")
        owner = fields[part].annotation
    if isinstance(owner, type) and issubclass(owner, BaseModel):
        raise UserError(f"space.{name}: must be a field, not a section{_listed(owner.model_fields)}")
    if name == "views.shared":
        raise UserError("space.views.shared: must be the same for all trials; set views.shared instead")
    try:
        typed: Any = resolved.trial_config({name: value})
    except ValidationError as error:
        raise UserError(f"space.{explain(error, Config)}") from None
    for part in name.split("."):
        typed = getattr(typed, part)
    return cast("Scalar", typed)


def _listed(fields: Mapping[str, Any]) -> str:
    return f"; there are {', '.join(fields)}" if fields else ""


def _typed_included(resolved: ResolvedSpec, number: int, values: Mapping[str, Scalar]) -> dict[str, Scalar]:
    space = resolved.spec.space
    active = active_parameters(space, values)
    for name in sorted(values.keys() | set(active)):
        if name not in active:
            reason = "the parameter's condition does not hold" if name in space else "it is not in the space"
            raise UserError(f"include.{number}.{name}: must be left out, because {reason}; got {values[name]!r}")
        if name not in values:
            raise UserError(f"include.{number}.{name}: is required")
    typed = {name: _typed_value(resolved, name, value) for name, value in values.items()}
    for name, value in typed.items():
        if not space[name].contains(value):
            raise UserError(f"include.{number}.{name}: must lie in the space; got {value!r}")
    return typed
