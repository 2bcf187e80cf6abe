"""Independence of the private and the shared latents: one file for each way to ask for it.

A measure takes the private latents of a batch, the shared latents of the same clips, and a mask for each, one for a
dimension that the model has and zero for padding, where latents are zero; it returns a scalar between 0, independent
as far as it can tell, and 1. The parts of an adversary are no measure: it has parameters of its own.
"""

from collections.abc import Callable

from torch import Tensor

from marl.losses.independence.adversarial import probe_loss, reverse_gradient
from marl.losses.independence.cross_covariance import cross_covariance
from marl.losses.independence.hsic import hsic

__all__ = ["INDEPENDENCE", "Measure", "cross_covariance", "hsic", "probe_loss", "reverse_gradient"]

Measure = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]

INDEPENDENCE: dict[str, Measure] = {"hsic": hsic, "cross_covariance": cross_covariance}
"""Every measure that can be a term of the objective as it is."""
