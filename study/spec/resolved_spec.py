"""A resolved spec, with the configurations of marl that follow from it, and the plan of its stacks."""

import itertools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple, TypeVar

from pydantic import BaseModel, ValidationError

from marl.audio import AudioConfig
from marl.config import Config, ViewsConfig
from marl.data import KINDS, AnyDatasetConfig, ComputedDatasetConfig, Dataset
from marl.evaluation import FINAL, metric_names
from marl.models import NETWORKS, Architecture, LatentConfig
from marl.objective import ActiveTerms, extra_forward_passes
from marl.registry import PluginError, PluginSource, is_reference
from marl.stack import Precision, Stack
from study.formatting import suggestion
from study.spec.loader import Problem, SpecError, find_problems
from study.spec.plugins import load_recorded, plugin_sources
from study.spec.schema import DEFAULT_DATA_KIND, Spec
from study.spec.space import Parameter, Scalar, active_parameters

_Model = TypeVar("_Model", bound=BaseModel)

_LATENT_SIZES = ("latent.private", "latent.shared")
# Parameters that decide which terms of the objective, and which passes through the network, a model needs.
_TERM_PARAMETERS = (
    "views.scheme",
    "latent.fusion",
    "contrast.",
    "independence.",
    "loss.multiscale.",
    "model.patch_frames",
)
_NOT_TERM_PARAMETERS = ("contrast.temperature", "contrast.target_decay", "contrast.exclude_same_group")
_WEIGHTS_OF_PASSES = ("contrast.private", "contrast.shared", "independence.swap_cycle")


@dataclass(frozen=True)
class ResolvedSpec:
    """A spec with every default filled in, and everything that follows from it.

    A process derives it once and passes it on: `study.spec.resolve.resolve` from a spec that a user writes, this class
    from the metadata of a study. A process that receives it from another one loads the same plug-ins.
    """

    spec: Spec

    def __reduce__(self) -> tuple[Any, ...]:
        """Return what another process needs. Values that are cached here may be of classes of plug-ins."""
        return _received, (self.spec, self.plugins)

    @cached_property
    def plugins(self) -> tuple[PluginSource, ...]:
        """Sources of the plug-ins that the spec names; they must be loaded."""
        return plugin_sources(self.spec)

    @cached_property
    def data(self) -> AnyDatasetConfig:
        """Configuration of the data."""
        kind = self.spec.data.get("kind", DEFAULT_DATA_KIND)
        if not isinstance(kind, str) or not (kind in KINDS or is_reference(kind)):
            raise SpecError(
                [Problem("data.kind", f"must be a kind of data; got {kind!r}; {suggestion(str(kind), KINDS)}")]
            )
        try:
            return _validated(KINDS[kind], "data", self.spec.data)
        except PluginError as error:
            raise SpecError([Problem("data.kind", str(error))]) from None

    @property
    def needs_preparation(self) -> bool:
        """True for data that is prepared before a study starts, False for data that is computed then."""
        return not isinstance(self.data, ComputedDatasetConfig)

    @cached_property
    def audio(self) -> AudioConfig:
        """Configuration of the spectrograms."""
        return _validated(AudioConfig, "audio", self.spec.audio)

    @cached_property
    def base_config(self) -> Config:
        """Configuration of a model without any parameter of the space; its network need not be valid."""
        return self._config(Config.model_fields)

    def section(self, name: str) -> BaseModel:
        """Return one section of `base_config`; the others need not be valid."""
        section: BaseModel = getattr(self._config([name]), name)
        return section

    def _config(self, sections: Iterable[str]) -> Config:
        return _validated(Config, "", {section: getattr(self.spec, section) for section in sections})

    @cached_property
    def network_config(self) -> Config:
        """A configuration whose network is one of the study's."""
        names = [name for name in self.spec.space if name.startswith("model.")]
        return self.trial_config({name: self.spec.space[name].extremes()[0] for name in names})

    @cached_property
    def max_latent(self) -> LatentConfig:
        """Latent sizes that no trial exceeds."""
        sizes = {name: self.spec.space[name] for name in _LATENT_SIZES if name in self.spec.space}
        return self.trial_config({name: max(sizes[name].extremes()) for name in sizes}).latent

    @cached_property
    def plain_vae(self) -> Config:
        """Configuration of the plain variational autoencoder that trials are compared with.

        All KL weights are 1 and each view is decoded from its own latents, so nothing separates private from shared
        latents. It has the largest latent sizes of the space.
        """
        own = self.network_config
        latent = self.max_latent.model_copy(update={"fusion": "none"})
        return Config(views=own.views, model=own.model, latent=latent, optimiser=own.optimiser)

    @cached_property
    def candidates(self) -> tuple[Config, ...]:
        """Configurations that need all terms of the objective that any trial needs, and all combinations of passes.

        The first is the plain VAE, which trains beside the trials.
        """
        return (self.plain_vae, *self._term_configs())

    @cached_property
    def terms(self) -> ActiveTerms:
        """Terms of the objective that any trial needs."""
        return ActiveTerms.of_all(self.candidates)

    @property
    def factors(self) -> tuple[str, ...]:
        """Names of the data's factors."""
        return tuple(self.data.factor_names)

    @cached_property
    def metrics(self) -> list[str]:
        """Names of all metrics of a final report."""
        return metric_names(self.factors, (*FINAL, *self.spec.metrics))

    def trial_config(self, parameters: Mapping[str, Scalar]) -> Config:
        """Return the configuration of a trial, whose parameters are values by the path of the field that they set.

        A network ignores the sizes of other kinds, so a trial drops those that its network does not have.

        Raises:
            ValidationError: When a value breaks a rule of its field.
        """
        content: dict[str, Any] = self.base_config.model_dump()
        for path, value in parameters.items():
            *sections, field = path.split(".")
            section = content
            for name in sections:
                section = section[name]
            section[field] = value
        model = content["model"]
        if model["kind"] in NETWORKS:
            known = NETWORKS[model["kind"]].config_class.model_fields
            content["model"] = {name: value for name, value in model.items() if name in known}
        return Config.model_validate(content)

    def kind_with(self, field: str) -> str | None:
        """Return a kind of network of the study that has a field below `model`; None if there is none."""
        parameter = self.spec.space.get("model.kind")
        kinds = [self.base_config.model.kind, *(parameter.choice or () if parameter is not None else ())]
        fields = {kind: NETWORKS[kind].config_class.model_fields for kind in map(str, kinds) if kind in NETWORKS}
        return next((kind for kind, known in fields.items() if field in known), None)

    def stack_plan(self, lanes: int) -> "StackPlan":
        """Return a plan of uncompiled float32 stacks that any trial of the spec fits into."""
        return StackPlan(lanes=lanes, private=self.max_latent.private, shared=self.max_latent.shared)

    def with_content(self, key: str) -> "ResolvedSpec":
        """Return the resolved spec with `data.content`, the key of the prepared set."""
        return ResolvedSpec(self.spec.model_copy(update={"data": {**self.spec.data, "content": key}}))

    def _term_configs(self) -> Iterator[Config]:
        space = self.spec.space
        chosen = [name for name in space if name.startswith(_TERM_PARAMETERS) and name not in _NOT_TERM_PARAMETERS]
        for name in chosen:  # grows while it is walked through: conditions may have conditions
            chosen += [other for other in space[name].when if other not in chosen]
        conditions = {
            name: {value for parameter in space.values() for value in parameter.when.get(name, ())} for name in chosen
        }
        values = {name: _decisive_values(name, space[name], conditions[name]) for name in chosen}
        # The network of the base configuration need not be valid where the space sets it.
        network = {
            name: space[name].extremes()[0] for name in space if name.startswith("model.") and name not in values
        }
        seen = set()
        for combination in itertools.product(*values.values()):
            cell = dict(zip(values, combination, strict=True))
            active = {name: cell[name] for name in active_parameters({name: space[name] for name in chosen}, cell)}
            key = tuple(sorted(active.items()))
            if key not in seen:
                seen.add(key)
                yield self.trial_config(network | active)


class StackKey(NamedTuple):
    """What the models of one stack have in common.

    The architecture has the latent widths of the stack, and `extra_passes` are terms of the objective that need extra
    forward passes.
    """

    architecture: Architecture
    views: ViewsConfig
    extra_passes: tuple[str, ...]


class StackPlan(BaseModel, frozen=True):
    """How a study's stacks are made. It is decided once and recorded, because results depend on it to the bit.

    Attributes:
        private, shared: Latents of the widest model.
        precision: Precision of the large layers in training.
        why: Reason for compiling or not, for users.
    """

    lanes: int
    private: int
    shared: int
    precision: Precision = "float32"
    compiled: bool = False
    why: str = "not compiled"

    def stack(self, resolved: ResolvedSpec, config: Config, dataset: Dataset) -> Stack:
        """Return a stack for a configuration of the study and for all configurations with the same views and passes."""
        key = self.stack_key(resolved.audio, config)
        kind = (config.views.scheme, key.extra_passes)
        others = (other for other in resolved.candidates if (other.views.scheme, extra_forward_passes(other)) == kind)
        return Stack(
            key.architecture,
            self.lanes,
            dataset,
            config.views,
            resolved.spec.train.batch_pairs,
            ActiveTerms.of_all([config, *others]),
            self.precision,
            self.compiled,
        )

    def stack_key(self, audio: AudioConfig, config: Config) -> StackKey:
        """Return the key of the stack in which a configuration trains."""
        return StackKey(self.architecture(audio, config), config.views, extra_forward_passes(config))

    def architecture(self, audio: AudioConfig, config: Config) -> Architecture:
        """Return the architecture of a configuration at the latent widths of the stack."""
        return Architecture(audio.mel_bands, audio.frames, config.model, self.private, self.shared)


def _received(spec: Spec, plugins: Iterable[PluginSource]) -> ResolvedSpec:
    load_recorded(spec, [source.model_dump() for source in plugins])
    return ResolvedSpec(spec)


def _validated(model: type[_Model], prefix: str, content: Mapping[str, Any]) -> _Model:
    """Return a section of a spec as a configuration; raise a SpecError with field, rule and value."""
    try:
        return model.model_validate(content)
    except ValidationError as error:
        raise SpecError(find_problems(error, model, prefix)) from None


def _decisive_values(name: str, parameter: Parameter, conditions: set[Scalar]) -> list[Scalar]:
    """Return the values of a parameter that decide which terms and passes are needed.

    The decisive values of a weight are its largest value, and zero where that leaves out a pass.
    """
    values = list(parameter.extremes())
    if any(isinstance(value, bool | str) for value in values) or name.startswith("model."):
        return values
    decisive = {max(values)} | ({min(values)} if name in _WEIGHTS_OF_PASSES and min(values) == 0 else set())
    return sorted(decisive | conditions)
