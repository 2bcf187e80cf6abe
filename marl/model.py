"""The encoder and decoder, and the latent split in private and shared.

Every layer is a matmul over patches of the spectrogram: stacked over many models, matmuls become batched matmuls, which
are fast, while convolutions become grouped convolutions, which are not.

B is clips, P patches, Q values of a patch, F mel bands, T frames, D latents (private then shared, each at the width of
the widest model of a stack). A model with fewer latents than the width has the others masked and is exactly the
narrower model.
"""

import math
import zlib
from collections.abc import Callable
from typing import Literal, NamedTuple

import torch
from pydantic import Field
from torch import Tensor
from torch.nn.functional import hardswish

from marl import randomness
from marl.randomness import Purpose
from marl.settings import Settings

__all__ = ["COMBINATIONS", "Architecture", "LatentConfig", "ModelConfig", "Parameters", "PatchNetwork", "Posterior"]

Parameters = dict[str, Tensor]

# Numbers are drawn by address: private latents count from 0, shared ones from here, whatever the widths.
_FIRST_SHARED = 1 << 16
# Without a bias: standardised spectrograms have none to learn, and adding it would pass over the largest tensor again.
_OUTPUT = "decoder.patch"
# Posteriors start narrow; at unit variance the decoder sees noise for the first hundreds of steps.
_INITIAL_LOGVAR = -2.0


class ModelConfig(Settings):
    """Widths of the network. Those of layers are multiples of 16, so that rows align with vector registers.

    Attributes:
        patch_bands: mel bands of a patch; divides the bands of the spectrogram.
        patch_frames: frames of a patch; divides the frames of the spectrogram.
        width: first layer, over the values of a patch.
        embedding: what is kept of a patch.
        hidden: layer over all patches.
    """

    patch_bands: int = Field(4, ge=1)
    patch_frames: int = Field(64, ge=1)
    width: int = Field(64, ge=16, multiple_of=16)
    embedding: int = Field(32, ge=16, multiple_of=16)
    hidden: int = Field(192, ge=16, multiple_of=16)


class LatentConfig(Settings):
    """Sizes of the two parts of a latent, and how the shared parts of two views become one before decoding.

    Attributes:
        private: dimensions of the private part.
        shared: dimensions of the shared part.
        combine: `mean` of the two samples; `swap`, each view is decoded with the other's; `poe`, a sample from the
            product of the two posteriors.
    """

    private: int = Field(8, ge=1, le=1024)
    shared: int = Field(8, ge=1, le=1024)
    combine: Literal["mean", "swap", "poe"] = "swap"


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


class PatchNetwork:
    """Encoder and decoder as functions of a dictionary of parameters.

    Raises:
        ValueError: when the patches do not tile the spectrogram.
    """

    def __init__(self, architecture: Architecture) -> None:
        bands, frames, model, private, shared = architecture
        if bands % model.patch_bands or frames % model.patch_frames:
            raise ValueError(
                f"patches of {model.patch_bands} bands x {model.patch_frames} frames must tile a spectrogram of "
                f"{bands} x {frames}: model.patch_bands and model.patch_frames must divide mel_bands and frames"
            )
        self.architecture = architecture
        self.patches = bands * frames // (model.patch_bands * model.patch_frames)
        self.latents = private + shared
        values, latents = model.patch_bands * model.patch_frames, self.latents
        layers = {
            "encoder.patch": (values, model.width),
            "encoder.embedding": (model.width, model.embedding),
            "encoder.hidden": (self.patches * model.embedding, model.hidden),
            "encoder.mean": (model.hidden, latents),
            "encoder.logvar": (model.hidden, latents),
            "decoder.hidden": (latents, model.hidden),
            "decoder.embedding": (model.hidden, self.patches * model.embedding),
            "decoder.width": (model.embedding, model.width),
            _OUTPUT: (model.width, values),
        }
        self.shapes: dict[str, tuple[int, ...]] = {}
        for name, (inputs, outputs) in layers.items():
            self.shapes[f"{name}.weight"] = (inputs, outputs)
            if name != _OUTPUT:
                self.shapes[f"{name}.bias"] = (outputs,)

    def mask(self, latent: LatentConfig) -> Tensor:
        """One for each of the D latents that a model has, zero for padding."""
        _, _, _, private, shared = self.architecture
        if latent.private > private or latent.shared > shared:
            raise ValueError(
                f"a stack of {private} private and {shared} shared latents cannot hold a model of {latent.private} and "
                f"{latent.shared}"
            )
        mask = torch.zeros(self.latents)
        mask[: latent.private] = 1
        mask[private : private + latent.shared] = 1
        return mask

    def addresses(self) -> Tensor:
        """What each latent is called when numbers are drawn for it; the same at every width. int64 [D]."""
        _, _, _, private, shared = self.architecture
        return torch.cat([torch.arange(private), _FIRST_SHARED + torch.arange(shared)])

    def initial(self, latent: LatentConfig, seed: int) -> Parameters:
        """Initial values of one model, on the CPU: weights uniform with variance 1 / fan-in, biases zero.

        A function of the seed and of the model's own sizes, not of the width that it is padded to.
        """
        mask, addresses = self.mask(latent), self.addresses()
        parameters = {}
        for name, shape in self.shapes.items():
            if name.endswith(".bias"):
                start = _INITIAL_LOGVAR if name == "encoder.logvar.bias" else 0.0
                parameters[name] = torch.full(shape, start)
                continue
            rows, columns = (torch.arange(size) for size in shape)
            fan_in = shape[0]
            if name == "decoder.hidden.weight":
                rows, fan_in = addresses, latent.private + latent.shared
            elif name in ("encoder.mean.weight", "encoder.logvar.weight"):
                columns = addresses
            state = randomness.stream(
                torch.tensor(seed), torch.tensor(0), Purpose.INITIAL_VALUES, part=zlib.crc32(name.encode())
            )
            parameters[name] = (2 * randomness.uniform(state, rows, columns) - 1) * math.sqrt(3 / fan_in)
        return self.pad(self.crop(parameters, mask), mask)

    def crop(self, parameters: Parameters, mask: Tensor) -> Parameters:
        """The parameters of the model itself, without those of masked latents."""
        kept = mask.nonzero().squeeze(-1)
        return {
            name: value.index_select(dimension, kept.to(value.device)) if dimension is not None else value
            for name, value in parameters.items()
            for dimension in [_latent_dimension(name)]
        }

    def pad(self, parameters: Parameters, mask: Tensor) -> Parameters:
        """The inverse of `crop`: zeros for what belongs to masked latents."""
        kept = mask.nonzero().squeeze(-1)
        padded = {}
        for name, value in parameters.items():
            dimension = _latent_dimension(name)
            if dimension is None:
                padded[name] = value
            else:
                zeros = torch.zeros(self.shapes[name], dtype=value.dtype, device=value.device)
                padded[name] = zeros.index_copy(dimension, kept.to(value.device), value)
        return padded

    def to_patches(self, log_mel_BFT: Tensor) -> Tensor:
        """Spectrograms as patches [B, P, Q]; a view where the layout allows it."""
        bands, frames, model, _, _ = self.architecture
        tiles = log_mel_BFT.unflatten(-1, (frames // model.patch_frames, model.patch_frames)).unflatten(
            -3, (bands // model.patch_bands, model.patch_bands)
        )
        patches: Tensor = tiles.transpose(-3, -2).flatten(-2, -1).flatten(-3, -2)
        return patches

    def from_patches(self, patches_BPQ: Tensor) -> Tensor:
        """The inverse of `to_patches`: spectrograms [B, F, T]."""
        bands, frames, model, _, _ = self.architecture
        tiles = patches_BPQ.unflatten(-1, (model.patch_bands, model.patch_frames)).unflatten(
            -3, (bands // model.patch_bands, frames // model.patch_frames)
        )
        spectrograms: Tensor = tiles.transpose(-3, -2).flatten(-2, -1).flatten(-3, -2)
        return spectrograms

    def encode(self, parameters: Parameters, mask_D: Tensor, patches_BPQ: Tensor) -> Posterior:
        """Posteriors of clips given as patches."""
        hidden = hardswish(_linear(parameters, "encoder.patch", patches_BPQ.flatten(0, 1)))
        hidden = hardswish(_linear(parameters, "encoder.embedding", hidden))
        hidden = hardswish(_linear(parameters, "encoder.hidden", hidden.unflatten(0, (-1, self.patches)).flatten(1)))
        mean = _linear(parameters, "encoder.mean", hidden)
        logvar = _linear(parameters, "encoder.logvar", hidden)
        return Posterior(mean * mask_D, logvar * mask_D)

    def decode(self, parameters: Parameters, z_BD: Tensor) -> Tensor:
        """Patches [B, P, Q] from latents."""
        hidden = hardswish(_linear(parameters, "decoder.hidden", z_BD))
        hidden = hardswish(_linear(parameters, "decoder.embedding", hidden))
        hidden = hidden.unflatten(1, (self.patches, -1)).flatten(0, 1)
        hidden = hardswish(_linear(parameters, "decoder.width", hidden))
        patches: Tensor = (hidden @ parameters[f"{_OUTPUT}.weight"]).unflatten(0, (-1, self.patches))
        return patches


def combine_mean(posterior: Posterior, z_BD: Tensor, noise_BD: Tensor) -> Tensor:
    """Both views are decoded with the mean of their samples."""
    return 0.5 * (z_BD + _other(z_BD))


def combine_swap(posterior: Posterior, z_BD: Tensor, noise_BD: Tensor) -> Tensor:
    """Each view is decoded with the other's sample."""
    return _other(z_BD)


def combine_poe(posterior: Posterior, z_BD: Tensor, noise_BD: Tensor) -> Tensor:
    """Both views are decoded with one sample of the product of their posteriors.

    The product of two normal densities is normal: precisions add, means are averaged by precision (Wu and Goodman,
    "Multimodal Generative Models for Scalable Weakly-Supervised Learning", NeurIPS 2018, without the prior expert).
    """
    precision = torch.exp(-posterior.logvar)
    weighted = precision * posterior.mean
    joint_precision = precision + _other(precision)
    joint_mean = (weighted + _other(weighted)) / joint_precision
    joint_noise = math.sqrt(0.5) * (noise_BD + _other(noise_BD))
    return joint_mean + joint_noise * joint_precision.rsqrt()


Combination = Callable[[Posterior, Tensor, Tensor], Tensor]

COMBINATIONS: dict[str, Combination] = {"mean": combine_mean, "swap": combine_swap, "poe": combine_poe}
"""Ways to make one shared latent of two. Each takes the shared posterior of all first views followed by all second
views, a sample of each, and the standard normal numbers that made the samples, all [B, D]; it returns the latents [B,
D] from which each view is decoded."""


def _other(values_BD: Tensor) -> Tensor:
    """Row by row, the value of the pair's other view."""
    return values_BD.roll(len(values_BD) // 2, dims=0)


def _linear(parameters: Parameters, name: str, inputs: Tensor) -> Tensor:
    return inputs @ parameters[f"{name}.weight"] + parameters[f"{name}.bias"]


def _latent_dimension(name: str) -> int | None:
    """Along which dimension of a parameter the latents lie."""
    layer, kind = name.rsplit(".", 1)
    if layer in ("encoder.mean", "encoder.logvar"):
        return 1 if kind == "weight" else 0
    return 0 if name == "decoder.hidden.weight" else None
