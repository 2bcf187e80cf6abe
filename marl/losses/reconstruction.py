"""How far a decoded spectrogram is from the original."""

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

__all__ = ["multiscale_errors", "squared_error"]


def squared_error(decoded_VPQ: Tensor, target_VPQ: Tensor) -> Tensor:
    """Squared error summed over a spectrogram, averaged over clips: a scalar."""
    total: Tensor = _SumOfSquares.apply(decoded_VPQ - target_VPQ)  # type: ignore[no-untyped-call]
    return total / len(decoded_VPQ)


def multiscale_errors(difference_VFT: Tensor) -> Tensor:
    """Squared errors at the resolutions of `MultiscaleWeights`, summed over a spectrogram and averaged over clips.

    Averages of differences are differences of averages. Each is in the units of `squared_error`: the same where decoded
    and original differ by as much everywhere. What is left over at the edges of a spectrogram is averaged alone.

    Args:
        difference_VFT: decoded less original.

    Returns:
        [N]: averaged over squares of 2, 4 and 8, over all frames, and over all bands.
    """
    frames, bands = difference_VFT.shape[-1], difference_VFT.shape[-2]
    averages = [(size * size, avg_pool2d(difference_VFT, size, ceil_mode=True)) for size in (2, 4, 8)]
    averages += [(frames, difference_VFT.mean(dim=-1)), (bands, difference_VFT.mean(dim=-2))]
    return torch.stack([area * average.square().sum() for area, average in averages]) / len(difference_VFT)


class _SumOfSquares(torch.autograd.Function):
    """Writes no tensor of its input's size before the gradient, which is one product.

    On a processor a step is as fast as the largest tensors go through memory; a plain square writes two more of them.
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
