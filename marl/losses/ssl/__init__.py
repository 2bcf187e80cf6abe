"""Contrastive strategies: one file each, one function each, all of the same form.

A strategy takes the latents a_BD and b_BD of the two views and a `Pairing`; it returns a scalar. `byol` and
`local_global` take more than latents of the two views.
"""

from collections.abc import Callable

from torch import Tensor

from marl.losses.ssl.barlow import barlow
from marl.losses.ssl.byol import byol
from marl.losses.ssl.dcl import dcl
from marl.losses.ssl.infonce import infonce
from marl.losses.ssl.local_global import local_global
from marl.losses.ssl.nt_xent import nt_xent
from marl.losses.ssl.pairing import Pairing
from marl.losses.ssl.supcon import supcon
from marl.losses.ssl.triplet import triplet
from marl.losses.ssl.vicreg import vicreg

__all__ = [
    "STRATEGIES",
    "Pairing",
    "Strategy",
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
