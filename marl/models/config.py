"""What a network is made of, and the names of what goes in and out of it."""

from typing import Literal, NamedTuple

from pydantic import Field
from torch import Tensor

from marl.base_config import BaseConfig

__all__ = ["Architecture", "LatentConfig", "ModelConfig", "Parameters", "Posterior"]

Parameters = dict[str, Tensor]


class ModelConfig(BaseConfig):
    """Kind and widths of the network; a field of the other kind is not used.

    Widths of layers are multiples of 16, so that rows align with vector registers.

    Attributes:
        kind: `patch`, matmuls over patches of the spectrogram; `conv`, four convolutions, usual in the field.
        hidden: layer between the latents and all that a network knows of the spectrogram.
        patch_bands: mel bands of a patch; divides the bands of the spectrogram. Of `patch`, as are the next three.
        patch_frames: frames of a patch; divides the frames of the spectrogram.
        width: first layer, over the values of a patch.
        embedding: what is kept of a patch.
        channels: of the two outer convolutions; the two inner ones have twice as many. Of `conv`.
        head: width of the networks that only training knows, between latents and terms of the objective.
    """

    kind: Literal["patch", "conv"] = "patch"
    patch_bands: int = Field(4, ge=1)
    patch_frames: int = Field(64, ge=1)
    width: int = Field(64, ge=16, multiple_of=16)
    embedding: int = Field(32, ge=16, multiple_of=16)
    hidden: int = Field(192, ge=16, multiple_of=16)
    channels: int = Field(32, ge=16, multiple_of=16)
    head: int = Field(64, ge=16, multiple_of=16)


class LatentConfig(BaseConfig):
    """Sizes of the two parts of a latent, and how the shared parts of two views become one before decoding.

    Attributes:
        private: dimensions of the private part.
        shared: dimensions of the shared part.
        combine: `own`, they do not; `mean` of the two samples; `swap`, each view is decoded with the other's, so that
            what is reconstructed is across views; `poe`, a sample from the product of the two posteriors.
    """

    private: int = Field(8, ge=1, le=1024)
    shared: int = Field(8, ge=1, le=1024)
    fusion: Literal["none", "mean", "swap", "poe"] = "swap"


class Architecture(NamedTuple):
    """What models must have in common to train in one stack; latent sizes are those of the widest model."""

    bands: int
    frames: int
    model: ModelConfig
    private: int
    shared: int


class Posterior(NamedTuple):
    """Means and log variances of the latents, [B, D], zero where masked."""

    mean: Tensor
    logvar: Tensor
