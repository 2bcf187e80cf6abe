"""A spec with every default filled in, checked against marl before anything trains."""

from collections.abc import Mapping
from typing import Any, cast

from pydantic import BaseModel, ValidationError

from marl.config import Config
from marl.data import SPLIT_UNITS, AudioDatasetConfig
from marl.evaluation import is_intermediate, metric_names
from marl.models import network_of
from marl.objective import check_compatible
from study.errors import UserError
from study.spec import Parameter, Scalar, Spec, active_parameters, explain
from study.spec.grid import grid
from study.spec.metrics import stand_in
from study.spec.model_config import MODEL_SECTIONS, audio_of, candidates, checked, config_of, data_of, plan_stacks

__all__ = ["resolve"]

_DEFAULT_TRIALS = 100


def resolve(spec: Spec) -> Spec:
    """The spec with every default filled in, checked against marl.

    Raises:
        UserError: when a section, a value of the space or a name breaks a rule of marl's.
    """
    data, audio = data_of(spec), audio_of(spec)
    config = checked(Config, "", {section: getattr(spec, section) for section in MODEL_SECTIONS})
    factors = data.factor_names
    if isinstance(data, AudioDatasetConfig) and data.split not in (ways := (*SPLIT_UNITS, *factors)):
        raise UserError(f"data.split: must be one of {', '.join(ways)}; got {data.split!r}")
    shared = config.views.shared
    if not shared or not set(shared) < set(factors):
        raise UserError(f"views.shared: must name some but not all of {', '.join(factors)}; got {list(shared)}")
    metrics = metric_names(factors)
    for name in spec.objectives:
        if name not in metrics:
            raise UserError(f"objectives: {name!r} is no metric; there are {', '.join(metrics)}")
        if spec.halving and not is_intermediate(stand_in(name)):
            raise UserError(
                f"objectives: {name!r} is computed for final reports only, and halving compares intermediate ones; "
                "take another or leave halving out"
            )
    spec = spec.model_copy(
        update={
            "data": data.model_dump(mode="json"),
            "audio": audio.model_dump(mode="json"),
            **{section: getattr(config, section).model_dump(mode="json") for section in MODEL_SECTIONS},
        }
    )
    space = {name: _typed(spec, name, parameter) for name, parameter in spec.space.items()}
    spec = spec.model_copy(update={"space": space})
    include = tuple(_checked_include(spec, number, values) for number, values in enumerate(spec.include))
    search = spec.search.model_copy(update={"trials": _trials(spec)})
    spec = spec.model_copy(update={"include": include, "search": search})
    # Every extreme must make a model that fits the spectrogram, before anything trains.
    for name, parameter in space.items():
        conditions = {other: values[0] for other, values in parameter.when.items()}
        for value in parameter.extremes():
            try:
                network_of(plan_stacks(spec, 1).architecture(audio, config_of(spec, {**conditions, name: value})))
            except ValueError as error:
                raise UserError(f"space.{name}: {error}") from None
    plan = plan_stacks(spec, 1)
    for candidate in candidates(spec):
        try:
            check_compatible(candidate, network_of(plan.architecture(audio, candidate)))
        except ValueError as error:
            raise UserError(str(error)) from None
    return spec


def _trials(spec: Spec) -> int:
    asked = spec.search.trials
    if spec.search.sampler != "grid":
        return _DEFAULT_TRIALS if asked is None else asked
    try:
        cells = len(spec.include) + len(grid(spec.space))
    except ValueError as error:
        raise UserError(f"search.sampler: {error}") from None
    if asked not in (None, cells):
        raise UserError(f"search.trials: this grid has {cells} cells and runs them all; leave trials out, got {asked}")
    return cells


def _typed(spec: Spec, name: str, parameter: Parameter) -> Parameter:
    """The parameter with its values as the type of the field that it sets; YAML 1.1 reads 1e-3 as text, for example."""
    typed = tuple(_typed_value(spec, name, value) for value in parameter.extremes())
    when = {
        other: tuple(_typed_value(spec, other, value) for value in values) for other, values in parameter.when.items()
    }
    parameter = parameter.model_copy(update={"when": when})
    if parameter.choice is not None:
        return parameter.model_copy(update={"choice": typed})
    if isinstance(typed[0], bool | str):
        raise UserError(f"space.{name}: is no number and takes a choice")
    if isinstance(typed[0], int) and parameter.int is None:
        raise UserError(f"space.{name}: is a whole number and takes a choice or int")
    return parameter


def _typed_value(spec: Spec, name: str, value: Scalar) -> Scalar:
    owner: Any = Config
    for part in name.split("."):
        fields = owner.model_fields if isinstance(owner, type) and issubclass(owner, BaseModel) else {}
        if part not in fields:
            raise UserError(f"space.{name}: no such field of a model's configuration" + _known(fields))
        owner = fields[part].annotation
    if isinstance(owner, type) and issubclass(owner, BaseModel):
        raise UserError(f"space.{name}: is a section" + _known(owner.model_fields))
    if name == "views.shared":
        raise UserError("space.views.shared: is the same for all trials, which could not be compared otherwise")
    try:
        found: Any = config_of(spec, {name: value})
    except ValidationError as error:
        raise UserError(f"space.{explain(error, Config)}") from None
    for part in name.split("."):
        found = getattr(found, part)
    return cast("Scalar", found)


def _known(fields: Mapping[str, Any]) -> str:
    return f"; there are {', '.join(fields)}" if fields else ""


def _checked_include(spec: Spec, number: int, values: Mapping[str, Scalar]) -> dict[str, Scalar]:
    active = active_parameters(spec.space, values)
    for name in sorted(values.keys() | set(active)):
        if name not in active:
            raise UserError(f"include.{number}.{name}: is no parameter of the space, or its condition does not hold")
        if name not in values:
            raise UserError(f"include.{number}: {name} is needed")
    typed = {name: _typed_value(spec, name, value) for name, value in values.items()}
    for name, value in typed.items():
        if not spec.space[name].holds(value):
            raise UserError(f"include.{number}.{name}: lies outside of the space; got {value!r}")
    return typed
