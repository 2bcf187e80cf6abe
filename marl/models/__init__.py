"""The networks, the latents that they split in private and shared, and how two views' shared latents become one."""

from collections.abc import Callable, Iterable, Mapping

from marl.models.config import Architecture, LatentConfig, ModelConfig, Parameters, Posterior
from marl.models.conv_network import ConvNetwork
from marl.models.fusion import FUSIONS
from marl.models.network import Network
from marl.models.patch import PatchNetwork

__all__ = [
    "FUSIONS",
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


def network_of(architecture: Architecture, heads: Iterable[str] = (), groups: int = 0) -> Network:
    """The network of an architecture.

    Args:
        architecture: of the network.
        heads: that it has parameters for as well, see `marl.models.heads`.
        groups: combinations of values of the shared factors, which a probe tells apart.

    Raises:
        ValueError: when it does not fit the spectrogram.
    """
    network = _NETWORKS[architecture.model.kind](architecture)
    network.add_heads(heads, groups)
    return network
