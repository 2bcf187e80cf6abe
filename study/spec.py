"""A study's spec: from YAML to a validated object, with errors that name the field, the rule and the value.

Neither torch nor Ray is imported here, so that a study can be read quickly; `study.configuration` checks the sections
that configure models against marl.
"""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, get_args

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from study.errors import UserError

__all__ = [
    "Parameter",
    "Scalar",
    "Spec",
    "active_parameters",
    "apply_overrides",
    "explain",
    "load_spec",
    "parameter_order",
    "parse_spec",
]

Scalar = bool | int | float | str

# The class below has a field of the name `int`, as the spec has.
_Whole = int

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


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

    def holds(self, value: Scalar) -> bool:
        """Whether a value lies in the range."""
        if self.choice is not None:
            return any(type(value) is type(choice) and value == choice for choice in self.choice)
        low, high = self.bounds
        if isinstance(value, bool | str) or (self.int is not None and isinstance(value, float)):
            return False
        return low <= value <= high


class _Views(_Section):
    shared: tuple[str, ...] = ("timbre",)


class _Train(_Section):
    steps: int = Field(6000, ge=1)
    batch_pairs: int = Field(128, ge=16, multiple_of=16)
    reports: int = Field(6, ge=1)

    @model_validator(mode="after")
    def _has_a_step_for_each_report(self) -> "_Train":
        if self.reports > self.steps:
            raise ValueError(f"reports must not exceed steps; got {self.reports} reports in {self.steps} steps")
        return self


class _Search(_Section):
    sampler: Literal["tpe", "nsga2", "gp", "qmc", "random", "grid"] = "tpe"
    trials: int | None = Field(None, ge=1)
    seed: int = Field(0, ge=0)


class _Resources(_Section):
    lanes: int | Literal["auto"] = "auto"

    @field_validator("lanes")
    @classmethod
    def _is_positive(cls, value: int | str) -> int | str:
        if isinstance(value, int) and value < 1:
            raise ValueError(f"must be at least 1 or auto; got {value}")
        return value


class Spec(_Section):
    """One question: data, search space, objectives and budget.

    The sections `data` to `optimiser` are the fields of marl's configurations; `study.configuration.resolve` checks
    them and fills in their defaults.
    """

    name: str
    data: dict[str, Any]
    audio: dict[str, Any] = {}
    views: _Views = _Views()
    model: dict[str, Any] = {}
    latent: dict[str, Any] = {}
    loss: dict[str, Any] = {}
    contrast: dict[str, Any] = {}
    optimiser: dict[str, Any] = {}
    train: _Train = _Train()
    replicates: int = Field(3, ge=1)
    space: dict[str, Parameter] = Field(min_length=1)
    objectives: dict[str, Literal["min", "max"]] = Field(
        {"fidelity/log_mel_rmse_db": "min", "disentanglement/separation": "max"}, min_length=1
    )
    search: _Search = _Search()
    include: tuple[dict[str, Scalar], ...] = ()
    resources: _Resources = _Resources()

    @field_validator("name")
    @classmethod
    def _can_be_a_folder(cls, value: str) -> str:
        if not _NAME.fullmatch(value):
            raise ValueError(
                f"must be 1 to 64 letters, digits, '.', '_' or '-', the first a letter or digit; got {value!r}"
            )
        return value

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

    def budgets(self) -> tuple[int, ...]:
        """Steps at which trials report; the last is the full budget."""
        return tuple(
            round(self.train.steps * (number + 1) / self.train.reports) for number in range(self.train.reports)
        )


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


def load_spec(path: str | Path, overrides: Iterable[str] = ()) -> Spec:
    """The spec of a YAML file, with `path=value` overrides.

    Raises:
        UserError: when the file cannot be read, is no YAML or breaks a rule.
    """
    try:
        content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UserError(f"{path} is not a text file") from None
    except yaml.YAMLError as error:
        where = getattr(error, "problem_mark", None)
        place = f" in line {where.line + 1}" if where else ""
        raise UserError(f"{path} is not valid YAML{place}: {getattr(error, 'problem', error)}") from None
    if not isinstance(content, dict):
        raise UserError(f"{path} must hold the fields of a spec, such as name, data and space; got {content!r}")
    apply_overrides(content, overrides)
    return parse_spec(content, source=str(path))


def parse_spec(content: Mapping[str, Any], source: str) -> Spec:
    """A spec from the fields of a mapping; errors name the source."""
    try:
        return Spec.model_validate(content)
    except ValidationError as error:
        raise UserError(f"{source}: {explain(error, Spec)}") from None


def apply_overrides(content: dict[str, Any], overrides: Iterable[str]) -> None:
    """Set `path=value` in nested mappings, the value read as YAML. Keys that hold dots are found first.

    Raises:
        UserError: when an override is not of that form, or goes through something that is no section.
    """
    for override in overrides:
        path, separator, text = override.partition("=")
        if not separator or not path:
            raise UserError(f"--set takes path=value, for example train.steps=600; got {override!r}")
        try:
            value = yaml.safe_load(text)
        except yaml.YAMLError:
            raise UserError(f"--set {path}: the value is not valid YAML; got {text!r}") from None
        _set(content, path, value, override)


def _set(section: dict[str, Any], path: str, value: Any, override: str) -> None:
    # Parameters of the space have dots in their names: `space.loss.private.gamma` sets one key of `space`.
    if path.startswith("space."):
        section.setdefault("space", {})[path.removeprefix("space.")] = value
        return
    *sections, last = path.split(".")
    for name in sections:
        section = section.setdefault(name, {})
        if not isinstance(section, dict):
            raise UserError(f"--set {override}: {name} is a value, not a section")
    section[last] = value


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
    return list(model.model_fields)
