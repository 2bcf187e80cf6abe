"""How all pictures look: colours, and a light frame around what is shown."""

from typing import Any

import pandas as pd
from altair.typing import ChartType

from study.formatting import objective_label
from study.spec import Parameter, Scalar, Spec

__all__ = [
    "BLUE",
    "COLOURS",
    "GREY",
    "INK",
    "MOST_POINTS",
    "ORANGE",
    "PALE",
    "RED",
    "WIDTH",
    "factor_label",
    "factor_value",
    "metric_lines",
    "parameter_label",
    "parameter_meaning",
    "sample_of",
    "sample_sentence",
    "styled",
    "value_label",
]

WIDTH = 760
"""Of a picture that fills the column of the page, pixels."""

INK = "#30638e"
# These are seen on white and on black.
BLUE, ORANGE, RED, PALE, GREY = "#3d7ea6", "#e09f3e", "#d1495b", "#8d99ae", "#808080"
COLOURS = {"private": INK, "shared": ORANGE, "both": PALE}
_TEXT, _LINES = "#333333", "#dddddd"


def styled(chart: ChartType) -> ChartType:
    """The same chart in the style of the page; for whole pictures only."""
    axis: dict[str, Any] = {"labelColor": _TEXT, "titleColor": _TEXT, "titleFontWeight": "normal"}
    header: dict[str, Any] = {"color": _TEXT, "subtitleColor": "#666666", "fontSize": 12, "subtitleFontSize": 11}
    in_style: ChartType = (
        chart.configure(font="Helvetica, Arial, sans-serif", background="white", padding=8)
        .configure_view(stroke=_LINES)
        .configure_axis(gridColor="#eeeeee", domainColor=_LINES, tickColor=_LINES, titleFontSize=11, **axis)
        .configure_title(fontWeight="bold", anchor="start", **header)
        .configure_legend(titleFontWeight="normal", titleColor=_TEXT, labelColor=_TEXT)
    )
    return in_style


_KL = {
    "alpha": ("α", "weight of the index-code mutual information"),
    "beta": ("β", "weight of the total correlation"),
    "gamma": ("γ", "weight of the dimension-wise KL"),
}
_PARAMETERS = {
    **{
        f"loss.{subspace}.{name}": (f"{symbol} {subspace}", meaning)
        for subspace in ("private", "shared")
        for name, (symbol, meaning) in _KL.items()
    },
    "loss.reconstruction": ("reconstruction", "weight of the squared error"),
    "latent.private": ("private latents", "how many"),
    "latent.shared": ("shared latents", "how many"),
    "latent.fusion": ("fusion", "of the two views' shared latents"),
    "contrast.strategy": ("contrastive strategy", ""),
    "contrast.private": ("private contrast", "weight of the contrast"),
    "contrast.shared": ("shared contrast", "weight of the contrast"),
    "contrast.temperature": ("temperature", "of the contrast"),
    "optimiser.learning_rate": ("learning rate", ""),
}
_UNITS = {"frequency": "Hz", "amplitude": "1 is full scale"}


def parameter_label(name: str) -> str:
    """A short name of a parameter of the space."""
    return _PARAMETERS[name][0] if name in _PARAMETERS else name.replace(".", " ").replace("_", " ")


def parameter_meaning(name: str) -> str:
    """What the short name does not say; a blank where it says all, so that headings have the same height."""
    return (_PARAMETERS[name][1] if name in _PARAMETERS else "") or " "


def metric_lines(spec: Spec, name: str) -> list[str]:
    """A metric with its unit, and on a second line which way is better where it is an objective."""
    better = {"min": ["lower is better"], "max": ["higher is better"]}
    return [objective_label(name), *better.get(spec.objectives.get(name, ""), [])]


def factor_label(name: str) -> str:
    """A factor with its unit."""
    return f"{name} ({_UNITS[name]})" if name in _UNITS else name


def factor_value(name: str, value: Scalar) -> str:
    """A factor's value as it is read: with its unit, else with the factor's name unless it is a word."""
    if isinstance(value, str):
        return value
    unit = _UNITS.get(name, "")
    return f"{value:.4g} {unit}" if unit == "Hz" else f"{name} {value:.4g}"


def value_label(parameter: Parameter, value: Scalar) -> str:
    """A value as it is written in the spec; a table with gaps gives the choice 8 back as 8.0."""
    found = next((choice for choice in parameter.choice or () if choice == value), value)
    if isinstance(found, bool):
        return str(found).lower()
    return f"{found:g}" if isinstance(found, float) else str(found)


MOST_POINTS = 2000
"""More points hide one another, and a browser is slow to draw them."""


def sample_of(rows: pd.DataFrame, keep: pd.Series | None = None) -> pd.DataFrame:
    """All rows, or of many those to keep and a random sample of the others, the same each time, in their order."""
    if len(rows) <= MOST_POINTS:
        return rows
    kept = rows.index[:0] if keep is None else rows.index[keep]
    others = rows.drop(kept)
    drawn = others.sample(max(0, min(MOST_POINTS - len(kept), len(others))), random_state=0)
    return rows.loc[rows.index.isin(kept.union(drawn.index))]


def sample_sentence(count: int) -> str:
    """What a chart says of so many trials; nothing where all are drawn."""
    return "" if count <= MOST_POINTS else f" Drawn are {MOST_POINTS:,} of {count:,}, a random sample."
