"""Which stacks a study needs: what its models have in common, and which terms of the objective any trial asks for."""

import itertools
from collections.abc import Iterator
from typing import NamedTuple

from pydantic import BaseModel

from marl.audio import AudioConfig
from marl.config import Config, ViewsConfig
from marl.data import Dataset
from marl.model import Architecture
from marl.objective import Ingredients, passes_of
from marl.stack import Precision, Stack
from study.configuration import audio_of, config_of, plain_vae, widest
from study.spec import Parameter, Scalar, Spec, active_parameters

__all__ = ["Family", "StackPlan", "candidates", "ingredients_of", "plan_stacks"]

# What decides which terms of the objective, and which passes through the network, a model needs.
_INGREDIENTS = ("views.scheme", "latent.combine", "contrast.", "independence.", "loss.hierarchy.", "model.patch_frames")
_NO_INGREDIENTS = ("contrast.temperature", "contrast.target_decay", "contrast.exclude_same_factors")
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
    why: str = "not compiled"

    def stack(self, spec: Spec, config: Config, dataset: Dataset) -> Stack:
        """A stack for a configuration of the study, and all that can train beside it."""
        family = self.family(audio_of(spec), config)
        kind = (config.views.scheme, family.passes)
        others = (other for other in candidates(spec) if (other.views.scheme, passes_of(other)) == kind)
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


def plan_stacks(spec: Spec, lanes: int) -> StackPlan:
    """Stacks that any trial of the spec fits into, in plain float32."""
    latent = widest(spec)
    return StackPlan(lanes=lanes, private=latent.private, shared=latent.shared)


def ingredients_of(spec: Spec) -> Ingredients:
    """Terms of the objective that any trial of the spec asks for."""
    return Ingredients.of_all(candidates(spec))


def candidates(spec: Spec) -> Iterator[Config]:
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
