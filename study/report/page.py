"""The trade-off between the objectives."""

from collections.abc import Callable, Mapping
from html import escape
from pathlib import Path
from typing import Any, NamedTuple

import altair as alt
import pandas as pd
import yaml

from study.analysis import STATES, StudyResults
from study.charts.mutual_information import information_picture
from study.charts.probes import accuracy_picture
from study.charts.style import parameter_label, styled, value_label
from study.charts.sweep_panels import categories_picture, curves_picture
from study.charts.trade_off import PIXEL_RATIO, save_chart, trade_off_chart, trade_off_data
from study.charts.umap import maps_picture
from study.errors import UserError
from study.formatting import objective_label
from study.report.context import Material, MissingError, Picture

__all__ = ["PICTURES", "Drawn", "Page", "render", "trade_off_picture", "write_report"]


def trade_off_picture(material: Material) -> Picture:
    """The plot of `marl-study plot`."""
    if (trade_off_data(material.results)["trial"] < 0).all():
        raise MissingError("no trial has values of both objectives yet")
    return Picture(
        title="Trade-off",
        caption=(
            f"Each point is a trial, a mean over replicates, and {material.spread}. The dashed line is the front: the "
            "complete trials, by their numbers, that no other beats in both objectives."
        ),
        chart=trade_off_chart(material.results),
    )


PICTURES: Mapping[str, tuple[str, Callable[[Material], Picture]]] = {
    "trade-off": ("the trade-off", trade_off_picture),
    "curves": ("objectives by parameter", curves_picture),
    "categories": ("objectives by choice", categories_picture),
    "accuracy": ("accuracy by subspace", accuracy_picture),
    "information": ("mutual information", information_picture),
    "maps": ("maps of the subspaces", maps_picture),
}
"""By name of the file: what the picture is called where it is missing, and what draws it. The page keeps this order."""

_OF_ONE_TRIAL = "accuracy"  # from here on pictures show the chosen trial


class Drawn(NamedTuple):
    """A picture in the folder.

    Attributes:
        picture: what was drawn.
        width: of the file, pixels.
    """

    picture: Picture
    width: int


class Page(NamedTuple):
    """What was written.

    Attributes:
        path: of the file to open.
        missing: what could not be drawn, and why.
    """

    path: Path
    missing: dict[str, str]


def write_report(results: StudyResults, folder: Path) -> Page:
    """Draw every picture that the study allows, and write the page.

    Files of these names that are in the folder are replaced, and removed where a picture is missing now.

    Raises:
        UserError: when the folder cannot be made or written.
    """
    if folder.exists() and not folder.is_dir():
        raise UserError(f"a report is written into a folder; {folder} is a file")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        material = Material(results)
        drawn: dict[str, Drawn] = {}
        missing: dict[str, str] = {}
        with alt.data_transformers.enable("default", max_rows=None):
            for name, (_, draw) in PICTURES.items():
                path = folder / f"{name}.png"
                try:
                    picture = draw(material)
                    save_chart(styled(picture.chart), path)
                    drawn[name] = Drawn(picture, _png_width(path))
                except MissingError as reason:
                    missing[name] = str(reason)
                    path.unlink(missing_ok=True)
        page = folder / "index.html"
        page.write_text(render(material, drawn, missing), encoding="utf-8")
    except OSError as error:
        raise UserError(f"cannot write {folder}: {error.strerror or error}") from None
    return Page(page, {PICTURES[name][0]: reason for name, reason in missing.items()})


def render(material: Material, drawn: Mapping[str, Drawn], missing: Mapping[str, str]) -> str:
    """The page as HTML; whatever comes from the store is escaped.

    Args:
        material: the study.
        drawn: pictures by name of their file.
        missing: why the others are not there.
    """
    name = escape(material.spec.name)
    parts = [f"<h1>{name}</h1>", _facts(material), _failures(material)]
    number = 0
    for file, (label, _) in PICTURES.items():
        if file == _OF_ONE_TRIAL and any(one in drawn for one in list(PICTURES)[list(PICTURES).index(file) :]):
            parts.append(_chosen(material))
        if file in drawn:
            number += 1
            parts.append(_figure(number, file, drawn[file]))
        else:
            reason = missing.get(file, "it was not asked for")
            parts.append(f'<p class="missing">Not drawn: {escape(label)}, because {escape(reason)}.</p>')
    parts.append(_runs(material.results.runs))
    body = "\n".join(part for part in parts if part)
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Study {name}</title>
<style>{_STYLE}</style>
</head>
<body>
<main>
{body}
</main>
</body>
</html>
"""


def _facts(material: Material) -> str:
    spec, states = material.spec, material.table["state"].value_counts()
    counts = [f"{states[state]} {state}" for state in STATES if states.get(state, 0)]
    objectives = [
        f"{objective_label(name)}, {'lower' if mode == 'min' else 'higher'} is better"
        for name, mode in spec.objectives.items()
    ]
    facts = {
        "trials": f"{', '.join(counts) or 'none yet'}, of {material.results.target}",
        "replicates": f"{spec.replicates} of each trial, seeds 0 to {spec.replicates - 1}"
        if spec.replicates > 1
        else "1 of each trial, seed 0",
        "objectives": "; ".join(objectives),
    }
    sections = spec.model_dump(mode="json", include={"data", "views", "train"})
    if sections["views"].get("scheme") != "augment":
        sections["views"].pop("augment", None)
    rows = [f"<dt>{label}</dt><dd>{escape(text)}</dd>" for label, text in facts.items()]
    rows += [f"<dt>{label}</dt><dd><code>{escape(_flow(values))}</code></dd>" for label, values in sections.items()]
    return f"<dl>{''.join(rows)}</dl>"


def _failures(material: Material) -> str:
    failed = material.table[material.table["state"] == "failed"]
    if failed.empty:
        return ""
    items = [
        f"<li>trial {int(trial)}: {escape(_first_line(error))}</li>"
        for trial, error in zip(failed["trial"], failed["error"], strict=True)
    ]
    count = f"{len(items)} failed trials are" if len(items) > 1 else "1 failed trial is"
    return f"<details><summary>{count} in no picture</summary><ul>{''.join(items)}</ul></details>"


def _chosen(material: Material) -> str:
    by, row = objective_label(material.chosen_by), material.chosen
    values = [
        f"{parameter_label(name)} {value_label(parameter, row[f'config/{name}'])}"
        for name, parameter in material.spec.space.items()
        if pd.notna(row.get(f"config/{name}"))
    ]
    return (
        f"<h2>Trial {int(row['trial'])}</h2>"
        f"<p>The pictures below show one trial: of the front, the one that is best in {escape(by)}. Latents are those "
        f"of its replicate with seed {material.seed}. Its configuration: {escape(', '.join(values))}.</p>"
    )


def _figure(number: int, file: str, drawn: Drawn) -> str:
    picture = drawn.picture
    note = f' <span class="note">{escape(picture.note)}</span>' if picture.note else ""
    return (
        f"<figure>\n<h2>{escape(picture.title)}</h2>\n"
        f'<img src="{file}.png" width="{drawn.width // PIXEL_RATIO}" alt="{escape(picture.title)}">\n'
        f"<figcaption><b>Figure {number}.</b> {escape(picture.caption)}{note}</figcaption>\n</figure>"
    )


def _runs(runs: Mapping[int, Mapping[str, Any]]) -> str:
    """Who computed it: each run with its commit, where the store has it, and versions."""
    if not runs:
        return ""
    rows = []
    for number, run in sorted(runs.items()):
        versions = run.get("versions")
        known = {"python": run.get("python"), **(versions if isinstance(versions, Mapping) else {})}
        cells = [
            number,
            str(run.get("started", ""))[:16].replace("T", " "),
            str(run.get("finished") or "")[:16].replace("T", " ") or "–",
            run.get("machine", "–"),
            run.get("commit", "–"),
            ", ".join(f"{package} {version}" for package, version in known.items() if version),
        ]
        rows.append("<tr>" + "".join(f"<td>{escape(str(cell))}</td>" for cell in cells) + "</tr>")
    head = "".join(
        f"<th>{label}</th>" for label in ("run", "started (UTC)", "finished", "machine", "commit", "versions")
    )
    return f"<h2>Runs</h2>\n<table><tr>{head}</tr>{''.join(rows)}</table>"


def _png_width(path: Path) -> int:
    """From the header that every PNG begins with: eight bytes, then length, name and content of its first chunk."""
    return int.from_bytes(path.read_bytes()[16:20], "big")


def _flow(values: Mapping[str, Any]) -> str:
    """A section as one line of a spec."""
    style: dict[str, Any] = {"default_flow_style": True, "sort_keys": False, "width": 10_000, "allow_unicode": True}
    return str(yaml.safe_dump(dict(values), **style)).strip()


def _first_line(error: Any) -> str:
    lines = str(error).strip().splitlines() if isinstance(error, str) else []
    return lines[0] if lines else "no reason is known"


_STYLE = """
:root { color-scheme: light; }
body { margin: 0; background: #f6f6f4; color: #2b2b2b; font: 16px/1.55 Helvetica, Arial, sans-serif; }
main { max-width: 860px; margin: 0 auto; padding: 2.5rem 1.25rem 4rem; }
h1 { font-size: 1.9rem; margin: 0 0 1rem; overflow-wrap: anywhere; }
h2 { font-size: 1.15rem; margin: 0 0 .75rem; }
main > h2 { margin-top: 2.5rem; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .25rem 1.25rem; margin: 0 0 1rem; }
dt { color: #6b6b6b; }
dd { margin: 0; overflow-wrap: anywhere; }
code { font: .85em/1.5 ui-monospace, Menlo, Consolas, monospace; }
figure { margin: 1.75rem 0; padding: 1.25rem 1.5rem; background: #fff; border: 1px solid #e4e4e0; border-radius: 6px; }
figure img { display: block; max-width: 100%; height: auto; margin: 0 auto; }
figcaption { margin-top: .75rem; padding-top: .75rem; border-top: 1px solid #eeeeea; font-size: .92rem; color: #444; }
.note { color: #6b6b6b; }
.missing { margin: 1rem 0; padding: .6rem 1rem; background: #efefeb; border-left: 4px solid #c9c9c2; }
details { margin: 0 0 1rem; }
table { border-collapse: collapse; font-size: .82rem; }
th, td { text-align: left; vertical-align: top; padding: .35rem .75rem .35rem 0; border-bottom: 1px solid #e4e4e0; }
th { font-weight: normal; color: #6b6b6b; }
"""
