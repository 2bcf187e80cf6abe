"""One number matrix for many models: a row a model, each parameter a range of columns.

K is models, W the padded number of parameters of one.
"""

import math
from collections.abc import Mapping

import torch
from torch import Tensor

__all__ = ["FlatParameters"]

# Parameters begin, and rows end, at whole cache lines: each row is then computed by the same instructions as any other.
_ALIGNMENT = 64


class FlatParameters:
    """Parameters of many models, or numbers that belong to each of them, all zero at first.

    Args:
        shapes: of each parameter of one model.
        models: how many.
        device: where they are.
    """

    def __init__(self, shapes: Mapping[str, tuple[int, ...]], models: int, device: torch.device) -> None:
        self._shapes = dict(shapes)
        starts, end = [], 0
        for shape in shapes.values():
            starts.append(end)
            end += math.ceil(math.prod(shape) / _ALIGNMENT) * _ALIGNMENT
        self._matrix_KW = torch.zeros(models, end, device=device)
        self.flat = {
            name: self._matrix_KW[:, start : start + math.prod(shape)]
            for (name, shape), start in zip(shapes.items(), starts, strict=True)
        }
        """Views of each parameter's columns, [K, size]."""
        self.shaped = self.shape(self.flat)
        """Views of each parameter, [K, *shape]."""

    def shape(self, flat: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Columns as parameters, without a copy."""
        return {name: value.unflatten(1, self._shapes[name]) for name, value in flat.items()}

    def copy(self) -> "FlatParameters":
        """The same numbers in memory of their own."""
        models, _ = self._matrix_KW.shape
        copy = FlatParameters(self._shapes, models, self._matrix_KW.device)
        copy.load(self)
        return copy

    def load(self, other: "FlatParameters") -> None:
        """Take over the numbers of other rows of the same shapes."""
        self._matrix_KW.copy_(other._matrix_KW)
