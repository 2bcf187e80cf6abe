"""Configuration of a network, description of its parameters, and the types of what it computes."""

from typing import Literal, NamedTuple

from pydantic import Field
from torch import Tensor

from marl.base_config import BaseConfig

__all__ = ["Architecture", "LatentConfig", "ModelConfig", "ParameterSpec", "Parameters", "Posterior", "Subspace"]

Parameters = dict[str, Tensor]
"""Values of parameters by name."""

Subspace = Literal["private", "shared"]


class ModelConfig(BaseConfig):
    """Kind of the network, a key of `marl.models.NETWORKS`, and its sizes. A network ignores the sizes of other kinds.

    Layer widths are multiples of 16, so that rows align with vector registers.
    """

    kind: str = "patch"
    """Kind of the network: `patch` (layers on patches of the spectrogram) or `conv` (convolutions)."""
    patch_bands: int = Field(4, ge=1)
    """`patch`: number of mel bands of a patch, a divisor of `audio.mel_bands`."""
    patch_frames: int = Field(64, ge=1)
    """`patch`: number of frames of a patch, a divisor of `audio.frames`."""
    width: int = Field(64, ge=16, multiple_of=16)
    """`patch`: outputs of the first layer, which takes the values of a patch."""
    embedding: int = Field(32, ge=16, multiple_of=16)
    """`patch`: size of the embedding of a patch."""
    hidden: int = Field(192, ge=16, multiple_of=16)
    """Width of the layer between the latents and the rest of the network."""
    channels: int = Field(32, ge=16, multiple_of=16)
    """`conv`: channels of the outer convolutions; the two inner ones have twice as many."""
    head: int = Field(64, ge=16, multiple_of=16)
    """Width of the heads, which are networks that only training uses."""


class LatentConfig(BaseConfig):
    """Sizes of the two subspaces of the latents, and how the shared latents of two views are fused before decoding."""

    private: int = Field(8, ge=1, le=1024)
    """Number of private latents."""
    shared: int = Field(8, ge=1, le=1024)
    """Number of shared latents."""
    fusion: Literal["none", "mean", "swap", "poe"] = "swap"
    """Fusion of the shared latents. `none`: each view is decoded with its own sample; `mean`: both views with the mean
    of the two samples; `swap`: each view with the sample of the other, so that reconstruction crosses views; `poe`:
    both views with one sample of the product of the two posteriors, a product of experts."""


class Architecture(NamedTuple):
    """Sizes that models must have in common to train in one stack."""

    bands: int
    frames: int
    model: ModelConfig
    private: int  # private latents of the widest model
    shared: int  # shared latents of the widest model


class ParameterSpec(NamedTuple):
    """Shape, initial value and role of one parameter, at the latent sizes of an `Architecture`.

    A weight is initialised uniformly with variance 1 / fan-in, where the fan-in is the number of inputs that are added
    up for one output. A bias has fan-in zero and starts at `initial_value`. If a weight has `latent_inputs`, its fan-in
    is the number of latents that the model has in these subspaces.
    """

    shape: tuple[int, ...]
    fan_in: int = 0
    latent_inputs: tuple[Subspace, ...] = ()
    latent_dim: int | None = None  # dimension along which latents lie
    initial_value: float = 0.0
    head: str | None = None  # head that the parameter belongs to; None for encoder and decoder
    follows: str | None = None  # parameter of which this one is a moving average, which is not trained


class Posterior(NamedTuple):
    """Means and log variances of the latents, [N, D], zero where masked."""

    mean: Tensor
    logvar: Tensor
