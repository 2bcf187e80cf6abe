"""What each choice that is no number does to the objectives, such as the contrastive strategy."""

import altair as alt
from altair.typing import ChartType

from study.labels import metric_lines, parameter_label
from study.plot import compared_metrics
from study.report.curves import Panels, reference_note
from study.report.material import Material, MissingError, Picture
from study.report.points import domain_of, independent, panel, points_data
from study.report.style import WIDTH
from study.report.sweeps import Sweep, is_numeric, sweep_of
from study.spec import Spec

__all__ = ["categories_chart", "categories_data", "categories_picture"]


def categories_picture(material: Material) -> Picture:
    """Each categorical parameter against each objective, with error bars."""
    sweep = sweep_of(material.table, material.spec)
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
