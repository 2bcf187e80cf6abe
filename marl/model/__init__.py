"""The networks, the latents that they split in private and shared, and how two views' shared latents become one."""

from collections.abc import Callable, Mapping

from marl.model.combine import COMBINATIONS
from marl.model.config import Architecture, LatentConfig, ModelConfig, Parameters, Posterior
from marl.model.conv import ConvNetwork
from marl.model.network import Network
from marl.model.patch import PatchNetwork

__all__ = [
    "COMBINATIONS",
    "Architecture",
    "ConvNetwork",
    "LatentConfig",
    "ModelConfig",
    "Network",
    "Parameters",
    "PatchNetwork",
    "Posterior",
    "network_of",
]

_NETWORKS: Mapping[str, Callable[[Architecture], Network]] = {"patch": PatchNetwork, "conv": ConvNetwork}


def network_of(architecture: Architecture) -> Network:
    """The network of an architecture.

    Raises:
        ValueError: when it does not fit the spectrogram.
    """
    return _NETWORKS[architecture.model.kind](architecture)
