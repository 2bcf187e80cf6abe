"""The encoder and decoder of convolutions that are usual in the field.

B is clips, F mel bands, T frames.
"""

from itertools import pairwise

from torch import Tensor
from torch.nn.functional import hardswish

from marl.models.config import Architecture, Parameters
from marl.models.conv_ops import convolution, first_convolution, last_convolution, transposed_convolution
from marl.models.network import Network, linear, linear_shapes

__all__ = ["ConvNetwork"]

_OUTPUT = "decoder.conv4.weight"
# In these, four products of the weight are added up.
_ADDED_UP = frozenset({"encoder.conv2.weight", "encoder.conv3.weight", "encoder.conv4.weight", _OUTPUT})
# Four convolutions halve both sizes of the spectrogram.
_SHRINKS = 16


class ConvNetwork(Network):
    """Four convolutions with stride 2 and a fully connected layer, and the same backwards.

    Burgess et al., "Understanding disentangling in β-VAE", 2018, and Locatello et al., "Challenging Common Assumptions
    in the Unsupervised Learning of Disentangled Representations", ICML 2019 (`conv_encoder` and `deconv_decoder` of
    disentanglement_lib, with 32 `channels` and 256 `hidden`). It departs from the latter in that all kernels are 4 x 4,
    where two of the encoder's are 2 x 2 there, and in the activation, hardswish as in the patch network, not ReLU.

    Raises:
        ValueError: when the spectrogram cannot be halved four times.
    """

    def __init__(self, architecture: Architecture) -> None:
        bands, frames, model, _, _ = architecture
        if bands % _SHRINKS or frames % _SHRINKS:
            raise ValueError(
                f"model.kind conv halves a spectrogram four times: mel_bands and frames must be multiples of "
                f"{_SHRINKS}, got {bands} x {frames}"
            )
        outer, inner = model.channels, 2 * model.channels
        self._grid = (bands // _SHRINKS, frames // _SHRINKS, inner)
        flat = self._grid[0] * self._grid[1] * inner
        encoder = {"encoder.conv1.weight": (16, outer), "encoder.conv1.bias": (outer,)}
        decoder = linear_shapes("decoder.grid", model.hidden, flat)
        for number, (inputs, outputs) in enumerate(pairwise((outer, outer, inner, inner)), start=2):
            encoder |= _convolution_shapes(f"encoder.conv{number}", inputs, outputs)
        for number, (inputs, outputs) in enumerate(pairwise((inner, inner, outer, outer)), start=1):
            decoder |= _convolution_shapes(f"decoder.conv{number}", inputs, outputs)
        encoder |= linear_shapes("encoder.hidden", flat, model.hidden)
        local = (self._grid[1], self._grid[0] * inner)
        super().__init__(architecture, encoder, decoder | {_OUTPUT: (outer, 16)}, local)

    def to_input(self, log_mel_BFT: Tensor) -> Tensor:
        """The spectrograms themselves."""
        return log_mel_BFT

    def from_output(self, output_BPQ: Tensor) -> Tensor:
        """The spectrograms themselves."""
        return output_BPQ

    def _encode(self, parameters: Parameters, input_BPQ: Tensor) -> tuple[Tensor, Tensor]:
        weight, bias = _layer(parameters, "encoder.conv1", input_BPQ)
        hidden = hardswish(first_convolution(input_BPQ, weight) + bias)
        for number in (2, 3, 4):
            weight, bias = _layer(parameters, f"encoder.conv{number}", hidden)
            hidden = hardswish(convolution(hidden, weight) + bias)
        return hardswish(linear(parameters, "encoder.hidden", hidden.flatten(1))), hidden

    def _by_time(self, layer: Tensor) -> Tensor:
        by_time: Tensor = layer.transpose(1, 2).flatten(2)
        return by_time

    def _decode(self, parameters: Parameters, hidden: Tensor) -> Tensor:
        hidden = hardswish(linear(parameters, "decoder.grid", hidden)).unflatten(1, self._grid)
        for number in (1, 2, 3):
            weight, bias = _layer(parameters, f"decoder.conv{number}", hidden)
            hidden = hardswish(transposed_convolution(hidden, weight) + bias)
        return last_convolution(hidden, parameters[_OUTPUT].to(hidden.dtype))

    def _fan_in(self, name: str) -> int:
        return super()._fan_in(name) * (4 if name in _ADDED_UP else 1)


def _convolution_shapes(name: str, inputs: int, outputs: int) -> dict[str, tuple[int, ...]]:
    """Parameters of a convolution or of a transposed one; see `marl.models.conv_ops` for the weight."""
    return {f"{name}.weight": (4 * inputs, 4 * outputs), f"{name}.bias": (outputs,)}


def _layer(parameters: Parameters, name: str, image: Tensor) -> tuple[Tensor, Tensor]:
    """Weight and bias in the type of the image."""
    return parameters[f"{name}.weight"].to(image.dtype), parameters[f"{name}.bias"].to(image.dtype)
