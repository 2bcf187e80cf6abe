"""Convolutions with kernel 4, stride 2 and padding 1, and transposed ones, as matmuls; images are channels-last.

Stacked over many models, torch's own become grouped convolutions, which are slow on a GPU; matmuls become batched
matmuls, which are fast. Writing out all windows of 4 x 4 would make the image four times as large. Instead it is cut
into blocks of 2 x 2, each block is multiplied by the parts of the kernel for the four windows that it lies in, and the
windows add up what their blocks give. A transposed convolution does the same backwards.

B is clips, H and W the even sizes of an image, C channels.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

__all__ = ["convolution", "first_convolution", "last_convolution", "transposed_convolution"]

_BLOCKS, _NEIGHBOURS = 2, 1


def convolution(image_BHWC: Tensor, weight: Tensor) -> Tensor:
    """An image half as large.

    Args:
        image_BHWC: what to convolve.
        weight: [4 C, 4 outputs]; row (p, q, channel) and column (a, b, output) hold the value of the kernel at row
            2 (1 - a) + p and column 2 (1 - b) + q.
    """
    return _fold(_matmul(_unfold(image_BHWC, _BLOCKS), weight), _NEIGHBOURS)


def transposed_convolution(image_BHWC: Tensor, weight: Tensor) -> Tensor:
    """An image twice as large.

    Args:
        image_BHWC: what to convolve.
        weight: [4 C, 4 outputs]; row (a, b, channel) and column (p, q, output) hold the value of the kernel at row
            2 (1 - a) + p and column 2 (1 - b) + q.
    """
    return _fold(_matmul(_unfold(image_BHWC, _NEIGHBOURS), weight), _BLOCKS)


def first_convolution(image_BHW: Tensor, weight: Tensor) -> Tensor:
    """An image half as large, [B, H / 2, W / 2, outputs], of one with a single channel and no need of a gradient.

    Args:
        image_BHW: what to convolve.
        weight: [16, outputs], a row for each value of the kernel.
    """
    windows = pad(image_BHW, (1, 1, 1, 1)).unfold(-2, 4, 2).unfold(-2, 4, 2)
    return _matmul(windows.flatten(-2), weight)


def last_convolution(image_BHWC: Tensor, weight: Tensor) -> Tensor:
    """Transposed: an image twice as large with a single channel, [B, 2 H, 2 W].

    Args:
        image_BHWC: what to convolve.
        weight: [C, 16]; column (a, b, p, q) holds the value of the kernel at row 2 a + p and column 2 b + q.
    """
    # Each pixel is spread over a window of its own; four windows overlap.
    spread = pad(_matmul(image_BHWC, weight), (0, 0, 1, 1, 1, 1))
    return _fold(_fold(spread, _NEIGHBOURS), _BLOCKS).squeeze(-1)


def _matmul(image: Tensor, weight: Tensor) -> Tensor:
    product: Tensor = (image.flatten(0, -2) @ weight).unflatten(0, image.shape[:-1])
    return product


def _unfold(image_BHWC: Tensor, stride: int) -> Tensor:
    """Windows of 2 x 2 pixels of the image with a border of zeros: [B, H / stride + 1, W / stride + 1, 4 C].

    With stride 2 they are blocks that do not overlap.
    """
    windows: Tensor = _Unfold.apply(image_BHWC, stride)  # type: ignore[no-untyped-call]
    return windows


def _fold(windows: Tensor, stride: int) -> Tensor:
    """The adjoint of `_unfold`: windows are put where they belong in an image and added up where they overlap."""
    image: Tensor = _Fold.apply(windows, stride)  # type: ignore[no-untyped-call]
    return image


class _Unfold(torch.autograd.Function):
    """Each of the two is the other's gradient; torch would go over memory in several passes to find that out."""

    generate_vmap_rule = True

    @staticmethod
    def forward(image: Tensor, stride: int) -> Tensor:
        windows = pad(image, (0, 0, 1, 1, 1, 1)).unfold(-3, 2, stride).unfold(-3, 2, stride)
        return windows.movedim(-3, -1).flatten(-3)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, int], output: Tensor) -> None:
        ctx.stride = inputs[1]

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return _fold(gradient, ctx.stride), None


class _Fold(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(windows: Tensor, stride: int) -> Tensor:
        if stride == _BLOCKS:
            rows: Tensor = windows.unflatten(-1, (2, 2, -1)).transpose(-4, -3).flatten(-3, -2)
            return rows.flatten(-4, -3)[..., 1:-1, 1:-1, :]
        top_left, top_right, bottom_left, bottom_right = windows.chunk(4, dim=-1)
        image = top_left[..., 1:, 1:, :] + top_right[..., 1:, :-1, :]
        return image.add_(bottom_left[..., :-1, 1:, :]).add_(bottom_right[..., :-1, :-1, :])

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, int], output: Tensor) -> None:
        ctx.stride = inputs[1]

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return _unfold(gradient, ctx.stride), None
