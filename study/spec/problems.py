"""Problems of a spec: the field at fault, the rule that it breaks, and the received value."""

import re
from collections.abc import Iterable
from types import NoneType
from typing import Any, NamedTuple, get_args

from pydantic import BaseModel, ValidationError

from study.errors import UserError
from study.formatting import suggestion

__all__ = ["NO_SUCH_FIELD", "Problem", "SpecError", "explain", "find_problems", "shown"]

NO_SUCH_FIELD = "no such field"
"""Beginning of the message about an unknown field."""

_MAX_SHOWN = 80


class Problem(NamedTuple):
    """One mistake in a spec: the path of the field at fault (empty for several fields), and the rule that it breaks.

    `source` is where the field was set: a file or an option of the command line.
    """

    path: str
    message: str
    source: str = ""

    def __str__(self) -> str:
        where = f"{self.source} {self.path}".strip() if self.source.startswith("--") else self.source
        return ": ".join(filter(None, (where, "" if self.source.startswith("--") else self.path, self.message)))


class SpecError(UserError):
    """A spec breaks rules: `problems` are all that were found."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        lines = [str(problem) for problem in self.problems]
        super().__init__("\n  ".join(lines if len(lines) == 1 else [f"{len(lines)} mistakes in the spec:", *lines]))


def explain(error: ValidationError, model: type[BaseModel]) -> str:
    """Return the first problem of a validation as one line: field, rule and received value."""
    first, *others = find_problems(error, model)
    return f"{first} (and {len(others)} more)" if others else str(first)


def find_problems(error: ValidationError, model: type[BaseModel], prefix: str = "") -> list[Problem]:
    """Return all problems of a validation; `prefix` is the path of the model in the spec."""
    problems = []
    for detail in error.errors():
        *section, field = path = [*detail["loc"]] or [""]
        message = detail["msg"].removeprefix("Value error, ")
        if detail["type"] == "extra_forbidden":
            message = f"{NO_SUCH_FIELD}; {suggestion(str(field), _field_names(model, section))}"
        elif detail["type"] == "missing":
            message = "is required"
        elif detail["type"] != "value_error":
            rule = re.sub(r"^\w+ should", "must", message)
            message = f"{rule}; got {shown(detail['input'])}"
        problems.append(Problem(".".join(filter(None, [prefix, *map(str, path)])), message))
    return problems


def shown(value: Any) -> str:
    """Return a received value for a message, cut if it is long."""
    text = repr(value)
    return text if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]}…"


def _field_names(model: Any, path: Iterable[Any]) -> list[str]:
    """Return the field names of the section at a path; path elements of a mapping of sections are its keys."""
    for part in path:
        model = model.model_fields[part].annotation if hasattr(model, "model_fields") else get_args(model)[-1]
        if NoneType in get_args(model):  # optional section
            model = get_args(model)[0]
    return list(model.model_fields)
