"""What each number of the search space does to the objectives."""

import altair as alt
import pandas as pd
from altair.typing import ChartType

from study.analysis.parameter_effects import Sweep, find_sweep, is_numeric
from study.charts.points import domain_of, independent, panel, points_data
from study.charts.style import GREY, WIDTH, metric_lines, parameter_label, parameter_meaning, value_label
from study.charts.trade_off import compared_metrics
from study.report.context import Material, MissingError, Picture
from study.spec import Spec

__all__ = [
    "Panels",
    "categories_chart",
    "categories_data",
    "categories_picture",
    "curves_chart",
    "curves_data",
    "curves_picture",
    "reference_note",
]

Panels = dict[str, dict[str, pd.DataFrame]]
"""For each parameter and metric what `study.charts.points.points_data` gives."""

_MOST_IN_A_ROW = 3


def curves_picture(material: Material) -> Picture:
    """Each numeric parameter against each objective, with error bars."""
    spec = material.spec
    sweep = find_sweep(material.table, spec)
    panels = curves_data(sweep, spec)
    drawn = len({trial for parts in panels.values() for part in parts.values() for trial in part["trial"]})
    if sweep.reference is None:
        caption = (
            f"Each point is one of {drawn} complete trials, a mean over replicates, and {material.spread}. The "
            "other parameters differ between these trials too, and the scatter around a trend is what they do."
        )
    else:
        has_ring = any(name in sweep.reference for name in panels)
        others = "The other parameters stay at the reference, which is ringed" if has_ring else "Nothing else varies"
        caption = (
            f"Each panel has the complete trials that differ in one parameter alone, {drawn} in all, as means over "
            f"replicates; {material.spread}. {others}."
        )
    return Picture("What each parameter does", caption, curves_chart(panels, sweep, spec), reference_note(sweep, spec))


def curves_data(sweep: Sweep, spec: Spec) -> Panels:
    """What the panels show: numeric parameters with at least two values among the trials to draw.

    Raises:
        MissingError: when there is none.
    """
    panels = {
        name: {metric: points_data(sweep.trials[name], name, parameter, metric) for metric in compared_metrics(spec)}
        for name, parameter in spec.space.items()
        if is_numeric(parameter)
    }
    if not panels:
        raise MissingError("no parameter of the study is a number")
    panels = {
        name: parts for name, parts in panels.items() if max(part["value"].nunique() for part in parts.values()) > 1
    }
    if not panels:
        raise MissingError("no number of the search space has two values among the complete trials")
    return panels


def curves_chart(panels: Panels, sweep: Sweep, spec: Spec) -> ChartType:
    """Draw `curves_data`: a column for each parameter, its metrics below one another."""
    domains = {metric: domain_of([parts[metric] for parts in panels.values()]) for metric in compared_metrics(spec)}
    width = WIDTH // min(max(len(panels), 2), _MOST_IN_A_ROW) - 70
    columns: list[ChartType] = []
    for place, (name, parts) in enumerate(panels.items()):
        parameter = spec.space[name]
        reference = (sweep.reference or {}).get(name)
        rows = [
            panel(
                part,
                parameter,
                x_title=parameter_label(name) if metric == list(parts)[-1] else None,
                y_title=metric_lines(spec, metric) if place % _MOST_IN_A_ROW == 0 else None,
                domain=domain,
                size=(width, 150),
                is_line=sweep.reference is not None,
                reference=None if reference is None else value_label(parameter, reference),
            )
            for metric, part in parts.items()
            if (domain := domains[metric]) is not None and len(part)
        ]
        title = alt.Title(parameter_label(name), subtitle=parameter_meaning(name), subtitleColor=GREY)
        columns.append(independent(alt.vconcat(*rows, spacing=8, title=title)))
    chart: ChartType = alt.concat(*columns, columns=_MOST_IN_A_ROW, spacing=22)
    return independent(chart)


def reference_note(sweep: Sweep, spec: Spec) -> str:
    """The reference in words; empty where there is none."""
    if not sweep.reference:
        return ""
    values = [
        f"{parameter_label(name)} {value_label(spec.space[name], value)}" for name, value in sweep.reference.items()
    ]
    return f"Reference: {', '.join(values)}."


def categories_picture(material: Material) -> Picture:
    """Each categorical parameter against each objective, with error bars."""
    sweep = find_sweep(material.table, material.spec)
    panels = categories_data(sweep, material.spec)
    others = "differ between trials as well" if sweep.reference is None else "stay at the reference"
    return Picture(
        title="What each choice does",
        caption=(
            f"Each point is a complete trial, a mean over replicates, and {material.spread}. A black tick is the mean "
            f"over the trials of a choice; the other parameters {others}."
        ),
        chart=categories_chart(panels, material.spec),
        note=reference_note(sweep, material.spec),
    )


def categories_data(sweep: Sweep, spec: Spec) -> Panels:
    """What the panels show: categorical parameters with at least two values among the trials to draw.

    Raises:
        MissingError: when there is none.
    """
    panels = {
        name: {metric: points_data(sweep.trials[name], name, parameter, metric) for metric in compared_metrics(spec)}
        for name, parameter in spec.space.items()
        if not is_numeric(parameter)
    }
    if not panels:
        raise MissingError("every parameter of the study is a number")
    panels = {
        name: parts for name, parts in panels.items() if max(part["label"].nunique() for part in parts.values()) > 1
    }
    if not panels:
        raise MissingError("no categorical parameter has two values among the complete trials")
    return panels


def categories_chart(panels: Panels, spec: Spec) -> ChartType:
    """Draw `categories_data`: a row for each parameter, its metrics beside one another."""
    metrics = compared_metrics(spec)
    domains = {metric: domain_of([parts[metric] for parts in panels.values()]) for metric in metrics}
    width = WIDTH // max(len(metrics), 2) - 80
    rows = []
    for name, parts in panels.items():
        columns = [
            panel(
                part,
                spec.space[name],
                x_title=parameter_label(name),
                y_title=metric_lines(spec, metric),
                domain=domain,
                size=(width, 200),
                has_means=True,
            )
            for metric, part in parts.items()
            if (domain := domains[metric]) is not None and len(part)
        ]
        rows.append(independent(alt.hconcat(*columns, spacing=30)))
    return independent(alt.vconcat(*rows, spacing=24))
