"""Base of all networks: the latents with their two subspaces, and initial values, cropping and padding of parameters.

A network is as wide as the widest model of a stack. A model with fewer latents has the rest masked and computes exactly
what the narrower network would. [P, Q] is the layout in which a network takes a spectrogram: patches and their values,
or bands and frames.
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
from marl.models.config import Architecture, LatentConfig, Parameters, ParameterSpec, Posterior
from marl.models.heads import Head, HeadSizes, Target
from marl.randomness import Purpose

__all__ = ["Network", "ParameterSpecs", "linear", "linear_specs"]

ParameterSpecs = dict[str, ParameterSpec]
"""Parameters of a network by name."""

# Identifiers of private latents count from zero, those of shared latents from here, whatever the widths.
_FIRST_SHARED_ID = 1 << 16
# Posteriors start narrow. At unit variance the decoder sees noise for the first hundreds of steps.
_INITIAL_LOGVAR = -2.0


class Network(ABC):
    """Encoder and decoder as functions of a dictionary of parameters.

    A subclass describes the parameters of its own layers and computes them. The last layer of a decoder has no bias:
    standardised spectrograms need none, and adding it would be another pass over the largest tensor.

    Args:
        architecture: Sizes of the network.
        encoder: Parameters of the layers before means and log variances of the latents.
        decoder: Parameters of the layers after the one that takes the latents.
        local_shape: Time steps of the local features that the encoder computes on its way, and features of each step.
    """

    kind: ClassVar[str]
    """Value of `model.kind` in a configuration."""

    def __init__(
        self, architecture: Architecture, encoder: ParameterSpecs, decoder: ParameterSpecs, local_shape: tuple[int, int]
    ) -> None:
        self.architecture = architecture
        self.local_shape = local_shape
        self.latents = latents = architecture.private + architecture.shared
        hidden = architecture.model.hidden
        encoder = encoder | {
            "encoder.mean.weight": ParameterSpec((hidden, latents), fan_in=hidden, latent_dim=1),
            "encoder.mean.bias": ParameterSpec((latents,), latent_dim=0),
            "encoder.logvar.weight": ParameterSpec((hidden, latents), fan_in=hidden, latent_dim=1),
            "encoder.logvar.bias": ParameterSpec((latents,), latent_dim=0, initial_value=_INITIAL_LOGVAR),
        }
        first = {
            "decoder.hidden.weight": ParameterSpec(
                (latents, hidden), latent_inputs=("private", "shared"), latent_dim=0
            ),
            "decoder.hidden.bias": ParameterSpec((hidden,)),
        }
        self._networks = {"encoder": encoder}
        self.parameter_specs: ParameterSpecs = encoder | first | decoder
        """All parameters, those of heads included."""

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shapes of all parameters."""
        return {name: spec.shape for name, spec in self.parameter_specs.items()}

    def add_heads(self, heads: Iterable[Head | Target], groups: int) -> None:
        """Add the parameters of heads.

        Args:
            heads: Heads and targets; a head that a target follows is among them.
            groups: Combinations of values of the shared factors.
        """
        sizes = HeadSizes(self.architecture.model.head, *self.local_shape, groups)
        # Targets come last.
        for head in sorted(heads, key=lambda head: (isinstance(head, Target), head.name)):
            if isinstance(head, Target):
                specs = head.specs(self._networks[head.follows])
            else:
                specs = self._networks[head.name] = head.specs(self.latents, sizes)
            self.parameter_specs |= specs

    @abstractmethod
    def to_input(self, log_mel_NFT: Tensor) -> Tensor:
        """Return spectrograms in the layout that `encode` takes and `decode` returns, [N, P, Q]; a view if possible."""

    @abstractmethod
    def from_output(self, output_NPQ: Tensor) -> Tensor:
        """Return spectrograms [N, F, T]: the inverse of `to_input`."""

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
        """Return float32 posteriors of clips.

        Args:
            parameters: Parameters of one model.
            mask_D: One for each latent of the model, zero for padding.
            input_NPQ: Clips in the layout of `to_input`.
            dtype: Type in which the layers before means and log variances compute.
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
        _, _, _, private, shared = self.architecture
        return _latent_ids(private, shared, torch.device(device))

    def initial_parameters(
        self,
        latent: LatentConfig,
        seed: int,
        device: torch.device | str = "cpu",
        heads: Iterable[Head | Target] = (),
    ) -> Parameters:
        """Return the initial parameters of one model.

        They depend on the seed and on the sizes of the model, not on the width of the network. A parameter that follows
        another one starts at the value of that one.

        Args:
            latent: Sizes of the latents of the model.
            seed: Seed of the model.
            device: Device of the parameters.
            heads: Heads of the model; parameters of the network's other heads are zero.
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
        """Return the parameters of one model, without those of masked latents and of heads that it does not have."""
        kept, head_names = mask.nonzero().squeeze(-1), {None, *(head.name for head in heads)}
        cropped = {}
        for name, value in parameters.items():
            spec = self.parameter_specs[name]
            if spec.head in head_names:
                has_latents = spec.latent_dim is not None
                cropped[name] = value.index_select(spec.latent_dim, kept.to(value.device)) if has_latents else value
        return cropped

    def pad(self, parameters: Parameters, mask: Tensor) -> Parameters:
        """Return the inverse of `crop`: zeros for masked latents and for heads that the model does not have."""
        kept = mask.nonzero().squeeze(-1)
        device = next(iter(parameters.values())).device
        padded = {}
        for name, spec in self.parameter_specs.items():
            value = parameters.get(name)
            if value is not None and spec.latent_dim is None:
                padded[name] = value
                continue
            padded[name] = torch.zeros(spec.shape, device=device)
            if value is not None and spec.latent_dim is not None:
                padded[name] = padded[name].index_copy(spec.latent_dim, kept.to(device), value)
        return padded


def linear_specs(name: str, inputs: int, outputs: int) -> ParameterSpecs:
    """Return the parameters of a fully connected layer."""
    return {
        f"{name}.weight": ParameterSpec((inputs, outputs), fan_in=inputs),
        f"{name}.bias": ParameterSpec((outputs,)),
    }


def linear(parameters: Parameters, name: str, inputs: Tensor) -> Tensor:
    """Apply a fully connected layer to [..., inputs], in their type."""
    weight, bias = parameters[f"{name}.weight"], parameters[f"{name}.bias"]
    return inputs @ weight.to(inputs.dtype) + bias.to(inputs.dtype)


@lru_cache(maxsize=64)
def _latent_ids(private: int, shared: int, device: torch.device) -> Tensor:
    """Return a stored table, for the reason given in `marl.randomness.indices`."""
    with torch.inference_mode(False):
        ids_D = torch.cat([torch.arange(private), _FIRST_SHARED_ID + torch.arange(shared)])
        return ids_D.to(device)
