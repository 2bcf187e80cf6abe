"""The report of a study: figures as PNG files, and the HTML page that shows them, from the template `page.html.j2`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import altair as alt
import pandas as pd
import yaml
from jinja2 import Environment, PackageLoader, StrictUndefined

from study.analysis import STATES, StudyResults
from study.charts.style import PIXEL_RATIO, MissingDataError, save_chart
from study.errors import UserError
from study.formatting import objective_label
from study.local_files import atomic_path
from study.report.figures import FIGURES, Figure, ReportContext, parameters_text

__all__ = ["DrawnFigure", "Report", "render", "write_report"]

_FIRST_OF_EXAMPLE = "readings"  # this figure and those after it show the example trial


class DrawnFigure(NamedTuple):
    """A figure that was written to a PNG file, with the width of the file in pixels."""

    figure: Figure
    width: int


class Report(NamedTuple):
    """The HTML file of a report, and the reason for each figure that could not be drawn, by its label."""

    path: Path
    missing: dict[str, str]


def write_report(results: StudyResults, folder: Path) -> Report:
    """Draw all figures that the study has data for, and write the page.

    Files of an earlier report in the folder are replaced, or deleted if their figure cannot be drawn any more.
    """
    if folder.exists() and not folder.is_dir():
        raise UserError(f"a report is written to a folder; {folder} is a file")
    drawn: dict[str, DrawnFigure] = {}
    missing: dict[str, str] = {}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        context = ReportContext(results)
        with alt.data_transformers.enable("default", max_rows=None):
            for name, (_, draw) in FIGURES.items():
                path = folder / f"{name}.png"
                try:
                    figure = draw(context)
                    save_chart(figure.chart, path)
                    drawn[name] = DrawnFigure(figure, int.from_bytes(path.read_bytes()[16:20], "big"))  # PNG header
                except MissingDataError as reason:
                    missing[name] = str(reason)
                    path.unlink(missing_ok=True)
        page = folder / "index.html"
        with atomic_path(page) as draft:
            draft.write_text(render(context, drawn, missing), encoding="utf-8")
    except OSError as error:
        raise UserError(f"cannot write {folder}: {error.strerror or error}") from None
    return Report(page, {FIGURES[name][0]: reason for name, reason in missing.items()})


def render(context: ReportContext, drawn: Mapping[str, DrawnFigure], missing: Mapping[str, str]) -> str:
    """Return the page as HTML, from the figures and the reasons for missing ones, by the name of their file.

    The template escapes all values.
    """
    names = list(FIGURES)
    has_example = any(name in drawn for name in names[names.index(_FIRST_OF_EXAMPLE) :])
    loader = PackageLoader("study", "report")
    environment = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.get_template("page.html.j2").render(
        name=context.spec.name,
        facts=_facts(context),
        sections=_sections(context),
        failures=_failures(context.table),
        labels={name: label for name, (label, _) in FIGURES.items()},
        drawn=drawn,
        missing=missing,
        pixel_ratio=PIXEL_RATIO,
        first_of_example=_FIRST_OF_EXAMPLE,
        example=_example(context) if has_example else None,
        runs=_runs(context.results.runs),
    )


def _facts(context: ReportContext) -> dict[str, str]:
    spec, states = context.spec, context.table["state"].value_counts()
    counts = [f"{states[state]} {state}" for state in STATES if states.get(state, 0)]
    objectives = [
        f"{objective_label(name)}, {'lower' if mode == 'min' else 'higher'} is better"
        for name, mode in spec.objectives.items()
    ]
    first, last = spec.seeds[0], spec.seeds[-1]
    seeds = f"seeds {first} to {last}" if last > first else f"seed {first}"
    return {
        "trials": f"{', '.join(counts) or 'none yet'}, of {context.results.target}",
        "replicates": f"{spec.replicates} of each trial, {seeds}",
        "objectives": "; ".join(objectives),
    }


def _sections(context: ReportContext) -> dict[str, str]:
    """Return some sections of the spec, each as one line of YAML."""
    sections = context.spec.model_dump(mode="json", include={"data", "views", "train"})
    if sections["views"].get("scheme") != "augment":
        sections["views"].pop("augment", None)
    style: dict[str, Any] = {"default_flow_style": True, "sort_keys": False, "width": 10_000, "allow_unicode": True}
    return {label: str(yaml.safe_dump(values, **style)).strip() for label, values in sections.items()}


def _failures(table: pd.DataFrame) -> dict[int, str]:
    """Return the first line of each failed trial's error."""
    failed = table[table["state"] == "failed"]
    errors = [error.strip() if isinstance(error, str) else "" for error in failed["error"]]
    return {
        int(trial): (error or "unknown reason").splitlines()[0]
        for trial, error in zip(failed["trial"], errors, strict=True)
    }


def _example(context: ReportContext) -> dict[str, Any]:
    row = context.example
    values = {name: row.get(f"config/{name}") for name in context.spec.space}
    configuration = parameters_text(context.spec, {name: value for name, value in values.items() if pd.notna(value)})
    metric = objective_label(context.example_metric)
    return {"trial": context.trial, "metric": metric, "seed": context.seed, "configuration": configuration}


def _runs(runs: Mapping[int, Mapping[str, Any]]) -> list[dict[str, str]]:
    """Return number, times, machine, commit and versions of each run, by the headings of the table."""
    rows = []
    for number, run in sorted(runs.items()):
        versions = run.get("versions")
        packages = {"python": run.get("python"), **(versions if isinstance(versions, Mapping) else {})}
        rows.append(
            {
                "run": str(number),
                "started (UTC)": str(run.get("started", ""))[:16].replace("T", " "),
                "finished": str(run.get("finished") or "")[:16].replace("T", " ") or "–",
                "machine": str(run.get("machine", "–")),
                "commit": str(run.get("commit", "–")),
                "versions": ", ".join(f"{package} {version}" for package, version in packages.items() if version),
            }
        )
    return rows
