"""Checks that the tests of losses share."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.func import grad_and_value, vmap
from torch.fx.experimental.proxy_tensor import make_fx


def value_and_gradients(loss: Callable[..., Tensor], *inputs: Tensor) -> tuple[Tensor, ...]:
    """Return the value of a loss and its gradient with respect to each input."""
    leaves = [part.detach().clone().requires_grad_() for part in inputs]
    value = loss(*leaves)
    return value.detach(), *torch.autograd.grad(value, leaves)


def assert_stacked_models_equal_each_alone(
    loss: Callable[..., Tensor], stacked: Sequence[Any], models: Iterable[Sequence[Any]]
) -> None:
    """Assert that a loss, mapped over stacked models, has the values and gradients of each model.

    Args:
        loss: Loss of latents of two kinds and other inputs.
        stacked: Inputs of all models.
        models: Inputs of each model.
    """
    together = vmap(grad_and_value(loss, argnums=(0, 1)))
    for function in (together, make_fx(together)(*stacked)):
        gradients, values = function(*stacked)
        for index, (first, second, *others) in enumerate(models):
            alone = value_and_gradients(lambda a, b, others=others: loss(a, b, *others), first, second)
            for found, expected in zip((values, *gradients), alone, strict=True):
                torch.testing.assert_close(found[index], expected, rtol=1e-12, atol=1e-12)
