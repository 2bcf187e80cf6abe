"""Networks, their private and shared latents, and the fusion of the shared latents of two views.

Every module here that defines a subclass of `Network` with a `kind` adds it to `NETWORKS`.
"""

import inspect
from collections.abc import Iterable
from importlib import import_module
from pkgutil import iter_modules
from typing import Any

from marl.models.config import Architecture, LatentConfig, ModelConfig, Parameters, ParameterSpec, Posterior, Subspace
from marl.models.fusion import FUSIONS, joint_posterior
from marl.models.heads import Head, Target
from marl.models.network import Network
from marl.registry import PluginError, Registry

__all__ = [
    "FUSIONS",
    "NETWORKS",
    "Architecture",
    "Head",
    "LatentConfig",
    "ModelConfig",
    "Network",
    "ParameterSpec",
    "Parameters",
    "Posterior",
    "Subspace",
    "Target",
    "build_network",
    "joint_posterior",
]


def _adapt(name: str, found: Any) -> type[Network]:
    if not (isinstance(found, type) and issubclass(found, Network)):
        raise PluginError(f"{name} must be a subclass of Network")
    if missing := inspect.isabstract(found) and ", ".join(sorted(found.__abstractmethods__)):
        raise PluginError(f"{name} must define {missing}")
    return found


_BUILTIN: dict[str, type[Network]] = {
    network.kind: network
    for module in iter_modules(__path__)
    for network in vars(import_module(f"{__name__}.{module.name}")).values()
    if isinstance(network, type) and issubclass(network, Network) and network is not Network
}

NETWORKS = Registry("a network", "marl_study.networks", _BUILTIN, _adapt)
"""Networks by `model.kind`."""


def build_network(architecture: Architecture, heads: Iterable[Head | Target] = (), groups: int = 0) -> Network:
    """Return the network of an architecture, with parameters for heads.

    `groups` is the number of combinations of values of the shared factors.

    Raises:
        ValueError: If the network does not fit the spectrogram.
    """
    network = NETWORKS[architecture.model.kind](architecture)  # type: ignore[call-arg]
    network.add_heads(heads, groups)
    return network
