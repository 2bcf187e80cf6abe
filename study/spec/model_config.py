"""Configurations of marl that a spec stands for: of its data, of a trial, and of what trials are compared with."""

import itertools
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, TypeVar

from pydantic import BaseModel, ValidationError

from marl.audio import AudioConfig
from marl.config import Config, ViewsConfig
from marl.data import KINDS, AnyDatasetConfig, ComputedDatasetConfig, Dataset
from marl.models import Architecture, LatentConfig
from marl.objective import ActiveTerms, extra_forward_passes
from marl.stack import Precision, Stack
from study.errors import UserError
from study.spec import Parameter, Scalar, Spec, active_parameters, explain

__all__ = [
    "MODEL_SECTIONS",
    "StackKey",
    "StackPlan",
    "audio_of",
    "candidates",
    "checked",
    "config_of",
    "data_of",
    "is_computed",
    "active_terms",
    "one_of",
    "plain_vae",
    "plan_stacks",
    "widest",
]

MODEL_SECTIONS = tuple(Config.model_fields)
"""Sections of a spec that are a model's configuration."""

_Model = TypeVar("_Model", bound=BaseModel)

_SIZES = ("latent.private", "latent.shared")


def data_of(spec: Spec) -> AnyDatasetConfig:
    """The configuration of a spec's data.

    Raises:
        UserError: with the field, the rule and the value.
    """
    kind = spec.data.get("kind", "syntone")
    if kind not in KINDS:
        raise UserError(f"data.kind: must be one of {', '.join(KINDS)}; got {kind!r}")
    return checked(KINDS[kind], "data", spec.data)


def is_computed(spec: Spec) -> bool:
    """Return whether the data set of a spec is computed when a study starts, so that it needs no preparation."""
    return isinstance(data_of(spec), ComputedDatasetConfig)


def audio_of(spec: Spec) -> AudioConfig:
    """The configuration of a resolved spec's spectrograms."""
    return checked(AudioConfig, "audio", spec.audio)


def config_of(spec: Spec, values: Mapping[str, Scalar]) -> Config:
    """The configuration of a trial: the spec's own, with the values of its parameters."""
    sections: dict[str, Any] = Config.model_validate(
        {section: getattr(spec, section) for section in MODEL_SECTIONS}
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
    latent = widest(spec).model_copy(update={"fusion": "none"})
    return Config(views=own.views, model=own.model, latent=latent, optimiser=own.optimiser)


def widest(spec: Spec) -> LatentConfig:
    """Latents that hold those of any trial."""
    sizes = {name: max(parameter.extremes()) for name, parameter in spec.space.items() if name in _SIZES}
    return config_of(spec, sizes).latent


def checked(model: type[_Model], prefix: str, content: Mapping[str, Any]) -> _Model:
    """A section of a spec as marl's configuration of it.

    Raises:
        UserError: with the field, the rule and the value.
    """
    try:
        return model.model_validate(content)
    except ValidationError as error:
        raise UserError(explain(error, model, prefix)) from None


# What decides which terms of the objective, and which passes through the network, a model needs.
_TERM_FIELDS = ("views.scheme", "latent.fusion", "contrast.", "independence.", "loss.multiscale.", "model.patch_frames")
_NO_TERM_FIELDS = ("contrast.temperature", "contrast.target_decay", "contrast.exclude_same_factors")
_WEIGHTS_OF_PASSES = ("contrast.private", "contrast.shared", "independence.swap_cycle")


class StackKey(NamedTuple):
    """Properties that all models of a stack share.

    Attributes:
        architecture: Architecture at the latent widths of the stack.
        views: How the views of a pair are made.
        extra_passes: Terms of the objective that need extra forward passes.
    """

    architecture: Architecture
    views: ViewsConfig
    extra_passes: tuple[str, ...]


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
    why: str = "not compiled"

    def stack(self, spec: Spec, config: Config, dataset: Dataset) -> Stack:
        """A stack for a configuration of the study, and all that can train beside it."""
        key = self.stack_key(audio_of(spec), config)
        kind = (config.views.scheme, key.extra_passes)
        others = (other for other in candidates(spec) if (other.views.scheme, extra_forward_passes(other)) == kind)
        return Stack(
            key.architecture,
            self.lanes,
            dataset,
            config.views,
            spec.train.batch_pairs,
            ActiveTerms.of_all([config, *others]),
            self.precision,
            self.compiled,
        )

    def stack_key(self, audio: AudioConfig, config: Config) -> StackKey:
        """Return the key of the stack in which a configuration trains."""
        return StackKey(self.architecture(audio, config), config.views, extra_forward_passes(config))

    def architecture(self, audio: AudioConfig, config: Config) -> Architecture:
        """Of a configuration's network, at the widths of the stack."""
        return Architecture(audio.mel_bands, audio.frames, config.model, self.private, self.shared)


def plan_stacks(spec: Spec, lanes: int) -> StackPlan:
    """Stacks that any trial of the spec fits into, in plain float32."""
    latent = widest(spec)
    return StackPlan(lanes=lanes, private=latent.private, shared=latent.shared)


def active_terms(spec: Spec) -> ActiveTerms:
    """Terms of the objective that any trial of the spec asks for."""
    return ActiveTerms.of_all(candidates(spec))


def candidates(spec: Spec) -> Iterator[Config]:
    """Configurations that stand for all of the space, as far as the terms of the objective are concerned.

    The plain VAE is one of them: it trains beside the others, and what a stack computes follows from the spec alone.
    """
    yield plain_vae(spec)
    space = spec.space
    chosen = [name for name in space if name.startswith(_TERM_FIELDS) and name not in _NO_TERM_FIELDS]
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
