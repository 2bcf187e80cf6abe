"""A step of Adam for many models at once, each with a separate learning rate. n is the size of one parameter."""

from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["FIRST_DECAY", "SECOND_DECAY", "Rates", "adam_rates", "adam_step"]

FIRST_DECAY = 0.9
SECOND_DECAY = 0.999
_EPSILON = 1e-8


class Rates(NamedTuple):
    """Learning rate and epsilon of each model, [K, 1], with the bias corrections of the moments included."""

    learning_rate: Tensor
    epsilon: Tensor


def adam_rates(learning_rate_K1: Tensor, decay_power_K2: Tensor) -> Rates:
    """Return the rates of one step. A model with learning rate zero does not change.

    Kingma and Ba, "Adam: A Method for Stochastic Optimization", ICLR 2015, algorithm 1. The bias corrections of the
    moments are moved to learning rate and epsilon, which are one number for each model. `decay_power_K2` is both decays
    to the power of the step, counted from one.
    """
    first_K1, second_K1 = (1 - decay_power_K2).to(torch.float32).split(1, dim=1)
    return Rates(learning_rate_K1 * second_K1.sqrt() / first_K1, _EPSILON * second_K1.sqrt())


def adam_step(
    parameter_Kn: Tensor,
    gradient_Kn: Tensor,
    first_moment_Kn: Tensor,
    second_moment_Kn: Tensor,
    rates: Rates,
    columns: int | None = None,
) -> None:
    """Update one parameter of all models and its moments in place. The gradient is overwritten.

    `columns` is the number of columns that are updated at a time, so that they stay in the cache of a processor; None
    for all.
    """
    tensors = (parameter_Kn, gradient_Kn, first_moment_Kn, second_moment_Kn)
    for parameter, gradient, first_moment, second_moment in zip(
        *(tensor.split(columns or tensor.shape[1], dim=1) for tensor in tensors), strict=True
    ):
        first_moment.lerp_(gradient, 1 - FIRST_DECAY)
        second_moment.mul_(SECOND_DECAY).addcmul_(gradient, gradient, value=1 - SECOND_DECAY)
        update = torch.sqrt(second_moment, out=gradient).add_(rates.epsilon)
        torch.div(first_moment, update, out=update)
        parameter.addcmul_(update, rates.learning_rate, value=-1)
