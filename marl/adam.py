"""A step of Adam for many models at once, each with a learning rate of its own.

K is models, W parameters.
"""

import torch
from torch import Tensor

__all__ = ["FIRST_DECAY", "SECOND_DECAY", "adam_step"]

FIRST_DECAY = 0.9
SECOND_DECAY = 0.999
_EPSILON = 1e-8
# On a processor, what is gone over at a time stays in its cache; on other devices everything is taken at once.
_CACHED_COLUMNS = 32 * 1024


def adam_step(
    parameters_KW: Tensor,
    gradients_KW: Tensor,
    first_moments_KW: Tensor,
    second_moments_KW: Tensor,
    learning_rate_K1: Tensor,
    decay_power_K2: Tensor,
) -> None:
    """Change parameters and moments in place; the gradients are used up.

    Kingma and Ba, "Adam: A Method for Stochastic Optimization", ICLR 2015, algorithm 1, with its corrections of the
    moments moved to the rate and to epsilon, which are one number for each model.

    Args:
        parameters_KW: a row a model.
        gradients_KW: of the loss.
        first_moments_KW: running means of the gradients.
        second_moments_KW: running means of their squares.
        learning_rate_K1: zero leaves a model as it is.
        decay_power_K2: both decays to the power of the step, which begins at one.
    """
    first_K1, second_K1 = (1 - decay_power_K2).to(torch.float32).split(1, dim=1)
    rate_K1 = learning_rate_K1 * second_K1.sqrt() / first_K1
    epsilon_K1 = _EPSILON * second_K1.sqrt()
    columns = _CACHED_COLUMNS if parameters_KW.device.type == "cpu" else parameters_KW.shape[1]
    matrices = (parameters_KW, gradients_KW, first_moments_KW, second_moments_KW)
    blocks = zip(*(matrix.split(columns, dim=1) for matrix in matrices), strict=True)
    for parameter, gradient, first_moment, second_moment in blocks:
        first_moment.lerp_(gradient, 1 - FIRST_DECAY)
        second_moment.mul_(SECOND_DECAY).addcmul_(gradient, gradient, value=1 - SECOND_DECAY)
        update = torch.sqrt(second_moment, out=gradient).add_(epsilon_K1)
        torch.div(first_moment, update, out=update)
        parameter.addcmul_(update, rate_K1, value=-1)
