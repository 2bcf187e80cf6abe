"""Reads a spec from a YAML file, with fields changed on the command line."""

import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from study.errors import UserError
from study.spec.problems import NO_SUCH_FIELD, Problem, SpecError, shown
from study.spec.resolve import resolve
from study.spec.resolved_spec import ResolvedSpec
from study.spec.schema import Spec, parse_spec

__all__ = ["apply_overrides", "load_spec", "read_spec"]

# Maximum number of values in a file, with those that its aliases repeat.
_MAX_VALUES = 100_000


def read_spec(path: str | Path, overrides: Iterable[str] = (), trials: int | None = None) -> ResolvedSpec:
    """Return the resolved spec of a YAML file, with the changes of `apply_overrides`.

    Args:
        path: File of the spec.
        overrides: Values of the option `--set`.
        trials: Value of the option `--trials`.

    Raises:
        UserError: When the file cannot be read or is not YAML.
        SpecError: When fields break rules. Each problem names the option, or else the file, that sets the field.
    """
    overrides = list(overrides)
    changes = [f"--set {override.partition('=')[0]}" for override in overrides]
    if trials is not None:
        overrides.append(f"search.trials={trials}")
        changes.append("--trials search.trials")
    try:
        return resolve(load_spec(path, overrides))
    except SpecError as error:
        raise SpecError(_with_source(problem, str(path), changes) for problem in error.problems) from None


def load_spec(path: str | Path, overrides: Iterable[str] = ()) -> Spec:
    """Return the spec of a YAML file, with the changes of `apply_overrides`; errors are those of `read_spec`."""
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
    try:
        return parse_spec(content, source="")
    except SpecError as error:
        raise SpecError([*error.problems, *_further_problems(content, error.problems)]) from None


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


def _further_problems(content: Mapping[str, Any], found: Iterable[Problem]) -> Iterable[Problem]:
    """Return the problems of a spec without the fields that have problems already."""
    faulty = {problem.path.partition(".")[0] for problem in found}
    if faulty & {"", "data", "space"}:  # the rest cannot be checked without them
        return ()
    if "train" in faulty:
        faulty.add("halving")  # its rule depends on the steps
    rest = {"name": "unnamed"} | {name: value for name, value in content.items() if name not in faulty}
    try:
        resolve(parse_spec(rest, source=""))
    except SpecError as error:
        return error.problems
    return ()


def _with_source(problem: Problem, file: str, changes: Iterable[str]) -> Problem:
    """Return a problem with the option that set its field, or a field of its section; else with the file."""
    for change in changes:
        option, _, path = change.partition(" ")
        is_section = path.startswith(f"{problem.path}.") if problem.path else "." in path
        is_named = path.rpartition(".")[2] in problem.message or problem.message.startswith(NO_SUCH_FIELD)
        if f"{problem.path}.".startswith(f"{path}.") or (is_section and is_named):
            path = "" if option == "--trials" else max(path, problem.path, key=len)
            return Problem(path, problem.message, option)
    return problem._replace(source=file)
