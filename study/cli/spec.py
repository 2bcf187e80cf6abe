"""Commands about specs, which need neither a store nor a study: init, validate, metrics, schema."""

import json
import re
from pathlib import Path
from typing import Annotated

import typer

from study.cli.common import (
    JsonOption,
    OverwriteOption,
    SetOption,
    SpecArgument,
    check_output,
    log,
    read_spec,
    show_table,
    spec_path,
)
from study.errors import UserError

SCHEMA_FILE = "marl-study.schema.json"
"""Name of the JSON Schema that `init` writes beside a spec."""

_SUFFIXES = (".yaml", ".yml")


def init(
    name: Annotated[str, typer.Argument(metavar="[NAME]", help="Ready study to start from.")] = "quickstart",
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="File of the spec. [default: NAME.yaml]")
    ] = None,
    overwrite: OverwriteOption = False,
) -> None:
    """Write a commented spec to start from, a copy of a ready study.

    Beside it goes the JSON Schema of specs, by which editors such as VS Code with its YAML extension complete and
    check fields. The name of the file becomes the name of the study.

    Example: marl-study init quickstart -o mine.yaml
    """
    from study.formatting import suggestion
    from study.local_files import atomic_path
    from study.spec import study_name
    from study.spec.ready import ready_studies

    if name not in ready_studies():
        raise UserError(f"NAME: must be a ready study; got {name!r}; {suggestion(name, ready_studies())}")
    output = output or Path(f"{name}.yaml")
    check_output("--output", output, overwrite, _SUFFIXES)
    text = re.sub(r"(?m)^name: .*$", f"name: {study_name(output.stem)}", ready_studies()[name].read_text("utf-8"))
    header = f"# yaml-language-server: $schema={SCHEMA_FILE}\n# Check: marl-study validate {output.name}\n"
    header += f"# Run:   marl-study run {output.name}\n\n"
    try:
        with atomic_path(output.with_name(SCHEMA_FILE)) as draft:
            draft.write_text(_schema_text(), encoding="utf-8")
        with atomic_path(output) as draft:
            draft.write_text(header + text, encoding="utf-8")
    except OSError as error:
        raise UserError(f"--output: cannot write {output}: {error.strerror}") from None
    log(f"spec: {output}; run it with: marl-study run {output}")


def validate(spec_file: SpecArgument, overrides: SetOption = None, as_json: JsonOption = False) -> None:
    """Check a spec, and report all its mistakes at once. Nothing is run or written.

    Exit status 2 means that the spec has mistakes. Recordings, their table and the store are not read; `doctor` checks
    these.

    Example: marl-study validate mine.yaml
    """
    from study.spec.loader import Problem, SpecError

    try:
        resolved = read_spec(spec_file, overrides)
    except UserError as error:
        if not as_json:
            raise
        problems = error.problems if isinstance(error, SpecError) else (Problem("", str(error), str(spec_file)),)
        typer.echo(json.dumps({"valid": False, "problems": [problem._asdict() for problem in problems]}, indent=1))
        raise typer.Exit(2) from None
    spec = resolved.spec
    if as_json:
        typer.echo(json.dumps({"valid": True, "problems": []}, indent=1))
    else:
        trials = f"{spec.search.trials} trials x {spec.replicates} replicates x {spec.train.steps:,} steps"
        log(f"{spec_file}: no mistakes; study {spec.name}, {trials}")


def metrics(
    spec_file: Annotated[
        Path | None,
        typer.Argument(metavar="[SPEC]", help="Spec whose factors are in the names.", callback=spec_path),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """List the metrics that may be objectives, with their better direction, range and meaning.

    `<factor>` stands for a factor of the data. With a spec, the factors are known, and so are names and directions.

    Example: marl-study metrics quickstart
    """
    from study.spec.metrics import METRICS, ColumnReference

    rows: list[tuple[str, str, ColumnReference]]
    if spec_file is None:
        rows = [(metric.pattern, metric.better, metric) for metric in METRICS]
    else:
        resolved = read_spec(spec_file)
        words = {"min": "lower", "max": "higher"}
        rows = [
            (name, words[resolved.spec.usual_direction(name)], metric)
            for metric in METRICS
            for name in metric.names(resolved.factors)
        ]
    if as_json:
        listed = [
            {"name": name, "better": better, "range": metric.range, "when": metric.when, "meaning": metric.meaning}
            for name, better, metric in rows
        ]
        typer.echo(json.dumps(listed, indent=1, ensure_ascii=False))
        return
    from rich.table import Table

    table = Table("metric", "better", "range", "meaning", header_style="bold", box=None, pad_edge=False)
    for name, better, metric in rows:
        table.add_row(name, better, metric.range, metric.meaning)
    show_table(table)
    if spec_file is None:
        log("by subspace: higher where the factor belongs, lower in the other subspace")


def schema() -> None:
    """Print the JSON Schema of a spec, by which editors complete and check fields.

    Example: marl-study schema > marl-study.schema.json
    """
    typer.echo(_schema_text(), nl=False)


def _schema_text() -> str:
    from study.spec.json_schema import spec_schema

    return json.dumps(spec_schema(), indent=1) + "\n"
