"""Parameters of many models in one matrix: a row for each model, a range of columns for each parameter."""

import math
from collections.abc import Mapping

import torch

__all__ = ["FlatParameters"]

# Parameters and rows start at whole cache lines, so that the same instructions compute every row.
_ALIGNMENT = 64


class FlatParameters:
    """A tensor for each parameter of many models, such as values or moments, in one matrix; zero at first.

    Attributes:
        matrix: All tensors, [K, size of a model]; each is padded to whole cache lines.
        flat: View of each tensor by the name of its parameter, [K, size].
        shaped: The same views, [K, *shape].
    """

    def __init__(self, shapes: Mapping[str, tuple[int, ...]], models: int, device: torch.device) -> None:
        sizes = {name: math.prod(shape) for name, shape in shapes.items()}
        padded = [math.ceil(size / _ALIGNMENT) * _ALIGNMENT for size in sizes.values()]
        self.matrix = torch.zeros(models, sum(padded), device=device)
        columns = zip(sizes.items(), self.matrix.split(padded, dim=1), strict=True)
        self.flat = {name: part[:, :size] for (name, size), part in columns}
        self.shaped = {name: value.unflatten(1, shapes[name]) for name, value in self.flat.items()}
