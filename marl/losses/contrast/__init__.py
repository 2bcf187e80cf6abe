"""Contrastive strategies: one file each, one function each, all of the same form.

A strategy takes the latents a_BD and b_BD of the two views and a `Pairing`; it returns a scalar. `byol` and
`local_global` take more than latents of the two views, and `apart` is the reverse of a strategy.
"""

from collections.abc import Callable

from torch import Tensor

from marl.losses.contrast.apart import apart
from marl.losses.contrast.barlow import barlow
from marl.losses.contrast.byol import byol
from marl.losses.contrast.dcl import dcl
from marl.losses.contrast.infonce import infonce
from marl.losses.contrast.local_global import local_global
from marl.losses.contrast.nt_xent import nt_xent
from marl.losses.contrast.pairing import Pairing
from marl.losses.contrast.supcon import supcon
from marl.losses.contrast.triplet import triplet
from marl.losses.contrast.vicreg import vicreg

__all__ = [
    "STRATEGIES",
    "Pairing",
    "Strategy",
    "apart",
    "barlow",
    "byol",
    "dcl",
    "infonce",
    "local_global",
    "nt_xent",
    "supcon",
    "triplet",
    "vicreg",
]

Strategy = Callable[[Tensor, Tensor, Pairing], Tensor]

STRATEGIES: dict[str, Strategy] = {
    "infonce": infonce,
    "nt_xent": nt_xent,
    "supcon": supcon,
    "dcl": dcl,
    "triplet": triplet,
    "barlow": barlow,
    "vicreg": vicreg,
}
"""Every strategy that compares the latents of two views and needs nothing else."""
