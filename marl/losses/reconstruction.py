"""How far a decoded spectrogram is from the original."""

from typing import Any

import torch
from torch import Tensor

__all__ = ["squared_error"]


def squared_error(decoded_VPQ: Tensor, target_VPQ: Tensor) -> Tensor:
    """Squared error summed over a spectrogram, averaged over clips: a scalar."""
    total: Tensor = _SumOfSquares.apply(decoded_VPQ - target_VPQ)  # type: ignore[no-untyped-call]
    return total / len(decoded_VPQ)


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
