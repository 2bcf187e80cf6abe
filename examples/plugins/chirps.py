"""A data set, a network and a metric.

In a spec: `data.kind: chirps:Chirps`, `model.kind: chirps:DenseNetwork`, `metrics: [chirps:gini]`.
"""

import math
from collections.abc import Sequence
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor
from torch.nn.functional import hardswish

from marl.plugins import (
    Architecture,
    AudioConfig,
    Clips,
    ComputedDatasetConfig,
    EvaluationContext,
    Factor,
    ModelConfig,
    Network,
    Parameters,
    ParameterSpec,
    linear,
    linear_specs,
    split_clips,
)

_OVERTONES = {"pure": 1, "bright": 4}


class Chirps(ComputedDatasetConfig):
    """Tones of two timbres whose pitch glides. Fields are options, below `data` in a spec."""

    description: ClassVar[str] = "chirps: computed tones whose pitch glides"
    factor_names: ClassVar[tuple[str, ...]] = ("timbre", "pitch", "glide")

    pitches: int = Field(20, ge=2, le=20)
    glides: int = Field(10, ge=2, le=20)

    @property
    def size(self) -> int:
        """Number of clips."""
        return len(_OVERTONES) * self.pitches * self.glides

    def factors(self) -> tuple[Factor, ...]:
        """Return the factors with their values: pitch in Hz, glide in octaves a second."""
        pitches = tuple(200.0 * 2 ** (2 * index / self.pitches) for index in range(self.pitches))
        glides = tuple(2 * index / (self.glides - 1) - 1 for index in range(self.glides))
        return tuple(
            Factor(name, values, tuple(range(len(values))))
            for name, values in (("timbre", tuple(_OVERTONES)), ("pitch", pitches), ("glide", glides))
        )

    def clips(self, audio: AudioConfig, device: torch.device) -> Clips:
        """Return the clips; waveforms are synthesised when they are asked for."""
        factors = self.factors()
        value_NC = torch.cartesian_prod(*(torch.arange(len(factor.values)) for factor in factors))
        time_S = torch.arange(audio.clip_samples, dtype=torch.float64) / audio.sample_rate

        def waveform(timbre: int, pitch: int, glide: int) -> Tensor:
            rate = math.log(2) * float(factors[2].values[glide]) or 1e-9
            phase_S = 2 * math.pi * float(factors[1].values[pitch]) * torch.expm1(rate * time_S) / rate
            overtones = _OVERTONES[str(factors[0].values[timbre])]
            return torch.stack([torch.sin(n * phase_S) / n for n in range(1, overtones + 1)]).sum(dim=0) / 2

        def waveforms(indices: Sequence[int]) -> Tensor:
            return torch.stack([waveform(*value_NC[index].tolist()) for index in indices]).to(torch.float32)

        names = [f"{index:06d}" for index in range(self.size)]
        splits = split_clips("clip", value_NC, factors, names, names)
        on_device = {name: clips.to(device) for name, clips in splits.items()}
        return Clips(value_NC.to(device), factors, on_device, waveforms)


class DenseConfig(ModelConfig):
    """Sizes of the network, below `model` in a spec. A search may vary `model.depth`."""

    depth: int = Field(1, ge=1, le=8)


class DenseNetwork(Network):
    """Fully connected layers on the whole spectrogram, of `model.width` units, then `model.hidden` units."""

    config_class = DenseConfig

    def __init__(self, architecture: Architecture) -> None:
        bands, frames, model = architecture.bands, architecture.frames, architecture.model
        self._shape = bands, frames
        assert isinstance(model, DenseConfig)
        sizes = [bands * frames, *[model.width] * model.depth]
        self._layers = [f"encoder.dense{index}" for index in range(model.depth)]
        encoder: dict[str, ParameterSpec] = {}
        for name, inputs, outputs in zip(self._layers, sizes, sizes[1:], strict=False):
            encoder |= linear_specs(name, inputs, outputs)
        super().__init__(
            architecture,
            encoder=encoder | linear_specs("encoder.hidden", model.width, model.hidden),
            decoder=linear_specs("decoder.dense", model.hidden, model.width)
            | {"decoder.out.weight": ParameterSpec((model.width, bands * frames), fan_in=model.width)},
            local_shape=(1, model.width),
        )

    def _encode(self, parameters: Parameters, input_NPQ: Tensor) -> tuple[Tensor, Tensor]:
        layer = input_NPQ.flatten(1)
        for name in self._layers:
            layer = hardswish(linear(parameters, name, layer))
        return hardswish(linear(parameters, "encoder.hidden", layer)), layer

    def _local_features(self, layer: Tensor) -> Tensor:
        return layer.unsqueeze(1)

    def _decode(self, parameters: Parameters, hidden: Tensor) -> Tensor:
        hidden = hardswish(linear(parameters, "decoder.dense", hidden))
        output: Tensor = (hidden @ parameters["decoder.out.weight"].to(hidden.dtype)).unflatten(1, self._shape)
        return output


def gini(context: EvaluationContext) -> Tensor:
    """Return the Gini coefficient of the deviations of the latents: 0 if all vary alike, near 1 if one latent varies.

    Padded latents have the deviation zero, so they come first in the ascending order, where they count as nothing.
    """
    mask_KD = context.models.mask_KD
    deviation_KD = (context.held_out.means_KND.std(dim=1) * mask_KD).sort(dim=1).values
    latents_K1 = mask_KD.sum(dim=1, keepdim=True)
    rank_KD = torch.arange(1, mask_KD.shape[1] + 1, device=mask_KD.device) - (mask_KD.shape[1] - latents_K1)
    weighted_K = ((2 * rank_KD - latents_K1 - 1) * deviation_KD).sum(dim=1)
    return weighted_K / (latents_K1[:, 0] * deviation_KD.sum(dim=1)).clamp_min(1e-12)
