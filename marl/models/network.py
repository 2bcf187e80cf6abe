"""Base of all networks: the latents with their two subspaces, and initial values, cropping and padding of parameters.

A network is as wide as the widest model of a stack. In a model with fewer latents the others are masked, and it
computes the same as the narrower network. [P, Q] is the layout in which a network takes a spectrogram: patches and
their values, or bands and frames.
"""

import math
import zlib
from abc import ABC, abstractmethod
from collections.abc import Iterable
from functools import lru_cache
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import hardswish

from marl import randomness
from marl.models.config import Architecture, LatentConfig, ModelConfig, Parameters, ParameterSpec, Posterior
from marl.models.heads import Head, HeadSizes, Target
from marl.randomness import Purpose

__all__ = ["Network", "ParameterSpecs", "linear", "linear_specs"]

ParameterSpecs = dict[str, ParameterSpec]
"""Parameters of a network by name."""

# At every width, identifiers of private latents start at zero, and identifiers of shared latents here.
_FIRST_SHARED_ID = 1 << 16
# Posteriors start narrow. At unit variance the decoder sees noise for the first hundreds of steps.
_INITIAL_LOGVAR = -2.0


class Network(ABC):
    """Encoder and decoder as functions of a dictionary of parameters.

    A subclass passes the parameters of its layers: `encoder` before means and log variances of the latents, `decoder`
    after the layer that takes the latents. The last layer of a decoder has no bias: standardised spectrograms need
    none, and adding it would be another pass over the largest tensor. `local_shape` is the number of time steps of the
    encoder's local features, and the number of features of each step.
    """

    kind: ClassVar[str]
    """Value of `model.kind` in a configuration; a plug-in needs none."""

    config_class: ClassVar[type[ModelConfig]] = ModelConfig
    """Configuration of the network; a plug-in with further fields below `model` declares a subclass."""

    def __init__(
        self, architecture: Architecture, encoder: ParameterSpecs, decoder: ParameterSpecs, local_shape: tuple[int, int]
    ) -> None:
        self.architecture, self.local_shape, hidden = architecture, local_shape, architecture.model.hidden
        self.latents = latents = architecture.private + architecture.shared
        encoder = encoder | {
            "encoder.mean.weight": ParameterSpec((hidden, latents), fan_in=hidden, latent_dim=1),
            "encoder.mean.bias": ParameterSpec((latents,), latent_dim=0),
            "encoder.logvar.weight": ParameterSpec((hidden, latents), fan_in=hidden, latent_dim=1),
            "encoder.logvar.bias": ParameterSpec((latents,), latent_dim=0, initial_value=_INITIAL_LOGVAR),
        }
        first = {
            "decoder.hidden.weight": ParameterSpec((latents, hidden), 0, ("private", "shared"), latent_dim=0),
            "decoder.hidden.bias": ParameterSpec((hidden,)),
        }
        self._networks = {"encoder": encoder}
        self.parameter_specs: ParameterSpecs = encoder | first | decoder
        """Parameters of encoder, decoder and heads."""

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shapes of all parameters."""
        return {name: spec.shape for name, spec in self.parameter_specs.items()}

    def add_heads(self, heads: Iterable[Head | Target], groups: int) -> None:
        """Add the parameters of heads and targets; the heads that targets follow must be among them."""
        sizes = HeadSizes(self.architecture.model.head, *self.local_shape, groups)
        for head in sorted(heads, key=lambda head: (isinstance(head, Target), head.name)):  # targets come last
            if isinstance(head, Target):
                self.parameter_specs |= head.specs(self._networks[head.follows])
            else:
                self._networks[head.name] = head.specs(self.latents, sizes)
                self.parameter_specs |= self._networks[head.name]

    def to_input(self, log_mel_NFT: Tensor) -> Tensor:
        """Return spectrograms in the layout that `encode` takes and `decode` returns, [N, P, Q]; a view if possible."""
        return log_mel_NFT

    def from_output(self, output_NPQ: Tensor) -> Tensor:
        """Return spectrograms [N, F, T]: the inverse of `to_input`."""
        return output_NPQ

    @abstractmethod
    def _encode(self, parameters: Parameters, input_NPQ: Tensor) -> tuple[Tensor, Tensor]:
        """Return the last hidden layer of the encoder, [N, hidden], and the layer before, in the type of the input."""

    @abstractmethod
    def _local_features(self, layer: Tensor) -> Tensor:
        """Return the layer before the last hidden one, by time step: [N, steps, features]."""

    @abstractmethod
    def _decode(self, parameters: Parameters, hidden: Tensor) -> Tensor:
        """Return the output [N, P, Q] from the first hidden layer of the decoder, [N, hidden], and in its type."""

    def encode(
        self, parameters: Parameters, mask_D: Tensor, input_NPQ: Tensor, dtype: torch.dtype = torch.float32
    ) -> Posterior:
        """Return float32 posteriors of clips. Layers before means and log variances compute in `dtype`.

        `mask_D` is one for each latent of the model, zero for padding.
        """
        return self._posterior(parameters, mask_D, self._encode(parameters, input_NPQ.to(dtype))[0])

    def encode_with_local_features(
        self, parameters: Parameters, mask_D: Tensor, input_NPQ: Tensor, dtype: torch.dtype = torch.float32
    ) -> tuple[Posterior, Tensor]:
        """Return the result of `encode`, and float32 features [N, steps, features] of each time step."""
        hidden, layer = self._encode(parameters, input_NPQ.to(dtype))
        return self._posterior(parameters, mask_D, hidden), self._local_features(layer).to(torch.float32)

    def _posterior(self, parameters: Parameters, mask_D: Tensor, hidden: Tensor) -> Posterior:
        hidden = hidden.to(torch.float32)
        mean = linear(parameters, "encoder.mean", hidden)
        logvar = linear(parameters, "encoder.logvar", hidden)
        return Posterior(mean * mask_D, logvar * mask_D)

    def decode(self, parameters: Parameters, z_ND: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
        """Return the output [N, P, Q] of latents, in the type in which the layers after the first compute."""
        return self._decode(parameters, hardswish(linear(parameters, "decoder.hidden", z_ND)).to(dtype))

    def mask(self, latent: LatentConfig) -> Tensor:
        """Return one for each latent of a model and zero for padding, [D].

        Raises:
            ValueError: If the model has more latents than the network.
        """
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

    def latent_ids(self, device: torch.device | str = "cpu") -> Tensor:
        """Return the identifier with which numbers are drawn for each latent, the same at every width: int64 [D]."""
        return _latent_ids(self.architecture.private, self.architecture.shared, torch.device(device))

    def initial_parameters(
        self, latent: LatentConfig, seed: int, device: torch.device | str = "cpu", heads: Iterable[Head | Target] = ()
    ) -> Parameters:
        """Return the initial parameters of one model. Parameters of heads that it does not have are zero.

        They depend on the seed and on the sizes of the model, not on the width of the network. A parameter that follows
        another one starts at the value of that one.
        """
        mask = self.mask(latent)
        parameters = {}
        for name, spec in self.parameter_specs.items():
            fan_in = spec.fan_in or sum(getattr(latent, subspace) for subspace in spec.latent_inputs)
            if not fan_in:
                parameters[name] = torch.full(spec.shape, spec.initial_value, device=device)
                continue
            ids = [torch.arange(size, device=device) for size in spec.shape]
            if spec.latent_dim is not None:
                ids[spec.latent_dim] = self.latent_ids(device)
            stream = randomness.stream(
                torch.tensor(seed, device=device),
                torch.tensor(0, device=device),
                Purpose.INITIAL_VALUES,
                part=zlib.crc32((spec.follows or name).encode()),
            )
            parameters[name] = (2 * randomness.uniform(stream, *ids) - 1) * math.sqrt(3 / fan_in)
        return self.pad(self.crop(parameters, mask, heads), mask)

    def crop(self, parameters: Parameters, mask: Tensor, heads: Iterable[Head | Target] = ()) -> Parameters:
        """Return the parameters of one model, without masked latents and without heads of other models."""
        kept, head_names = mask.nonzero().squeeze(-1), {None, *(head.name for head in heads)}
        cropped = {}
        for name, value in parameters.items():
            dim = self.parameter_specs[name].latent_dim
            if self.parameter_specs[name].head in head_names:
                cropped[name] = value if dim is None else value.index_select(dim, kept.to(value.device))
        return cropped

    def pad(self, parameters: Parameters, mask: Tensor) -> Parameters:
        """Return the inverse of `crop`, with zeros for masked latents and for heads of other models."""
        kept = mask.nonzero().squeeze(-1)
        device = next(iter(parameters.values())).device
        padded = {}
        for name, spec in self.parameter_specs.items():
            value = parameters.get(name)
            if value is None or spec.latent_dim is not None:
                padded[name] = torch.zeros(spec.shape, device=device)
                if value is not None:
                    padded[name] = padded[name].index_copy(spec.latent_dim, kept.to(device), value)
            else:
                padded[name] = value
        return padded


def linear_specs(name: str, inputs: int, outputs: int) -> ParameterSpecs:
    """Return the parameters of a fully connected layer."""
    weight, bias = ParameterSpec((inputs, outputs), fan_in=inputs), ParameterSpec((outputs,))
    return {f"{name}.weight": weight, f"{name}.bias": bias}


def linear(parameters: Parameters, name: str, inputs: Tensor) -> Tensor:
    """Apply a fully connected layer to [..., inputs], in their type."""
    weight, bias = parameters[f"{name}.weight"], parameters[f"{name}.bias"]
    return inputs @ weight.to(inputs.dtype) + bias.to(inputs.dtype)


@lru_cache(maxsize=64)
def _latent_ids(private: int, shared: int, device: torch.device) -> Tensor:
    """Return a cached table, for the reason given in `marl.randomness.indices`."""
    with torch.inference_mode(False):
        ids_D = torch.cat([torch.arange(private), _FIRST_SHARED_ID + torch.arange(shared)])
        return ids_D.to(device)
