"""Contrastive strategies: one file each, one function each, all of the same form.

A strategy takes the latents a_BD and b_BD of the two views, a Boolean left_out_BB that is true where two different
pairs must not count as negatives of each other, and a temperature; it returns a scalar.
"""

from collections.abc import Callable

from torch import Tensor

from marl.losses.contrast.infonce import infonce

__all__ = ["STRATEGIES", "Strategy", "infonce"]

Strategy = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]

STRATEGIES: dict[str, Strategy] = {"infonce": infonce}
"""Every strategy that adds a term; `none` adds none."""
