"""What every encoder and decoder has in common: the latents, split in private and shared, and the parameters.

B is clips, F mel bands, T frames, D latents (private then shared, each at the width of the widest model of a stack). A
clip is [P, Q] to a network: patches and their values, or bands and frames. A model with fewer latents than the width
has the others masked and is exactly the narrower model.
"""

import math
import zlib
from abc import ABC, abstractmethod
from collections.abc import Iterable
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn.functional import hardswish

from marl import randomness
from marl.models.config import Architecture, LatentConfig, Parameters, Posterior
from marl.models.heads import TARGET, head_of, head_shapes
from marl.randomness import Purpose

__all__ = ["Network", "linear", "linear_shapes"]

Shapes = dict[str, tuple[int, ...]]

# Numbers are drawn by address: private latents count from 0, shared ones from here, whatever the widths.
_FIRST_SHARED = 1 << 16
# Posteriors start narrow; at unit variance the decoder sees noise for the first hundreds of steps.
_INITIAL_LOGVAR = -2.0


class Network(ABC):
    """Encoder and decoder as functions of a dictionary of parameters.

    A kind of network gives the shapes of its own layers and computes them. It has no bias in its last layer:
    standardised spectrograms have none to learn, and adding it would pass over the largest tensor again.

    Args:
        architecture: what the network is for.
        encoder: parameters of the layers before the latents' means and log variances.
        decoder: parameters of the layers after the one that takes the latents.
        local: how many steps in time, and features of each, the encoder knows before it looks at a clip as a whole.
    """

    def __init__(self, architecture: Architecture, encoder: Shapes, decoder: Shapes, local: tuple[int, int]) -> None:
        self.architecture = architecture
        self.local = local
        self.latents = architecture.private + architecture.shared
        hidden = architecture.model.hidden
        self.shapes: Shapes = {
            **encoder,
            **linear_shapes("encoder.mean", hidden, self.latents),
            **linear_shapes("encoder.logvar", hidden, self.latents),
            **linear_shapes("decoder.hidden", self.latents, hidden),
            **decoder,
        }
        """Of all parameters, by name."""

    def add_heads(self, heads: Iterable[str], groups: int) -> None:
        """Have parameters for heads, see `marl.models.heads`, as well."""
        own = dict(self.shapes)
        for head in sorted(heads):
            self.shapes |= head_shapes(head, own, self.latents, self.architecture.model.head, self.local, groups)

    @abstractmethod
    def to_input(self, log_mel_BFT: Tensor) -> Tensor:
        """Spectrograms as `encode` takes and `decode` returns them, [B, P, Q]; a view where the layout allows it."""

    @abstractmethod
    def from_output(self, output_BPQ: Tensor) -> Tensor:
        """The inverse of `to_input`: spectrograms [B, F, T]."""

    @abstractmethod
    def _encode(self, parameters: Parameters, input_BPQ: Tensor) -> tuple[Tensor, Tensor]:
        """The last hidden layer of the encoder, [B, hidden], and the one before, in the type of the input."""

    @abstractmethod
    def _by_time(self, layer: Tensor) -> Tensor:
        """What the layer before the last hidden one says of each step in time, [B, steps, features]."""

    @abstractmethod
    def _decode(self, parameters: Parameters, hidden: Tensor) -> Tensor:
        """The output [B, P, Q] from the first hidden layer of the decoder, [B, hidden], and in its type."""

    def _fan_in(self, name: str) -> int:
        """How many numbers make one of a layer, by the name of its weight."""
        return self.shapes[name][0]

    def encode(
        self, parameters: Parameters, mask_D: Tensor, input_BPQ: Tensor, dtype: torch.dtype = torch.float32
    ) -> Posterior:
        """Posteriors of clips given as `to_input` makes them, float32; layers before them compute in `dtype`."""
        return self._posterior(parameters, mask_D, self._encode(parameters, input_BPQ.to(dtype))[0])

    def encode_by_time(
        self, parameters: Parameters, mask_D: Tensor, input_BPQ: Tensor, dtype: torch.dtype = torch.float32
    ) -> tuple[Posterior, Tensor]:
        """The same, and features of each step in time, [B, steps, features] of `local`, float32."""
        hidden, layer = self._encode(parameters, input_BPQ.to(dtype))
        return self._posterior(parameters, mask_D, hidden), self._by_time(layer).to(torch.float32)

    def _posterior(self, parameters: Parameters, mask_D: Tensor, hidden: Tensor) -> Posterior:
        hidden = hidden.to(torch.float32)
        mean = linear(parameters, "encoder.mean", hidden)
        logvar = linear(parameters, "encoder.logvar", hidden)
        return Posterior(mean * mask_D, logvar * mask_D)

    def decode(self, parameters: Parameters, z_BD: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
        """The output [B, P, Q] from latents; layers after the first compute in `dtype`, which is that of the output."""
        return self._decode(parameters, hardswish(linear(parameters, "decoder.hidden", z_BD)).to(dtype))

    def mask(self, latent: LatentConfig) -> Tensor:
        """One for each of the D latents that a model has, zero for padding.

        Raises:
            ValueError: when the model has more latents than the network is wide.
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

    def addresses(self, device: torch.device | str = "cpu") -> Tensor:
        """What each latent is called when numbers are drawn for it; the same at every width. int64 [D]."""
        _, _, _, private, shared = self.architecture
        return _addresses(private, shared, torch.device(device))

    def initial(
        self, latent: LatentConfig, seed: int, device: torch.device | str = "cpu", heads: Iterable[str] = ()
    ) -> Parameters:
        """Initial values of one model: weights uniform with variance 1 / fan-in, biases zero.

        A function of the seed and of the model's own sizes, not of the width that it is padded to. What follows other
        parameters begins as they do.

        Args:
            latent: sizes of the model's latents.
            seed: of the model.
            device: where they will be.
            heads: that the model has.
        """
        mask, addresses = self.mask(latent), self.addresses(device)
        parameters = {}
        for padded_name, shape in self.shapes.items():
            name = padded_name.removeprefix(TARGET)
            if name.endswith(".bias"):
                start = _INITIAL_LOGVAR if name == "encoder.logvar.bias" else 0.0
                parameters[padded_name] = torch.full(shape, start, device=device)
                continue
            rows, columns = (torch.arange(size, device=device) for size in shape)
            fan_in = self._fan_in(name)
            if name == "decoder.hidden.weight":
                rows, fan_in = addresses, latent.private + latent.shared
            elif name.endswith(".latents.weight"):
                rows, fan_in = addresses, getattr(latent, name.split(".")[1])
            elif name in ("encoder.mean.weight", "encoder.logvar.weight"):
                columns = addresses
            state = randomness.stream(
                torch.tensor(seed, device=device),
                torch.tensor(0, device=device),
                Purpose.INITIAL_VALUES,
                part=zlib.crc32(name.encode()),
            )
            parameters[padded_name] = (2 * randomness.uniform(state, rows, columns) - 1) * math.sqrt(3 / fan_in)
        return self.pad(self.crop(parameters, mask, heads), mask)

    def crop(self, parameters: Parameters, mask: Tensor, heads: Iterable[str] = ()) -> Parameters:
        """The parameters of the model itself, without those of masked latents and of heads that it does not have."""
        kept, had = mask.nonzero().squeeze(-1), {None, *heads}
        return {
            name: value.index_select(dimension, kept.to(value.device)) if dimension is not None else value
            for name, value in parameters.items()
            if head_of(name) in had
            for dimension in [_latent_dimension(name)]
        }

    def pad(self, parameters: Parameters, mask: Tensor) -> Parameters:
        """The inverse of `crop`: zeros for what belongs to masked latents or to heads that the model does not have."""
        kept = mask.nonzero().squeeze(-1)
        device = next(iter(parameters.values())).device
        padded = {}
        for name, shape in self.shapes.items():
            value, dimension = parameters.get(name), _latent_dimension(name)
            if value is not None and dimension is None:
                padded[name] = value
                continue
            padded[name] = torch.zeros(shape, device=device)
            if value is not None and dimension is not None:
                padded[name] = padded[name].index_copy(dimension, kept.to(device), value)
        return padded


def linear_shapes(name: str, inputs: int, outputs: int) -> Shapes:
    """Parameters of a fully connected layer."""
    return {f"{name}.weight": (inputs, outputs), f"{name}.bias": (outputs,)}


def linear(parameters: Parameters, name: str, inputs: Tensor) -> Tensor:
    """A fully connected layer on [..., inputs], in their type."""
    weight, bias = parameters[f"{name}.weight"], parameters[f"{name}.bias"]
    return inputs @ weight.to(inputs.dtype) + bias.to(inputs.dtype)


@lru_cache(maxsize=64)
def _addresses(private: int, shared: int, device: torch.device) -> Tensor:
    """Return a stored table, for the reason given in `marl.randomness.indices`."""
    with torch.inference_mode(False):
        addresses_D = torch.cat([torch.arange(private), _FIRST_SHARED + torch.arange(shared)])
        return addresses_D.to(device)


def _latent_dimension(name: str) -> int | None:
    """Along which dimension of a parameter the latents lie."""
    layer, kind = name.removeprefix(TARGET).rsplit(".", 1)
    if layer in ("encoder.mean", "encoder.logvar"):
        return 1 if kind == "weight" else 0
    return 0 if kind == "weight" and (layer == "decoder.hidden" or layer.endswith(".latents")) else None
