"""Measures of dependence between private and shared latents, one a file, and the gradient reversal of an adversary.

A `Measure` takes the private latents [N, D] and the shared latents [N, E] of a batch, zero where padded, and their
masks [D] and [E], one for each latent of the model. It returns a scalar between 0 (no dependence found) and 1.
"""

from collections.abc import Callable

from torch import Tensor

from marl.losses.independence.adversarial import reverse_gradient
from marl.losses.independence.cross_covariance import cross_covariance
from marl.losses.independence.hsic import hsic

__all__ = ["INDEPENDENCE", "Measure", "cross_covariance", "hsic", "reverse_gradient"]

Measure = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]

INDEPENDENCE: dict[str, Measure] = {"hsic": hsic, "cross_covariance": cross_covariance}
"""Measures by their field of `IndependenceConfig`."""
