"""Pages of the reference, generated from the code: fields of a spec, commands, columns of the results.

    python -m docs.generate

`make docs` runs it. The pages are committed, so that they are read in the repository too, and a test compares them.
"""

import inspect
from collections.abc import Iterable, Iterator
from enum import StrEnum
from itertools import groupby
from pathlib import Path
from typing import Any

import typer.main

import marl
import study
from study.cli import _app
from study.spec.columns import COLUMNS, METRICS
from study.spec.reference import FieldReference, spec_fields

FOLDER = Path(__file__).parent / "reference"
_NOTE = "<!-- Generated from the code by `make docs`; do not edit. -->\n"
_SPEC_INTRODUCTION = (
    "A spec is a YAML file. Each field has a path, such as `train.steps`; the option `--set train.steps=400` changes "
    "it for one run. Fields of the sections `views` to `optimiser` may also be parameters of the `space`, by the same "
    "path. A field without a default is required. [own-study.md](../own-study.md) shows a whole file. Fields are as "
    "old as version 0.1 unless they say otherwise."
)
_COMMANDS_INTRODUCTION = (
    "Results go to stdout, everything else to stderr. Exit status: 0 success, 1 failure, 2 wrong arguments, 130 after "
    "Ctrl-C. `marl-study COMMAND --help` shows the same in a terminal.\n"
)
_COLUMNS_INTRODUCTION = (
    "`marl-study results NAME --format csv` writes these columns, with a row for each trial and baseline. `<factor>`, "
    "`<class>`, `<path>`, `<term>` and `<metric>` stand for any name of their kind, `{private,shared}` for one of "
    "these words. *By subspace*: higher is better in the subspace where the factor belongs, and lower in the other. "
    "[metrics.md](../metrics.md) defines every metric and says what it misses.\n"
)
_PYTHON_INTRODUCTION = (
    "[python.md](../python.md) shows how the names work together. "
    "In the repository this page lists the public names. On the site, which `make docs` builds, each has its signature "
    "and its description.\n"
)


def pages() -> dict[str, str]:
    """Return the pages by name of their file."""
    return {
        "spec.md": spec_page(),
        "commands.md": commands_page(),
        "columns.md": columns_page(),
        "python.md": python_page(),
    }


def spec_page() -> str:
    """Return the page with every field of a spec."""
    lines = [
        _NOTE,
        "# Fields of a spec\n",
        _SPEC_INTRODUCTION,
    ]
    for heading, fields in groupby(spec_fields(), lambda field: field.section):
        lines.append(f"\n## {f'`{heading}`' if heading else 'The spec'}\n")
        lines += _table(("field", "value", "meaning"), map(_field_row, fields))
    return "\n".join(lines) + "\n"


def _field_row(field: FieldReference) -> tuple[str, str, str]:
    value = ", ".join(filter(None, (field.type, field.allowed)))
    if field.default is None:
        value += "; **required**"
    elif field.default:
        value += f"; default `{field.default}`"
    return f"`{field.path}`", value, field.meaning


def commands_page() -> str:
    """Return the page with every command, its arguments and its options."""
    root = typer.main.get_command(_app())
    lines = [
        _NOTE,
        "# Commands\n",
        _COMMANDS_INTRODUCTION,
        "## Before the command\n",
        *_parameter_table(root),
    ]
    for name, command in _commands(root, "marl-study"):
        lines += [f"\n## `{name}`\n", _prose(command.help or ""), "", *_parameter_table(command)]
    return "\n".join(lines) + "\n"


def _commands(group: Any, prefix: str) -> Iterator[tuple[str, Any]]:
    """Yield all commands with their full names; a group yields its commands."""
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from _commands(command, f"{prefix} {name}")
        else:
            yield f"{prefix} {name}", command


def _parameter_table(command: Any) -> list[str]:
    rows = []
    for parameter in command.params:
        if getattr(parameter, "hidden", False):
            continue
        is_option = parameter.opts[0].startswith("-")
        name = ", ".join(f"`{word}`" for word in parameter.opts) if is_option else f"`{_metavar(parameter)}`"
        if is_option and not getattr(parameter, "is_flag", False) and not getattr(parameter, "count", False):
            name += f" `{_metavar(parameter)}`"
        rows.append((name, parameter.help or "", _default(parameter)))
    return _table(("argument or option", "meaning", "default"), rows) if rows else []


def _metavar(parameter: Any) -> str:
    kind = parameter.type_descriptor.annotation
    choices = "|".join(kind) if isinstance(kind, type) and issubclass(kind, StrEnum) else ""
    return str(parameter.metavar or choices or parameter.name.upper())


def _default(parameter: Any) -> str:
    if parameter.required:
        return "required"
    default = getattr(parameter.default, "value", parameter.default)
    shown = "" if default in (None, False, 0, [], ()) or callable(default) else f"`{default}`"
    variable = getattr(parameter, "envvar", None)
    return f"`${variable}`, then {shown}" if variable else shown


def columns_page() -> str:
    """Return the page with every column of the results."""
    metrics = {column.pattern for column in METRICS}
    rows = (
        (
            f"`{column.pattern}`",
            column.meaning,
            column.better,
            column.range,
            column.when,
            "yes" if column.pattern in metrics else "",
        )
        for column in COLUMNS
    )
    lines = [
        _NOTE,
        "# Columns of the results\n",
        _COLUMNS_INTRODUCTION,
        *_table(("column", "meaning", "better", "range", "in", "objective"), rows),
    ]
    return "\n".join(lines) + "\n"


def python_page() -> str:
    """Return the page of the public names, whose docstrings mkdocstrings fills in when the site is built."""
    lines = [_NOTE, "# Python API\n", _PYTHON_INTRODUCTION]
    for module in (study, marl):
        lines.append(f"## {module.__name__}\n")
        lines += [f"::: {module.__name__}.{name}\n" for name in module.__all__]
    lines += ["## Metrics on representations of your own\n", "::: marl.metrics.usable_information"]
    return "\n".join(lines) + "\n"


def _prose(text: str) -> str:
    """Return a docstring with its example as code."""
    body, mark, example = inspect.cleandoc(text).replace("\b\n", "").partition("Example: ")
    return body.rstrip() + (f"\n\n```sh\n{example.strip()}\n```" if mark else "")


def _table(heading: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> list[str]:
    """Return a Markdown table; a bar within a cell would end it."""
    cells = [[" ".join(cell.replace("|", "\\|").split()) for cell in row] for row in rows]
    return [f"| {' | '.join(row)} |" for row in [heading, ["---"] * len(heading), *cells]]


def main() -> None:
    """Write the pages that have changed."""
    FOLDER.mkdir(exist_ok=True)
    for name, text in pages().items():
        path = FOLDER / name
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
