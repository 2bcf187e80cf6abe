"""Plug-ins under test, and the small models that the tests train with them."""

import importlib
import inspect
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, NamedTuple

import pytest
import torch

from marl.audio import AudioConfig
from marl.config import Config
from marl.data import KINDS, AudioDatasetConfig, ComputedDatasetConfig, Dataset, PairSampler
from marl.data.syntone import SynTone
from marl.evaluation import PLUGIN_METRICS
from marl.losses.ssl import STRATEGIES, Strategy
from marl.models import NETWORKS, Architecture, Network
from marl.objective import ActiveTerms, Batch
from marl.registry import PluginError, Registry, is_reference
from marl.stack import Snapshot, Stack
from marl.stack.batched_models import Model
from marl.stack.step import draw_batch

__all__ = ["PAIRS", "PLUGINS", "Case", "Plugin", "kind_of", "load", "small_dataset", "snapshots_in_two_lanes"]

PAIRS = 16
_STEPS = 4
_REGISTRIES: Mapping[str, Registry[Any]] = {
    "strategy": STRATEGIES,
    "dataset": KINDS,
    "network": NETWORKS,
    "metric": PLUGIN_METRICS,
}


class Plugin(NamedTuple):
    """A plug-in under test.

    Attributes:
        name: Its name, `module:attribute`.
        kind: `strategy`, `dataset`, `network`, `metric` or `sampler`.
        options: Fields below `data` or `model` of a spec.
    """

    name: str
    kind: str
    options: Mapping[str, Any]


PLUGINS = pytest.StashKey[tuple[Plugin, ...]]()
"""Plug-ins of a run of pytest, in `pytest.Config.stash`."""


def load(name: str, options: Mapping[str, Any]) -> Plugin:
    """Import a plug-in and return it with its kind.

    Raises:
        PluginError: If there is no such plug-in, or it is of no kind.
    """
    if not is_reference(name):
        raise PluginError(f"--plugin must have the form module:name, such as my_losses:ring_loss; got {name!r}")
    module, _, attribute = name.partition(":")
    try:
        kind = kind_of(getattr(importlib.import_module(module), attribute))
    except (ImportError, AttributeError) as error:
        raise PluginError(f"--plugin {name}: {error}") from None
    if kind is None:
        raise PluginError(
            f"{name} is none of: a function of two views and their pairing, a Strategy, a data set, a Network, a "
            "function of an EvaluationContext, a sampler that takes a seed"
        )
    if kind in _REGISTRIES:
        _REGISTRIES[kind].load(name)
    return Plugin(name, kind, options)


def kind_of(found: Any) -> str | None:
    """Return the kind of plug-in that an object is, by its class or by its parameters; None if it is none."""
    if isinstance(found, Strategy):
        return "strategy"
    if isinstance(found, type) and issubclass(found, Network):
        return "network"
    if isinstance(found, type) and issubclass(found, ComputedDatasetConfig | AudioDatasetConfig):
        return "dataset"
    if not callable(found):
        return None
    parameters = inspect.signature(found).parameters
    if "seed" in parameters:
        return "sampler"
    if isinstance(found, type):
        return None
    required = [one for one in parameters.values() if one.default is inspect.Parameter.empty]
    return {3: "strategy", 1: "metric"}.get(len(required))


@cache
def small_dataset() -> Dataset:
    """Return 640 clips of SynTone."""
    return SynTone(frequencies=40, amplitudes=4).build(AudioConfig(), torch.device("cpu"))


class Case:
    """A small model in a stack of some width, and the first batch of seed 0, which is the same at every width.

    Args:
        sections: Sections of the configuration, besides sizes.
        private, shared: Latents of the stack; the model has three and two.
        lanes: Lanes of the stack.
    """

    def __init__(self, sections: Mapping[str, Any], private: int = 3, shared: int = 2, lanes: int = 2) -> None:
        model = {"width": 32, "embedding": 16, "hidden": 32, "head": 16, "channels": 16, "patch_frames": 8}
        latent = {"private": 3, "shared": 2, "fusion": "none"}
        content = {**sections, "model": {**model, **sections.get("model", {})}, "latent": latent}
        self.config = Config.model_validate(content)
        dataset, views = small_dataset(), self.config.views
        audio = dataset.audio.config
        architecture = Architecture(audio.mel_bands, audio.frames, self.config.model, private, shared)
        self.stack = Stack(architecture, lanes, dataset, views, PAIRS, ActiveTerms.of(self.config))
        self.spec, self.network = self.stack.objective_spec, self.stack.network

    def model(self) -> Model:
        """Return the untrained model."""
        lane = self.stack.attach(self.config, seed=7)
        model = self.stack.models[lane]
        self.stack.detach(lane)
        return model

    def batch(self, step: int = 0) -> Batch:
        """Return the batch of a step."""
        dataset = self.stack.dataset
        sampler = PairSampler(dataset, self.config.views.shared)
        seed_K, step_K = torch.zeros(1, dtype=torch.int64), torch.full((1,), step)
        batch = draw_batch(self.spec, sampler, dataset.log_mels.take, PAIRS, seed_K, step_K)
        return Batch(*(field[0] for field in batch))


def snapshots_in_two_lanes(sections: Mapping[str, Any]) -> tuple[Snapshot, Snapshot]:
    """Return a model after some steps: trained alone in the first lane, and in the last one beside others."""
    case = Case(sections, private=5, shared=4, lanes=3)

    def train(before: int) -> Snapshot:
        lanes = [case.stack.attach(case.config, seed) for seed in range(before)]
        lanes.append(case.stack.attach(case.config, seed=7))
        for _ in range(_STEPS):
            case.stack.step()
        snapshot = case.stack.snapshot(lanes[-1])
        for lane in lanes:
            case.stack.detach(lane)
        return snapshot

    return train(0), train(2)


def assert_same_bits(first: Snapshot, second: Snapshot, name: str) -> None:
    """Assert that two snapshots have the same parameters."""
    ours, theirs = first.parameters | first.heads, second.parameters | second.heads
    different = [key for key, value in ours.items() if not torch.equal(value, theirs[key])]
    assert not different, (  # noqa: S101
        f"{name} trains to other bits beside other models, in {', '.join(different)}: a model must not depend on its "
        "lane; draw no random numbers, and use sizes that are multiples of 16"
    )


def records(function: Callable[..., Any], *inputs: Any) -> str:
    """Return why a function cannot be mapped over models or recorded; empty if it can."""
    from torch.fx.experimental.proxy_tensor import make_fx

    try:
        make_fx(torch.func.vmap(function))(*inputs)
    except Exception as error:  # of any kind: the function is the user's
        return f"{type(error).__name__}: {str(error).strip().splitlines()[0]}"
    return ""
