"""Every cell of a search space of choices and whole numbers."""

from collections.abc import Mapping

from study.spec import Parameter, Scalar, parameter_order

__all__ = ["grid"]


def grid(space: Mapping[str, Parameter]) -> list[dict[str, Scalar]]:
    """All combinations of values; a parameter whose condition does not hold is absent and multiplies nothing.

    Raises:
        ValueError: when a parameter has infinitely many values.
    """
    cells: list[dict[str, Scalar]] = [{}]
    for name in parameter_order(space):
        values = _values(name, space[name])
        conditions = space[name].when.items()
        cells = [
            extended
            for cell in cells
            for extended in (
                [{**cell, name: value} for value in values]
                if all(cell.get(other) in allowed for other, allowed in conditions)
                else [cell]
            )
        ]
    return cells


def _values(name: str, parameter: Parameter) -> list[Scalar]:
    if parameter.choice is not None:
        return list(parameter.choice)
    if parameter.int is not None:
        low, high = parameter.int
        return list(range(low, high + 1))
    raise ValueError(f"a grid needs choice or int for every parameter; {name} has infinitely many values")
