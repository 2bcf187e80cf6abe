"""Samplers of plug-ins."""

from typing import Any, Protocol

from marl.registry import PluginError, Registry
from study.spec.sampler_name import SAMPLER_ENTRY_POINTS

__all__ = ["SAMPLERS", "SamplerFactory"]


class SamplerFactory(Protocol):
    """Sampler of a search: a class of Optuna or OptunaHub that takes a seed, or a function.

    It is called for each trial, with a separate seed. What the sampler learns from is in the finished trials and their
    system attributes, which the store keeps, so a resumed search continues as if it had not been interrupted.
    """

    def __call__(self, *, seed: int) -> Any:
        """Return a new `optuna.samplers.BaseSampler`."""


def _adapt(name: str, found: Any) -> SamplerFactory:
    if not callable(found):
        raise PluginError(f"{name} must be a class of samplers, or a function of a seed that returns one")
    factory: SamplerFactory = found
    return factory


SAMPLERS = Registry[SamplerFactory]("a sampler", SAMPLER_ENTRY_POINTS, {}, _adapt)
"""Samplers of plug-ins that this process has loaded."""
