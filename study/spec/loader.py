"""Reads a spec from a YAML file, with fields changed on the command line."""

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

from study.errors import UserError
from study.spec.problems import shown
from study.spec.schema import Spec, parse_spec

__all__ = ["apply_overrides", "load_fields", "load_spec"]

# Maximum number of values in a file, with those that its aliases repeat.
_MAX_VALUES = 100_000


def load_spec(path: str | Path, overrides: Iterable[str] = ()) -> Spec:
    """Return the spec of a YAML file, with the changes of `apply_overrides`; raise a UserError for a wrong file."""
    return parse_spec(load_fields(path, overrides), source=str(path))


def load_fields(path: str | Path, overrides: Iterable[str] = ()) -> dict[str, Any]:
    """Return the fields of the spec in a YAML file, with the changes of `apply_overrides`.

    Raises:
        UserError: When the file cannot be read, is not YAML, or holds no fields.
    """
    try:
        content = _parse_yaml(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UserError(f"{path} is not a text file in UTF-8") from None
    except ValueError as error:
        raise UserError(f"{path} is not valid YAML: {error}") from None
    if not isinstance(content, dict):
        raise UserError(f"{path} must hold the fields of a spec, such as name, data and space; got {shown(content)}")
    apply_overrides(content, overrides)
    return content


def apply_overrides(content: dict[str, Any], overrides: Iterable[str]) -> None:
    """Set fields of nested mappings in place.

    Args:
        content: Fields of a spec.
        overrides: Changes of the form `path=value`; the value is read as YAML.

    Raises:
        UserError: When an override has another form, or its path goes through a value.
    """
    for override in overrides:
        path, separator, text = override.partition("=")
        if not separator or not path:
            raise UserError(f"--set takes path=value, for example train.steps=600; got {override!r}")
        try:
            value = _parse_yaml(text)
        except ValueError as error:
            raise UserError(f"--set {path}: the value must be valid YAML; got {shown(text)}: {error}") from None
        # Names of parameters contain dots: `space.loss.private.gamma` is the parameter `loss.private.gamma`.
        *sections, field = path.split(".", 1) if path.startswith("space.") else path.split(".")
        section = content
        for name in sections:
            if section.get(name) is None:  # also a section that the file leaves empty
                section[name] = {}
            if not isinstance(section[name], dict):
                raise UserError(f"--set {path}: {name} has no fields; its value is {shown(section[name])}")
            # A copy, because an alias may share the section with another field.
            section[name] = section = dict(section[name])
        section[field] = value


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
