"""The parts of an adversary that have no parameters: a probe's loss and the reversal of its gradient.

B is clips, G groups.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

__all__ = ["probe_loss", "reverse_gradient"]


def probe_loss(logits_BG: Tensor, group_B: Tensor) -> Tensor:
    """Cross-entropy of a probe that reads from latents to which group a clip belongs.

    Args:
        logits_BG: what the probe says.
        group_B: the true groups, int64 from 0 to G - 1.

    Returns:
        A scalar, nats; log G for a probe that knows nothing.
    """
    return cross_entropy(logits_BG, group_B)


def reverse_gradient(x: Tensor, strength: Tensor) -> Tensor:
    """The very same values, whose gradient comes back reversed.

    Ganin and Lempitsky, "Unsupervised Domain Adaptation by Backpropagation", ICML 2015, section 3: between latents and
    a probe it lets the probe descend on its loss, while the encoder ascends on it.

    Args:
        x: of any shape.
        strength: a scalar; the gradient is multiplied by its negative. It gets no gradient itself.
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
