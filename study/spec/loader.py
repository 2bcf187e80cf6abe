"""A spec as a user writes it: a YAML file, with fields changed on the command line."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

from study.errors import UserError
from study.spec import Spec, parse_spec

__all__ = ["apply_overrides", "load_spec"]


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
