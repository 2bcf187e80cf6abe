"""Lower bound for the time of a training step, from its operations and memory traffic and the rates of this device.

It counts matrix products forward and backward, and this memory traffic: the gathered spectrograms, each layer's output
(written, read by the next layer and by the backward pass, and its gradient written and read) and Adam (parameters and
two moments read and written, the gradient written and read). Operations it leaves out, above all the losses, would
raise the floor; caches would lower it.
"""

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import torch

from benchmarks.machine import calls_per_second
from benchmarks.models import synchronise
from marl.models import Architecture
from marl.models.patch import PatchNetwork


class Rates(NamedTuple):
    """Measured speed of a device: operations of matrix products per second by precision, and bytes per second."""

    flop: dict[str, float]
    bytes: float


class Floor(NamedTuple):
    """Operations and bytes of one step of one model."""

    flop: float
    bytes: float

    def seconds(self, rates: Rates, precision: str) -> float:
        """Return the larger of the times of computing and moving, which may overlap."""
        return max(self.flop / rates.flop[precision], self.bytes / rates.bytes)


def floor(architecture: Architecture, pairs: int, precision: str) -> Floor:
    network, views = PatchNetwork(architecture), 2 * pairs
    size = {"float32": 4, "bfloat16": 2}[precision]
    values = architecture.bands * architecture.frames
    flop = outputs = parameters = 0
    for name, shape in network.shapes.items():
        parameters += torch.Size(shape).numel()
        if len(shape) == 2:
            # Layers over single patches are applied to each.
            by_patch = name.split(".")[1] in ("patch", "width") or shape[0] <= 64
            rows = views * (network.patches if by_patch and name != "decoder.hidden.weight" else 1)
            flop += 3 * 2 * rows * shape[0] * shape[1]
            outputs += rows * shape[1]
    moved = views * values * size + 5 * outputs * size + 8 * parameters * 4
    return Floor(float(flop), float(moved))


def measured_rates(device: torch.device, precisions: Sequence[str]) -> Rates:
    """Time large matrix products of some precisions, and copies."""
    side, numbers = (8192, 1 << 28) if device.type == "cuda" else (1024, 1 << 25)

    rate = partial(calls_per_second, wait=partial(synchronise, device), seconds=0.3)
    flop = {}
    for name in precisions:
        factor = torch.randn(side, side, device=device).to(getattr(torch, name))
        product = torch.empty_like(factor)
        flop[name] = 2 * side**3 * rate(lambda a=factor, b=product: torch.mm(a, a, out=b))
    source = torch.randn(numbers, device=device)
    target = torch.empty_like(source)
    return Rates(flop, 2 * 4 * numbers * rate(lambda: target.copy_(source)))
