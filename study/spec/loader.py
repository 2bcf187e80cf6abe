"""Loads the fields of a spec from a YAML file, changes them, and describes problems of fields."""

import math
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import NoneType
from typing import Any, NamedTuple, get_args

import yaml
from pydantic import BaseModel, ValidationError

from study.errors import UserError
from study.formatting import suggestion
from study.spec.ready import find_spec, ready_studies

NO_SUCH_FIELD = "no such field"
"""Beginning of the message about an unknown field."""

# Maximum number of values in a file, with those that its aliases repeat.
_MAX_VALUES = 100_000
_MAX_SHOWN = 80


def load_fields(path: str | Path) -> dict[str, Any]:
    """Return the fields of the spec in a YAML file or of a ready study.

    Raises:
        UserError: When the file cannot be read, is not YAML, or holds no fields.
    """
    try:
        content = _parse_yaml(find_spec(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        known = suggestion(Path(path).stem, ready_studies())
        raise UserError(f"{path}: no such file, and no ready study of this name; {known}") from None
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UserError(f"{path} is not a text file in UTF-8") from None
    except ValueError as error:
        raise UserError(f"{path} is not valid YAML: {error}") from None
    if not isinstance(content, dict):
        raise UserError(f"{path} must hold the fields of a spec, such as name, data and space; got {shown(content)}")
    return content


def apply_overrides(content: dict[str, Any], overrides: Iterable[str] | Mapping[str, Any]) -> None:
    """Set fields of nested mappings in place.

    Args:
        content: Fields of a spec.
        overrides: Values by path, or options of the command line in the form `path=value`; their values are read as
            YAML.

    Raises:
        UserError: When an option has another form, or a path goes through a value.
    """
    if isinstance(overrides, Mapping):
        source, changes = "overrides: ", list(overrides.items())
    else:
        source, changes = "--set ", [_parse_override(override) for override in overrides]
    for path, value in changes:
        # Names of parameters contain dots: `space.loss.private.gamma` is the parameter `loss.private.gamma`.
        *sections, field = path.split(".", 1) if path.startswith("space.") else path.split(".")
        section = content
        for name in sections:
            if section.get(name) is None:  # also a section that the file leaves empty
                section[name] = {}
            if not isinstance(section[name], dict):
                raise UserError(f"{source}{path}: {name} has no fields; its value is {shown(section[name])}")
            # A copy, because an alias may share the section with another field.
            section[name] = section = dict(section[name])
        section[field] = value


def _parse_override(override: str) -> tuple[str, Any]:
    """Return path and value of an option `path=value`."""
    path, separator, text = override.partition("=")
    if not separator or not path:
        raise UserError(f"--set takes path=value, for example train.steps=600; got {override!r}")
    try:
        return path, _parse_yaml(text)
    except ValueError as error:
        raise UserError(f"--set {path}: the value must be valid YAML; got {shown(text)}: {error}") from None


def _parse_yaml(text: str) -> Any:
    """Return the content of a YAML document; raise a ValueError for anything else, in one line."""
    try:
        loader = yaml.SafeLoader(text)
        node = loader.get_single_node()
        if node is None:
            return None
        _count_values(node, {})
        return loader.construct_document(node)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        reason = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise ValueError(f"{reason} in line {mark.line + 1}" if mark else reason) from None
    except RecursionError:
        raise ValueError("nested too deeply") from None
    except (LookupError, AttributeError) as error:  # PyYAML does not check a value with an explicit tag
        raise ValueError(f"a value does not have the type of its tag ({error})") from None


def _count_values(node: yaml.Node, counts: dict[int, float]) -> float:
    """Return the number of values of a node with those that aliases repeat, and check that keys differ."""
    if id(node) in counts:
        return counts[id(node)]
    counts[id(node)] = math.inf  # until it is known, so that a node that contains itself is infinite
    total = 1.0
    if isinstance(node, yaml.MappingNode):
        keys = set()
        for key, value in node.value:
            if isinstance(key, yaml.ScalarNode):
                if (key.tag, key.value) in keys:
                    raise yaml.MarkedYAMLError(problem=f"duplicate key {key.value!r}", problem_mark=key.start_mark)
                keys.add((key.tag, key.value))
            total += _count_values(key, counts) + _count_values(value, counts)
    elif isinstance(node, yaml.SequenceNode):
        total += sum(_count_values(value, counts) for value in node.value)
    if total > _MAX_VALUES:
        raise yaml.MarkedYAMLError(problem=f"more than {_MAX_VALUES:,} values", problem_mark=node.start_mark)
    counts[id(node)] = total
    return total


class Problem(NamedTuple):
    """One mistake in a spec: the path of the field at fault (empty for several fields), and the rule that it breaks.

    `source` is where the field was set: a file, an argument, or an option of the command line.
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
