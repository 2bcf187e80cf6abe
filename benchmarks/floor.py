"""Lower bound for the time of a training step, from its operations and memory traffic and the rates of this device.

Counted are the matrix products forward and backward; and of memory traffic the spectrograms that are gathered, each
layer's output (written, read by the next layer and again by the backward pass, and its gradient written and read) and
Adam (parameters and two moments read and written, the gradient written and read). What is left out, losses above all,
would raise the floor; that caches hold something would lower it.
"""

import time
from typing import NamedTuple

import torch

from marl.models import Architecture
from marl.models.patch import PatchNetwork

__all__ = ["Floor", "Rates", "floor", "measured_rates"]


class Rates(NamedTuple):
    """What a device reaches: matrix products in each precision, operations a second; copies, bytes a second."""

    flop: dict[str, float]
    bytes: float


class Floor(NamedTuple):
    """Operations and bytes of one step of one model."""

    flop: float
    bytes: float

    def seconds(self, rates: Rates, precision: str) -> float:
        """The larger of computing and moving, which may go on at once."""
        return max(self.flop / rates.flop[precision], self.bytes / rates.bytes)


def floor(architecture: Architecture, pairs: int, precision: str) -> Floor:
    """What one step of one model needs."""
    network, views = PatchNetwork(architecture), 2 * pairs
    size = {"float32": 4, "bfloat16": 2}[precision]
    values = architecture.bands * architecture.frames
    flop = outputs = parameters = 0
    for name, shape in network.shapes.items():
        parameters += torch.Size(shape).numel()
        if len(shape) == 2:
            # Layers over single patches are applied to each.
            rows = views * (network.patches if name.split(".")[1] in ("patch", "width") or shape[0] <= 64 else 1)
            if name == "decoder.hidden.weight":
                rows = views
            flop += 3 * 2 * rows * shape[0] * shape[1]
            outputs += rows * shape[1]
    moved = views * values * size + 5 * outputs * size + 8 * parameters * 4
    return Floor(float(flop), float(moved))


def measured_rates(device: torch.device, seconds: float = 0.3) -> Rates:
    """The best of a few large products and copies."""
    side, numbers = (8192, 1 << 28) if device.type == "cuda" else (1024, 1 << 25)
    flop = {}
    for name, dtype in (("float32", torch.float32), ("bfloat16", torch.bfloat16)):
        factor = torch.randn(side, side, device=device).to(dtype)
        product = torch.empty_like(factor)
        flop[name] = 2 * side**3 * _runs_per_second(lambda a=factor, b=product: torch.mm(a, a, out=b), device, seconds)
    source = torch.randn(numbers, device=device)
    target = torch.empty_like(source)
    copied = 2 * 4 * numbers * _runs_per_second(lambda: target.copy_(source), device, seconds)
    return Rates(flop, copied)


def _runs_per_second(run, device: torch.device, seconds: float) -> float:
    def wait() -> None:
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    for _ in range(3):
        run()
    wait()
    started, runs = time.monotonic(), 0
    while time.monotonic() - started < seconds:
        for _ in range(5):
            run()
        wait()
        runs += 5
    return runs / (time.monotonic() - started)
