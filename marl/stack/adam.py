"""A step of Adam for many models at once, each with a learning rate of its own.

K is models, n numbers of one parameter.
"""

from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["FIRST_DECAY", "SECOND_DECAY", "Rates", "adam_rates", "adam_step"]

FIRST_DECAY = 0.9
SECOND_DECAY = 0.999
_EPSILON = 1e-8


class Rates(NamedTuple):
    """Learning rate and epsilon of each model, [K, 1], with the corrections of the moments in them."""

    learning_rate: Tensor
    epsilon: Tensor


def adam_rates(learning_rate_K1: Tensor, decay_power_K2: Tensor) -> Rates:
    """The rates of one step.

    Kingma and Ba, "Adam: A Method for Stochastic Optimization", ICLR 2015, algorithm 1, with its corrections of the
    moments moved to the rate and to epsilon, which are one number for each model.

    Args:
        learning_rate_K1: zero leaves a model as it is.
        decay_power_K2: both decays to the power of the step, which begins at one.
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
    """Change one parameter and its moments, of all models, in place.

    Args:
        parameter_Kn: a row a model.
        gradient_Kn: of the loss; may be used up.
        first_moment_Kn: running means of the gradients.
        second_moment_Kn: running means of their squares.
        rates: of this step.
        columns: go over so many columns at a time, so that they stay in a processor's cache; none for all at once.
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
