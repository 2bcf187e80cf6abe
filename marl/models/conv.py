"""Encoder and decoder of convolutions, and convolutions as matrix products.

Kernels are 4 x 4, with stride 2 and padding 1; images are channels-last. Stacked over models, the convolutions of torch
become grouped ones, which are slow on a GPU; matrix products become batched ones, which are fast. All windows of 4 x 4
would take four times the memory of the image. Instead the image is cut into blocks of 2 x 2, each block is multiplied
by the parts of the kernel for the four windows that contain it, and the products of each window are added up. A
transposed convolution is the same in reverse.

H and W are the even height and width of an image, C channels.
"""

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import hardswish, pad

from marl.models.config import Architecture, Parameters, ParameterSpec
from marl.models.network import Network, ParameterSpecs, linear, linear_specs

__all__ = ["ConvNetwork", "convolution", "first_convolution", "last_convolution", "transposed_convolution"]

_OUTPUT = "decoder.conv4.weight"
# Four convolutions halve both sizes of the spectrogram.
_SHRINKS = 16
# Strides of windows of 2 x 2: blocks do not overlap, neighbourhoods do.
_BLOCKS, _NEIGHBOURS = 2, 1


class ConvNetwork(Network):
    """Four convolutions with stride 2 and a fully connected layer, and their mirror image as decoder.

    Burgess et al., "Understanding disentangling in β-VAE", 2018, and Locatello et al., "Challenging Common Assumptions
    in the Unsupervised Learning of Disentangled Representations", ICML 2019 (`conv_encoder` and `deconv_decoder` of
    disentanglement_lib, with 32 `channels` and 256 `hidden`). Departures from disentanglement_lib: all kernels are
    4 x 4, where two of its encoder are 2 x 2; the activation is hardswish, as in the patch network, not ReLU.
    """

    kind = "conv"

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
        encoder = linear_specs("encoder.conv1", 16, outer)
        decoder = linear_specs("decoder.grid", model.hidden, flat)
        for number, (inputs, outputs) in enumerate(pairwise((outer, outer, inner, inner)), start=2):
            # An output adds up its inputs over 4 x 4 pixels; that of a transposed convolution over 2 x 2.
            encoder |= _convolution_specs(f"encoder.conv{number}", inputs, outputs, fan_in=16 * inputs)
        for number, (inputs, outputs) in enumerate(pairwise((inner, inner, outer, outer)), start=1):
            decoder |= _convolution_specs(f"decoder.conv{number}", inputs, outputs, fan_in=4 * inputs)
        super().__init__(
            architecture,
            encoder | linear_specs("encoder.hidden", flat, model.hidden),
            decoder | {_OUTPUT: ParameterSpec((outer, 16), fan_in=4 * outer)},
            local_shape=(self._grid[1], self._grid[0] * inner),
        )

    def _encode(self, parameters: Parameters, input_NPQ: Tensor) -> tuple[Tensor, Tensor]:
        hidden = _layer(parameters, "encoder.conv1", input_NPQ, first_convolution)
        for number in (2, 3, 4):
            hidden = _layer(parameters, f"encoder.conv{number}", hidden, convolution)
        return hardswish(linear(parameters, "encoder.hidden", hidden.flatten(1))), hidden

    def _local_features(self, layer: Tensor) -> Tensor:
        features: Tensor = layer.transpose(1, 2).flatten(2)
        return features

    def _decode(self, parameters: Parameters, hidden: Tensor) -> Tensor:
        hidden = hardswish(linear(parameters, "decoder.grid", hidden)).unflatten(1, self._grid)
        for number in (1, 2, 3):
            hidden = _layer(parameters, f"decoder.conv{number}", hidden, transposed_convolution)
        return last_convolution(hidden, parameters[_OUTPUT].to(hidden.dtype))


def _convolution_specs(name: str, inputs: int, outputs: int, fan_in: int) -> ParameterSpecs:
    """Return the parameters of a convolution or of a transposed one."""
    weight, bias = ParameterSpec((4 * inputs, 4 * outputs), fan_in=fan_in), ParameterSpec((outputs,))
    return {f"{name}.weight": weight, f"{name}.bias": bias}


def _layer(parameters: Parameters, name: str, image: Tensor, operation: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """Apply a convolution, a bias and the activation, all in the type of the image."""
    weight, bias = parameters[f"{name}.weight"].to(image.dtype), parameters[f"{name}.bias"].to(image.dtype)
    return hardswish(operation(image, weight) + bias)


def convolution(image_NHWC: Tensor, weight: Tensor) -> Tensor:
    """Return an image of half the height and width.

    The weight is [4 C, 4 outputs]. Row (p, q, channel) and column (a, b, output) hold the value of the kernel at row
    2 (1 - a) + p and column 2 (1 - b) + q.
    """
    return _fold(_matmul(_unfold(image_NHWC, _BLOCKS), weight), _NEIGHBOURS)


def transposed_convolution(image_NHWC: Tensor, weight: Tensor) -> Tensor:
    """Return an image of twice the height and width.

    The weight is [4 C, 4 outputs]. Row (a, b, channel) and column (p, q, output) hold the value of the kernel at row
    2 (1 - a) + p and column 2 (1 - b) + q.
    """
    return _fold(_matmul(_unfold(image_NHWC, _NEIGHBOURS), weight), _BLOCKS)


def first_convolution(image_NHW: Tensor, weight: Tensor) -> Tensor:
    """Return the convolution [N, H / 2, W / 2, outputs] of images with one channel, which need no gradient.

    The weight is [16, outputs], with a row for each value of the kernel.
    """
    windows = pad(image_NHW, (1, 1, 1, 1)).unfold(-2, 4, 2).unfold(-2, 4, 2)
    return _matmul(windows.flatten(-2), weight)


def last_convolution(image_NHWC: Tensor, weight: Tensor) -> Tensor:
    """Return the transposed convolution [N, 2 H, 2 W] to one channel.

    The weight is [C, 16]. Column (a, b, p, q) holds the value of the kernel at row 2 a + p and column 2 b + q.
    """
    # Each pixel is spread over one window; four windows overlap.
    spread = pad(_matmul(image_NHWC, weight), (0, 0, 1, 1, 1, 1))
    return _fold(_fold(spread, _NEIGHBOURS), _BLOCKS).squeeze(-1)


def _matmul(image: Tensor, weight: Tensor) -> Tensor:
    product: Tensor = (image.flatten(0, -2) @ weight).unflatten(0, image.shape[:-1])
    return product


def _unfold(image_NHWC: Tensor, stride: int) -> Tensor:
    """Return windows of 2 x 2 of the image with a border of zeros: [N, H / stride + 1, W / stride + 1, 4 C]."""
    windows: Tensor = _Windows.apply(image_NHWC, stride, False)  # type: ignore[no-untyped-call]
    return windows


def _fold(windows: Tensor, stride: int) -> Tensor:
    """Return the adjoint of `_unfold`: an image to which each window is added at its place."""
    image: Tensor = _Windows.apply(windows, stride, True)  # type: ignore[no-untyped-call]
    return image


class _Windows(torch.autograd.Function):
    """Unfold an image into windows, or fold windows into an image if `fold` is true; see `_unfold` and `_fold`.

    The gradient of one is the other. The gradients that torch would derive take several passes over memory.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(values: Tensor, stride: int, fold: bool) -> Tensor:
        if not fold:
            windows = pad(values, (0, 0, 1, 1, 1, 1)).unfold(-3, 2, stride).unfold(-3, 2, stride)
            return windows.movedim(-3, -1).flatten(-3)
        if stride == _BLOCKS:
            rows: Tensor = values.unflatten(-1, (2, 2, -1)).transpose(-4, -3).flatten(-3, -2)
            return rows.flatten(-4, -3)[..., 1:-1, 1:-1, :]
        top_left, top_right, bottom_left, bottom_right = values.chunk(4, dim=-1)
        image = top_left[..., 1:, 1:, :] + top_right[..., 1:, :-1, :]
        return image.add_(bottom_left[..., :-1, 1:, :]).add_(bottom_right[..., :-1, :-1, :])

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, int, bool], output: Tensor) -> None:
        _, ctx.stride, ctx.fold = inputs

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        return (_unfold if ctx.fold else _fold)(gradient, ctx.stride), None, None
