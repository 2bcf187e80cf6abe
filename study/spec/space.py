"""The search space: its parameters, the conditions between them, and all cells of a grid."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, field_validator, model_validator

from study.spec.loader import shown

Scalar = bool | int | float | str

_Int = int  # `Parameter` has a field named `int`, which hides the type
_RANGES = ("choice", "uniform", "log_uniform", "int")
_MAX_CELLS = 1_000_000


def _check_scalar(value: Any) -> Any:
    """Check the type before Pydantic does, whose errors of alternatives are long."""
    if not isinstance(value, Scalar) or (isinstance(value, float) and not math.isfinite(value)):
        raise ValueError(f"must be a finite number, true, false or text; got {shown(value)}")
    return value


SpecScalar = Annotated[Scalar, BeforeValidator(_check_scalar)]
"""A scalar as a field of a model."""


class Parameter(BaseModel):
    """One dimension of the search space: exactly one range, and the conditions under which the parameter exists."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    choice: tuple[SpecScalar, ...] | None = None
    """Values of which one is chosen."""
    uniform: tuple[float, float] | None = None
    """Smallest and largest value of a number, with equal density between them."""
    log_uniform: tuple[float, float] | None = None
    """Smallest and largest value of a number greater than 0, with equal density of its logarithm."""
    int: tuple[_Int, _Int] | None = None
    """Smallest and largest value of a whole number, both included."""
    when: dict[str, tuple[SpecScalar, ...]] = {}
    """Conditions: the parameter exists when each of these parameters, by name, has one of its values."""

    @field_validator("when", mode="before")
    @classmethod
    def _wrap_single_values(cls, value: Any) -> Any:
        if isinstance(value, Mapping):
            return {name: values if isinstance(values, list | tuple) else [values] for name, values in value.items()}
        return value

    @field_validator("uniform", "log_uniform", "int", mode="before")
    @classmethod
    def _check_numbers(cls, value: Any) -> Any:
        if isinstance(value, list | tuple) and any(isinstance(bound, bool) for bound in value):
            raise ValueError(f"must be two numbers; got {list(value)}")
        return value

    @field_validator("when")
    @classmethod
    def _check_when(cls, value: dict[str, tuple[Scalar, ...]]) -> dict[str, tuple[Scalar, ...]]:
        for name, values in value.items():
            if not values:
                raise ValueError(f"must hold at least one value of {name}; got none")
        return value

    @model_validator(mode="after")
    def _check_range(self) -> "Parameter":
        kinds = [kind for kind in _RANGES if getattr(self, kind) is not None]
        if len(kinds) != 1:
            raise ValueError(f"needs exactly one of {', '.join(_RANGES)}; got {', '.join(kinds) or 'none'}")
        if self.choice is not None:
            if not self.choice:
                raise ValueError("choice must hold at least one value; got none")
            # True equals 1, but is another value.
            if len({(isinstance(value, bool), value) for value in self.choice}) < len(self.choice):
                raise ValueError(f"choice must not hold a value twice; got {list(self.choice)}")
            return self
        low, high = self.bounds
        if not low < high:
            raise ValueError(f"the first number of {kinds[0]} must be less than the second; got [{low}, {high}]")
        if self.log_uniform is not None and low <= 0:
            raise ValueError(f"both numbers of log_uniform must be greater than 0; got [{low}, {high}]")
        return self

    @property
    def bounds(self) -> tuple[float, float]:
        """Smallest and largest value of a range; a choice has none."""
        bounds = self.uniform or self.log_uniform or self.int
        if bounds is None:
            raise TypeError("a choice has no bounds")
        return bounds

    def extremes(self) -> tuple[Scalar, ...]:
        """Return all values of a choice, or both bounds of a range."""
        return self.choice if self.choice is not None else self.bounds

    def typed(self, value: Any) -> Scalar:
        """Return a value of a table with the type that the parameter has: the choice 8 for 8.0."""
        if self.choice is not None:
            return next(
                choice
                for choice in self.choice
                if choice == value and isinstance(value, bool) == isinstance(choice, bool)
            )
        return _Int(value) if self.int is not None else float(value)

    def contains(self, value: Scalar) -> bool:
        """Return whether a value lies in the range. Values of a choice must have the same type."""
        if self.choice is not None:
            return any(type(value) is type(choice) and value == choice for choice in self.choice)
        low, high = self.bounds
        if isinstance(value, bool | str) or (self.int is not None and isinstance(value, float)):
            return False
        return low <= value <= high

    def exists(self, values: Mapping[str, Scalar], names: Iterable[str]) -> bool:
        """Return whether all conditions hold at these values, of which only the parameters in `names` exist."""
        return all(name in names and values.get(name) in allowed for name, allowed in self.when.items())


def parameter_order(space: Mapping[str, Parameter]) -> list[str]:
    """Return the names of the parameters, each after the parameters in its conditions; a circle is a ValueError."""
    order: list[str] = []
    remaining = list(space)
    while remaining:
        ready = [name for name in remaining if set(space[name].when) <= set(order)]
        if not ready:
            raise ValueError(f"space: the conditions of {', '.join(remaining)} depend on each other in a circle")
        order += ready
        remaining = [name for name in remaining if name not in ready]
    return order


def active_parameters(space: Mapping[str, Parameter], values: Mapping[str, Scalar]) -> list[str]:
    """Return the names of the parameters that exist at these values, in the order of `parameter_order`."""
    active: list[str] = []
    for name in parameter_order(space):
        if space[name].exists(values, active):
            active.append(name)
    return active


def grid(space: Mapping[str, Parameter]) -> list[dict[str, Scalar]]:
    """Return all combinations of values, each without the parameters whose conditions do not hold.

    Raises:
        ValueError: When a parameter has infinitely many values, or there are more than a million combinations.
    """
    cells: list[dict[str, Scalar]] = [{}]
    for name in parameter_order(space):
        parameter = space[name]
        values: Sequence[Scalar]
        if parameter.choice is not None:
            values = parameter.choice
        elif parameter.int is not None:
            values = range(parameter.int[0], parameter.int[1] + 1)
        else:
            raise ValueError(f"space.{name} has infinitely many values; a grid needs choice or int for every parameter")
        if len(cells) * len(values) > _MAX_CELLS:
            raise ValueError(f"a grid must have at most {_MAX_CELLS:,} cells; choose fewer values for space.{name}")
        cells = [
            extended
            for cell in cells
            for extended in ([{**cell, name: value} for value in values] if parameter.exists(cell, cell) else [cell])
        ]
    return cells
