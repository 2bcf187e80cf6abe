"""Errors of decoded spectrograms. [P, Q] is the layout of a clip in a network."""

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

__all__ = ["multiscale_errors", "squared_error"]


def squared_error(decoded_NPQ: Tensor, target_NPQ: Tensor) -> Tensor:
    """Return the squared error, summed over a spectrogram and averaged over clips."""
    total: Tensor = _SumOfSquares.apply(decoded_NPQ - target_NPQ)  # type: ignore[no-untyped-call]
    return total / len(decoded_NPQ)


def multiscale_errors(difference_NFT: Tensor) -> Tensor:
    """Return squared errors at the resolutions of `MultiscaleWeights`, [5], averaged over clips.

    The difference (decoded minus original) is averaged over squares of 2, 4 and 8, over all frames, or over all bands.
    Its squares are summed and scaled to the units of `squared_error`: both agree for a constant difference. Squares at
    the edges may be incomplete.
    """
    frames, bands = difference_NFT.shape[-1], difference_NFT.shape[-2]
    averages = [(size * size, avg_pool2d(difference_NFT, size, ceil_mode=True)) for size in (2, 4, 8)]
    averages += [(frames, difference_NFT.mean(dim=-1)), (bands, difference_NFT.mean(dim=-2))]
    return torch.stack([area * average.square().sum() for area, average in averages]) / len(difference_NFT)


class _SumOfSquares(torch.autograd.Function):
    """Sum of squares that writes no tensor of the size of its input; the gradient is one product.

    On a processor, memory traffic of the largest tensors limits the speed of a step; a plain square writes two more.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(values: Tensor) -> Tensor:
        # Rows first: a single sum over all would lose digits.
        total: Tensor = torch.linalg.vector_norm(values, dim=-1).square().sum()
        return total

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        values: Tensor = ctx.saved_tensors[0]
        return values * (2 * gradient)
