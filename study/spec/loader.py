"""Reads a spec from a YAML file, with fields changed on the command line."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

from study.errors import UserError
from study.spec.schema import Spec, parse_spec

__all__ = ["apply_overrides", "load_spec"]


def load_spec(path: str | Path, overrides: Iterable[str] = ()) -> Spec:
    """Return the spec of a YAML file, with the changes of `apply_overrides`.

    Raises:
        UserError: When the file cannot be read, is not YAML, or breaks a rule.
    """
    try:
        content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UserError(f"{path} is not a text file in UTF-8") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f" in line {mark.line + 1}" if mark else ""
        raise UserError(f"{path} is not valid YAML{line}: {getattr(error, 'problem', error)}") from None
    if not isinstance(content, dict):
        raise UserError(f"{path} must hold the fields of a spec, such as name, data and space; got {content!r}")
    apply_overrides(content, overrides)
    return parse_spec(content, source=str(path))


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
            value = yaml.safe_load(text)
        except yaml.YAMLError:
            raise UserError(f"--set {path}: the value must be valid YAML; got {text!r}") from None
        # Names of parameters contain dots: `space.loss.private.gamma` is the parameter `loss.private.gamma`.
        *sections, field = path.split(".", 1) if path.startswith("space.") else path.split(".")
        section = content
        for name in sections:
            if section.get(name) is None:  # also a section that the file leaves empty
                section[name] = {}
            if not isinstance(section[name], dict):
                raise UserError(f"--set {path}: {name} has no fields; its value is {section[name]!r}")
            section = section[name]
        section[field] = value
