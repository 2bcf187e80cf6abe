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
    """Kind and layer widths of the network. A network ignores the fields of other kinds.

    Layer widths are multiples of 16, so that rows align with vector registers.

    Attributes:
        kind: Key of `marl.models.NETWORKS`: `patch`, matrix products over patches of the spectrogram; `conv`, four
            convolutions.
        hidden: Width of the layer between the latents and the rest of the network.
        patch_bands: Mel bands of a patch; divides the bands of the spectrogram. For `patch`, like the next three.
        patch_frames: Frames of a patch; divides the frames of the spectrogram.
        width: Width of the first layer, which takes the values of a patch.
        embedding: Width of the embedding of a patch.
        channels: Channels of the two outer convolutions; the two inner ones have twice this number. For `conv`.
        head: Width of the heads, which are networks that only training uses.
    """

    kind: str = "patch"
    patch_bands: int = Field(4, ge=1)
    patch_frames: int = Field(64, ge=1)
    width: int = Field(64, ge=16, multiple_of=16)
    embedding: int = Field(32, ge=16, multiple_of=16)
    hidden: int = Field(192, ge=16, multiple_of=16)
    channels: int = Field(32, ge=16, multiple_of=16)
    head: int = Field(64, ge=16, multiple_of=16)


class LatentConfig(BaseConfig):
    """Sizes of the two subspaces of the latents, and how the shared latents of two views are fused before decoding.

    Attributes:
        private: Number of private latents.
        shared: Number of shared latents.
        fusion: Key of `marl.models.FUSIONS`: `none`, each view is decoded with its own sample; `mean`, both views with
            the mean of the two samples; `swap`, each view with the sample of the other, so that reconstruction crosses
            views; `poe`, both views with one sample of the product of the two posteriors.
    """

    private: int = Field(8, ge=1, le=1024)
    shared: int = Field(8, ge=1, le=1024)
    fusion: Literal["none", "mean", "swap", "poe"] = "swap"


class Architecture(NamedTuple):
    """Sizes that models must have in common to train in one stack.

    Attributes:
        bands: Mel bands of the spectrogram.
        frames: Frames of the spectrogram.
        model: Kind and layer widths.
        private: Private latents of the widest model.
        shared: Shared latents of the widest model.
    """

    bands: int
    frames: int
    model: ModelConfig
    private: int
    shared: int


class ParameterSpec(NamedTuple):
    """Shape, initial value and role of one parameter, at the latent sizes of an `Architecture`.

    A weight is initialised uniformly with variance 1 / fan-in, a bias with a constant.

    Attributes:
        shape: Shape of the parameter.
        fan_in: Number of inputs that are added up for one output of a weight; zero for a bias.
        latent_inputs: Subspaces whose latents are the inputs of a weight. Its fan-in is then the number of latents that
            the model has in them.
        latent_dim: Dimension along which latents lie; None if there is none.
        initial_value: Initial value of a bias.
        head: Name of the head that the parameter belongs to; None for encoder and decoder.
        follows: Name of the parameter of which this one is a moving average. Such a parameter is not trained.
    """

    shape: tuple[int, ...]
    fan_in: int = 0
    latent_inputs: tuple[Subspace, ...] = ()
    latent_dim: int | None = None
    initial_value: float = 0.0
    head: str | None = None
    follows: str | None = None


class Posterior(NamedTuple):
    """Means and log variances of the latents, [N, D], zero where masked."""

    mean: Tensor
    logvar: Tensor
