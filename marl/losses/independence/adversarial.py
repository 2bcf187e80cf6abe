"""Gradient reversal between latents and a probe that an encoder trains against."""

from typing import Any

import torch
from torch import Tensor

__all__ = ["reverse_gradient"]


def reverse_gradient(x: Tensor, strength: Tensor) -> Tensor:
    """Return the same values; in the backward pass, multiply their gradient by minus a scalar.

    Ganin and Lempitsky, "Unsupervised Domain Adaptation by Backpropagation", ICML 2015, section 3. A probe behind it
    descends on its loss, and the encoder before it ascends. The strength gets no gradient.
    """
    reversed_x: Tensor = _Reversal.apply(x, strength)  # type: ignore[no-untyped-call]
    return reversed_x


class _Reversal(torch.autograd.Function):
    """Plain arithmetic, such as x + strength * (x.detach() - x), is not the identity for zeros and infinities."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, strength: Tensor) -> Tensor:
        return x.view_as(x)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
        ctx.save_for_backward(inputs[1])

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        strength: Tensor = ctx.saved_tensors[0]
        return -strength * gradient, None
