"""The model card of an exported model, filled into the template `model_card.md.j2`."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from marl.data import KINDS, Dataset
from study.analysis import metric_columns
from study.spec import Spec

__all__ = ["ExportedModel", "model_card"]

# Longer names belong to metrics of single classes, which the card leaves out.
_MAX_NAME_PARTS = 3


class ExportedModel(NamedTuple):
    """A replicate of a trial to export.

    Attributes:
        metric: Metric that selected it among the trial's replicates.
        means: Row of the trial in the results.
    """

    trial: int
    seed: int
    metric: str
    scores: Mapping[str, float]
    means: Mapping[str, Any]


def model_card(spec: Spec, dataset: Dataset, model: ExportedModel, licence: str | None) -> str:
    """Return the model card as Markdown with the YAML header that model hubs read. HTML in values is escaped."""
    environment = Environment(
        loader=PackageLoader("study", "export"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["cell"] = _cell
    kind = KINDS[spec.data["kind"]]
    split, rules = spec.data.get("split", "clip"), {"clip": "Clips were assigned to splits one by one."}
    rules |= {unit: f"No {unit} is in two splits." for unit in ("group", "combination")}
    private = [factor.name for factor in dataset.factors if factor.name not in spec.shared_factors]
    return environment.get_template("model_card.md.j2").render(
        spec=spec,
        model=model,
        licence=licence,
        shared=" and ".join(spec.shared_factors),
        private=" and ".join(private),
        data=f"{kind.description[0].upper()}{kind.description[1:]}",
        reference=Markup(kind.reference or ""),  # noqa: S704  # BibTeX of this package
        clips=len(dataset.value_NC),
        splits=", ".join(f"{len(clips):,} for {name}" for name, clips in dataset.splits.items()),
        split_rule=rules.get(split, f"No two splits share a {split}."),
        factors=dataset.factors,
        settings={name: value for name, value in spec.data.items() if name != "path"},
        metrics=_metrics(model),
    )


def _metrics(model: ExportedModel) -> list[dict[str, str]]:
    """Return name, score, mean and interval of each metric."""
    rows = []
    for name in metric_columns(pd.DataFrame([model.scores])):
        if name.count("/") >= _MAX_NAME_PARTS:
            continue
        mean, half_width = (float(model.means.get(column, float("nan"))) for column in (name, f"{name}/ci"))
        rows.append({"name": name, "score": f"{model.scores[name]:.4f}"})
        rows[-1]["mean"] = "–" if pd.isna(mean) else f"{mean:.4f}"
        rows[-1]["interval"] = "–" if pd.isna(half_width) else f"{mean - half_width:.4f} to {mean + half_width:.4f}"
    return rows


def _cell(value: Any) -> str:
    """Return a value as text for a cell of a Markdown table."""
    if isinstance(value, list | tuple):
        return ", ".join(map(_cell, value))
    if isinstance(value, float):
        return "–" if pd.isna(value) else f"{value:.4g}"
    return "–" if value is None else str(value).replace("|", "\\|").replace("\n", " ")
