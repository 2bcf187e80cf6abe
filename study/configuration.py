"""Between a spec and marl: checks the sections that configure models, and makes the configuration of a trial."""

import itertools
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, TypeVar, cast

from pydantic import BaseModel, ValidationError

from marl.audio import AudioConfig
from marl.config import Config, ViewsConfig
from marl.data import DataConfig, Dataset
from marl.evaluation import is_young, metric_names
from marl.model import Architecture, LatentConfig, network_of
from marl.objective import Ingredients, check, passes_of
from marl.stack import Precision, Stack
from study.errors import UserError
from study.grid import grid
from study.spec import Parameter, Scalar, Spec, active_parameters, explain
from study.stand_ins import stand_in

__all__ = [
    "Family",
    "StackPlan",
    "audio_of",
    "config_of",
    "data_of",
    "ingredients_of",
    "one_of",
    "plan_stacks",
    "resolve",
]

_Model = TypeVar("_Model", bound=BaseModel)

_MODEL_SECTIONS = tuple(Config.model_fields)
_DEFAULT_TRIALS = 100
# What decides which terms of the objective, and which passes through the network, a model needs.
_INGREDIENTS = ("views.scheme", "latent.combine", "contrast.", "independence.", "loss.hierarchy.", "model.patch_frames")
_NO_INGREDIENTS = ("contrast.temperature", "contrast.target_decay", "contrast.exclude_same_factors")
_SIZES = ("latent.private", "latent.shared")
_WEIGHTS_OF_PASSES = ("contrast.private", "contrast.shared", "independence.swap_cycle")


class Family(NamedTuple):
    """What models have in common that train in one stack.

    Attributes:
        architecture: at the widths of the stack.
        views: how their views are made.
        passes: terms of theirs that need further passes through the network.
    """

    architecture: Architecture
    views: ViewsConfig
    passes: tuple[str, ...]


class StackPlan(BaseModel, frozen=True):
    """How a study's stacks are made; decided once and recorded, since results depend on it to the bit.

    Attributes:
        lanes: of each stack.
        private: private latents of the widest model.
        shared: shared latents of the widest model.
        precision: in which the large layers are trained.
        compiled: whether the step is compiled.
        why: it is compiled or not, for the user.
    """

    lanes: int
    private: int
    shared: int
    precision: Precision = "float32"
    compiled: bool = False
    why: str = ""

    def stack(self, spec: Spec, config: Config, dataset: Dataset) -> Stack:
        """A stack for a configuration of the study, and all that can train beside it."""
        family = self.family(audio_of(spec), config)
        kind = (config.views.scheme, family.passes)
        others = (other for other in _candidates(spec) if (other.views.scheme, passes_of(other)) == kind)
        return Stack(
            family.architecture,
            self.lanes,
            dataset,
            config.views,
            spec.train.batch_pairs,
            Ingredients.of_all([config, *others]),
            self.precision,
            self.compiled,
        )

    def family(self, audio: AudioConfig, config: Config) -> Family:
        """Of the stack in which a configuration trains."""
        return Family(self.architecture(audio, config), config.views, passes_of(config))

    def architecture(self, audio: AudioConfig, config: Config) -> Architecture:
        """Of a configuration's network, at the widths of the stack."""
        return Architecture(audio.mel_bands, audio.frames, config.model, self.private, self.shared)


def resolve(spec: Spec) -> Spec:
    """The spec with every default filled in, checked against marl.

    Raises:
        UserError: when a section, a value of the space or a name breaks a rule of marl's.
    """
    data, audio = _checked(DataConfig, "data", spec.data), _checked(AudioConfig, "audio", spec.audio)
    config = _checked(Config, "", {section: getattr(spec, section) for section in _MODEL_SECTIONS})
    factors = data.factor_names
    shared = config.views.shared
    if not shared or not set(shared) < set(factors):
        raise UserError(f"views.shared: must name some but not all of {', '.join(factors)}; got {list(shared)}")
    metrics = metric_names(factors)
    for name in spec.objectives:
        if name not in metrics:
            raise UserError(f"objectives: {name!r} is no metric; there are {', '.join(metrics)}")
        if spec.halving and not is_young(stand_in(name)):
            raise UserError(
                f"objectives: {name!r} is known of mature trials alone, and halving compares young ones; take another "
                "or leave halving out"
            )
    spec = spec.model_copy(
        update={
            "data": data.model_dump(mode="json"),
            "audio": audio.model_dump(mode="json"),
            **{section: getattr(config, section).model_dump(mode="json") for section in _MODEL_SECTIONS},
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
    for candidate in _candidates(spec):
        try:
            check(candidate, network_of(plan.architecture(audio, candidate)))
        except ValueError as error:
            raise UserError(str(error)) from None
    return spec


def data_of(spec: Spec) -> DataConfig:
    """The configuration of a resolved spec's data."""
    return _checked(DataConfig, "data", spec.data)


def audio_of(spec: Spec) -> AudioConfig:
    """The configuration of a resolved spec's spectrograms."""
    return _checked(AudioConfig, "audio", spec.audio)


def config_of(spec: Spec, values: Mapping[str, Scalar]) -> Config:
    """The configuration of a trial: the spec's own, with the values of its parameters."""
    sections: dict[str, Any] = Config.model_validate(
        {section: getattr(spec, section) for section in _MODEL_SECTIONS}
    ).model_dump()
    for path, value in values.items():
        *parents, field = path.split(".")
        section = sections
        for parent in parents:
            section = section[parent]
        section[field] = value
    return Config.model_validate(sections)


def one_of(spec: Spec) -> Config:
    """A configuration whose network is one of the study's; the spec's own need not be, where it is searched over."""
    first = {name: values.extremes()[0] for name, values in spec.space.items() if name.startswith("model.")}
    return config_of(spec, first)


def plain_vae(spec: Spec) -> Config:
    """A plain variational autoencoder, which trials are compared with, in a network of the study's.

    All KL weights are one, and each view is decoded on its own, so that nothing tells its private latents from its
    shared ones. It is as wide as the widest trial.
    """
    own = one_of(spec)
    latent = _widest(spec).model_copy(update={"combine": "own"})
    return Config(views=own.views, model=own.model, latent=latent, optimiser=own.optimiser)


def plan_stacks(spec: Spec, lanes: int) -> StackPlan:
    """Stacks that any trial of the spec fits into, in plain float32."""
    widest = _widest(spec)
    return StackPlan(lanes=lanes, private=widest.private, shared=widest.shared)


def _widest(spec: Spec) -> LatentConfig:
    sizes = {name: max(parameter.extremes()) for name, parameter in spec.space.items() if name in _SIZES}
    return config_of(spec, sizes).latent


def ingredients_of(spec: Spec) -> Ingredients:
    """Terms of the objective that any trial of the spec asks for."""
    return Ingredients.of_all(_candidates(spec))


def _candidates(spec: Spec) -> Iterator[Config]:
    """Configurations that stand for all of the space, as far as the terms of the objective are concerned.

    The plain VAE is one of them: it trains beside the others, and what a stack computes follows from the spec alone.
    """
    yield plain_vae(spec)
    space = spec.space
    chosen = [name for name in space if name.startswith(_INGREDIENTS) and name not in _NO_INGREDIENTS]
    for name in chosen:
        chosen += [other for other in space[name].when if other not in chosen]
    conditions = {
        name: {value for parameter in space.values() for value in parameter.when.get(name, ())} for name in chosen
    }
    values = {name: _standing_for_all(name, space[name], conditions[name]) for name in chosen}
    # A network of the study's; the spec's own need not fit, where it is searched over.
    network = {name: space[name].extremes()[0] for name in space if name.startswith("model.") and name not in values}
    seen = set()
    for combination in itertools.product(*values.values()):
        cell = dict(zip(values, combination, strict=True))
        active = {name: cell[name] for name in active_parameters({name: space[name] for name in chosen}, cell)}
        key = tuple(sorted(active.items()))
        if key not in seen:
            seen.add(key)
            yield config_of(spec, network | active)


def _standing_for_all(name: str, parameter: Parameter, conditions: set[Scalar]) -> list[Scalar]:
    """Values of a parameter that decide on terms: of weights the largest, and zero where that means another stack."""
    values = list(parameter.extremes())
    if any(isinstance(value, bool | str) for value in values) or name.startswith("model."):
        return values
    decisive = {max(values)} | ({min(values)} if name in _WEIGHTS_OF_PASSES and min(values) == 0 else set())
    return sorted(decisive | conditions)


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


def _checked(model: type[_Model], prefix: str, content: Mapping[str, Any]) -> _Model:
    try:
        return model.model_validate(content)
    except ValidationError as error:
        raise UserError(explain(error, model, prefix)) from None
