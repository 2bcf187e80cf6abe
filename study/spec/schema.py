"""A study's spec: a validated object, with errors that name the field, the rule and the value.

Neither torch nor Ray is imported here, so that a study can be read quickly; `study.spec.resolve` checks the sections
that configure models against marl.
"""

import re
from collections.abc import Iterable, Mapping
from types import NoneType
from typing import Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from study.errors import UserError

__all__ = [
    "Parameter",
    "Scalar",
    "Spec",
    "active_parameters",
    "explain",
    "parameter_order",
    "parse_spec",
]

Scalar = bool | int | float | str

# The class below has a field of the name `int`, as the spec has.
_Whole = int

STUDY_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Parameter(_Section):
    """One dimension of the search space: exactly one kind of range, and a condition.

    Attributes:
        choice: any of these values.
        uniform: from the first to the second number.
        log_uniform: likewise, evenly on a logarithmic scale.
        int: a whole number from the first to the second, both included.
        when: other parameters and the values of theirs for which this one exists.
    """

    choice: tuple[Scalar, ...] | None = None
    uniform: tuple[float, float] | None = None
    log_uniform: tuple[float, float] | None = None
    int: tuple[_Whole, _Whole] | None = None
    when: dict[str, tuple[Scalar, ...]] = {}

    @field_validator("when", mode="before")
    @classmethod
    def _one_value_may_stand_alone(cls, value: Any) -> Any:
        if isinstance(value, Mapping):
            return {name: values if isinstance(values, list | tuple) else [values] for name, values in value.items()}
        return value

    @model_validator(mode="after")
    def _is_one_range(self) -> "Parameter":
        kinds = [kind for kind in ("choice", "uniform", "log_uniform", "int") if getattr(self, kind) is not None]
        if len(kinds) != 1:
            raise ValueError(
                f"needs exactly one of choice, uniform, log_uniform and int; got {', '.join(kinds) or 'none'}"
            )
        if self.choice is not None:
            if not self.choice:
                raise ValueError("choice must hold at least one value; got none")
            if len(set(map(repr, self.choice))) < len(self.choice):
                raise ValueError(f"choice must not hold a value twice; got {list(self.choice)}")
            return self
        low, high = self.bounds
        if not low < high:
            raise ValueError(f"{kinds[0]} goes from a smaller to a larger number; got [{low}, {high}]")
        if self.log_uniform is not None and low <= 0:
            raise ValueError(f"log_uniform needs numbers above zero; got [{low}, {high}]")
        return self

    @property
    def bounds(self) -> tuple[float, float]:
        """Smallest and largest value of a range that is no choice."""
        bounds = self.uniform or self.log_uniform or self.int
        if bounds is None:
            raise TypeError("a choice has no bounds")
        return bounds

    def extremes(self) -> tuple[Scalar, ...]:
        """Values that stand for all: every choice, or both bounds."""
        return self.choice if self.choice is not None else self.bounds

    def typed(self, value: Any) -> Scalar:
        """Return a value of a table with the type that the parameter has: the choice 8 for 8.0."""
        if self.choice is not None:
            return next(
                choice
                for choice in self.choice
                if choice == value and isinstance(value, bool) == isinstance(choice, bool)
            )
        return _Whole(value) if self.int is not None else float(value)

    def holds(self, value: Scalar) -> bool:
        """Whether a value lies in the range."""
        if self.choice is not None:
            return any(type(value) is type(choice) and value == choice for choice in self.choice)
        low, high = self.bounds
        if isinstance(value, bool | str) or (self.int is not None and isinstance(value, float)):
            return False
        return low <= value <= high


class _Train(_Section):
    steps: int = Field(6000, ge=1)
    batch_pairs: int = Field(128, ge=16, multiple_of=16)
    reports: int = Field(6, ge=1)
    precision: Literal["auto", "float32", "bfloat16"] = "auto"

    @model_validator(mode="after")
    def _has_a_step_for_each_report(self) -> "_Train":
        if self.reports > self.steps:
            raise ValueError(f"reports must not exceed steps; got {self.reports} reports in {self.steps} steps")
        return self


class _Search(_Section):
    sampler: Literal["tpe", "nsga2", "gp", "qmc", "random", "grid"] = "tpe"
    trials: int | None = Field(None, ge=1)
    seed: int = Field(0, ge=0)


class _Halving(_Section):
    reduction_factor: int = Field(3, ge=2)
    min_steps: int = Field(600, ge=1)


class _Resources(_Section):
    lanes: int | Literal["auto"] = "auto"
    compile: bool | Literal["auto"] = "auto"
    devices: int | Literal["auto"] = "auto"
    data_gib: float | Literal["auto"] = "auto"

    @field_validator("lanes", "devices")
    @classmethod
    def _is_positive(cls, value: int | str) -> int | str:
        if isinstance(value, int) and value < 1:
            raise ValueError(f"must be at least 1 or auto; got {value}")
        return value

    @field_validator("data_gib")
    @classmethod
    def _is_no_debt(cls, value: float | str) -> float | str:
        if isinstance(value, float) and value < 0:
            raise ValueError(f"must be at least 0 or auto; got {value}")
        return value


class Spec(_Section):
    """One question: data, search space, objectives and budget.

    The sections `data` to `optimiser` are the fields of marl's configurations; `study.spec.resolve.resolve` checks
    them and fills in their defaults. The seeds of a trial are `first_seed` and those after it. `post_training` names
    what is computed after training for the front and for trials near it: all metrics again on test clips, probes of
    samples, and metrics that take seconds a model (`marl.evaluation.post_training`).
    """

    name: str
    data: dict[str, Any]
    audio: dict[str, Any] = {}
    views: dict[str, Any] = {}
    model: dict[str, Any] = {}
    latent: dict[str, Any] = {}
    loss: dict[str, Any] = {}
    contrast: dict[str, Any] = {}
    independence: dict[str, Any] = {}
    optimiser: dict[str, Any] = {}
    train: _Train = _Train()
    replicates: int = Field(3, ge=1)
    first_seed: int = Field(0, ge=0)
    space: dict[str, Parameter] = Field(min_length=1)
    objectives: dict[str, Literal["min", "max"]] = Field(
        {"fidelity/log_mel_rmse_db": "min", "disentanglement/separation": "max"}, min_length=1
    )
    search: _Search = _Search()
    include: tuple[dict[str, Scalar], ...] = ()
    halving: _Halving | None = None
    post_training: tuple[Literal["test", "samples", "dci", "sound"], ...] = ("test", "samples", "dci", "sound")
    resources: _Resources = _Resources()

    @field_validator("name")
    @classmethod
    def _can_be_a_folder(cls, value: str) -> str:
        if not STUDY_NAME.fullmatch(value):
            raise ValueError(
                f"must be 1 to 64 letters, digits, '.', '_' or '-', the first a letter or digit; got {value!r}"
            )
        return value

    @field_validator("halving", mode="before")
    @classmethod
    def _none_is_a_word(cls, value: Any) -> Any:
        if value == "none":
            return None
        if value is None or isinstance(value, Mapping | _Halving):
            return value
        raise ValueError(f"takes reduction_factor and min_steps, or none; got {value!r}")

    @model_validator(mode="after")
    def _halving_begins_before_the_end(self) -> "Spec":
        if self.halving and self.halving.min_steps >= self.train.steps:
            raise ValueError(
                f"halving.min_steps must be below train.steps; got {self.halving.min_steps} of {self.train.steps} steps"
            )
        return self

    @model_validator(mode="after")
    def _halving_follows_the_first_seed(self) -> "Spec":
        if self.halving and self.first_seed:
            raise ValueError(f"first_seed must be 0 with halving, which follows that seed; got {self.first_seed}")
        return self

    @model_validator(mode="after")
    def _conditions_can_hold(self) -> "Spec":
        for name, parameter in self.space.items():
            for other, values in parameter.when.items():
                if other not in self.space:
                    raise ValueError(f"space.{name}.when: {other!r} is no parameter of the space")
                for value in values:
                    if not self.space[other].holds(value):
                        raise ValueError(f"space.{name}.when: {other} is never {value!r}")
        parameter_order(self.space)
        return self

    @property
    def shared_factors(self) -> tuple[str, ...]:
        """What the two views of a pair have in common, of a resolved spec."""
        return tuple(self.views["shared"])

    @property
    def seeds(self) -> range:
        """Seeds of a trial's replicates."""
        return range(self.first_seed, self.first_seed + self.replicates)

    def budgets(self) -> tuple[int, ...]:
        """Steps at which trials report: evenly spaced, and the rungs of halving; the last is the full budget."""
        even = {round(self.train.steps * (number + 1) / self.train.reports) for number in range(self.train.reports)}
        return tuple(sorted(even | set(self.rungs())))

    def rungs(self) -> tuple[int, ...]:
        """Steps at which trials are compared and most of them stopped; none without halving."""
        rungs: list[int] = []
        if self.halving:
            step = self.halving.min_steps
            while step < self.train.steps:
                rungs.append(step)
                step *= self.halving.reduction_factor
        return tuple(rungs)

    def expected_steps(self, reached: int = 0) -> int:
        """Return the steps of all replicates still expected for a trial; one in `reduction_factor` passes each rung.

        Args:
            reached: by seed 0, while it trains alone.
        """
        expected, share = 0.0, 1.0
        for rung in (rung for rung in self.rungs() if rung > reached):
            expected += share * (rung - reached)
            share /= self.halving.reduction_factor if self.halving else 1
            reached = rung
        return round(expected + share * (self.train.steps - reached + (self.replicates - 1) * self.train.steps))


def parameter_order(space: Mapping[str, Parameter]) -> list[str]:
    """Names of the parameters, each after those that its condition speaks of.

    Raises:
        ValueError: when conditions go round in a circle.
    """
    order: list[str] = []
    waiting = list(space)
    while waiting:
        ready = [name for name in waiting if set(space[name].when) <= set(order)]
        if not ready:
            raise ValueError(f"space: the conditions of {', '.join(waiting)} go round in a circle")
        order += ready
        waiting = [name for name in waiting if name not in ready]
    return order


def active_parameters(space: Mapping[str, Parameter], values: Mapping[str, Scalar]) -> list[str]:
    """Names of the parameters whose conditions the values meet, conditions first."""
    active: list[str] = []
    for name in parameter_order(space):
        conditions = space[name].when.items()
        if all(other in active and values.get(other) in allowed for other, allowed in conditions):
            active.append(name)
    return active


def parse_spec(content: Mapping[str, Any], source: str) -> Spec:
    """A spec from the fields of a mapping; errors name the source."""
    try:
        return Spec.model_validate(content)
    except ValidationError as error:
        raise UserError(f"{source}: {explain(error, Spec)}") from None


def explain(error: ValidationError, model: type[BaseModel], prefix: str = "") -> str:
    """The first error of validating a model as one line: where, which rule, which value."""
    first = error.errors()[0]
    where = ".".join([prefix, *map(str, first["loc"])] if prefix else list(map(str, first["loc"])))
    message = first["msg"].removeprefix("Value error, ")
    if first["type"] == "extra_forbidden":
        message = f"no such field; there are {', '.join(_fields_at(model, first['loc'][:-1]))}"
    elif first["type"] == "missing":
        message = "is needed"
    elif first["type"] != "value_error":
        message = f"{message[0].lower()}{message[1:]}; got {first['input']!r}"
    more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
    return f"{where}: {message}{more}" if where else f"{message}{more}"


def _fields_at(model: Any, path: Iterable[Any]) -> list[str]:
    """Names of the fields of the section at a path; what has none is a mapping of sections."""
    for part in path:
        model = model.model_fields[part].annotation if hasattr(model, "model_fields") else get_args(model)[-1]
        if NoneType in get_args(model):  # a section that may be left out
            model = get_args(model)[0]
    return list(model.model_fields)
