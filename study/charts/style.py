"""Colours, labels, error bars, downsampling and output files that all charts share."""

import copy
import math
from pathlib import Path
from typing import Any, Literal

import altair as alt
import pandas as pd
from altair.typing import ChartType

from study.analysis.aggregation import Spread
from study.errors import UserError
from study.formatting import objective_label
from study.local_files import atomic_path
from study.spec import Parameter, Scalar, Spec

WIDTH = 760
"""Width of a chart that fills the column of the report, in pixels."""

PIXEL_RATIO = 2
"""Pixels of a PNG file for each pixel of the chart."""

MAX_POINTS = 2000
"""Maximum number of points in a chart. More points hide one another and are slow in a browser."""

SUBSPACES = ("private", "shared")

BLUE, ORANGE, GREEN, MAGENTA, BROWN, NAVY = CATEGORIES = (
    "#0a78c2",
    "#c2500a",
    "#00574b",
    "#b5308a",
    "#4a2c00",
    "#1b2a41",
)
"""Colours that people with any colour vision can tell apart; each has a contrast of at least 4.5 with the page."""

RAMP = ("#1d1147", "#5a157e", "#96267f", "#bd3a62", "#c2521f")
"""Colours of numbers, from low to high, visible as points on the page."""

SHADES = ("#f4f7fb", "#c3d8ea", "#7fb0d6", "#2f7bb8", "#0b3a66")
"""Colours of cells that touch one another, from nothing to all."""

DIVERGING = (ORANGE, "#f0c9ab", SHADES[0], SHADES[1], BLUE)
"""Colours of cells with a sign, from minus one to one."""

LIGHT_TEXT = 0.6
"""Values of cells from which on their text has the colour of the page. It is a border of the five steps of cells."""

INK, TEXT, GREY, LINES = BLUE, "#262c36", "#5f6b7a", "#d9dee5"
"""Colours of plain marks, of text, of what is in the background, and of axes."""

ACCENT = "#5b3fd6"
"""Colour of what the user has selected. No category has it."""

SHAPES = ("circle", "square", "triangle-up", "cross", "diamond")
"""Shapes that tell categories of equal colours apart."""

COLOURS = dict(zip(SUBSPACES, (BLUE, ORANGE), strict=True))
FONT = "'Source Sans', 'Source Sans 3', Helvetica, Arial, sans-serif"
_GRID, _PAGE = "#eceff3", "white"
_DARK = dict(
    zip(
        (*CATEGORIES, *RAMP, *SHADES, DIVERGING[1], ACCENT, TEXT, GREY, LINES, _GRID, _PAGE),
        (
            *("#2a8fe6", "#ff7a3a", "#7cebc4", "#d95cb8", "#ffef99", "#f5f8ff"),
            *("#6f8cff", "#4cb3d9", "#63d6a4", "#c9e36b", "#fff3a6"),
            *("#171e2a", "#1f4368", "#286ba7", "#6fb3ea", "#dceefc"),
            "#5f3116",
            *("#c9c0ff", "#e6eaf0", "#9aa7b8", "#3b4554", "#262e3a", "#12161d"),
        ),
        strict=True,
    )
)
_CONFIG: dict[str, Any] = {
    "font": FONT,
    "background": _PAGE,
    "padding": 8,
    "view": {"stroke": LINES},
    "axis": {
        "gridColor": _GRID,
        "domainColor": LINES,
        "tickColor": LINES,
        "titleFontSize": 12,
        "labelFontSize": 11,
        "labelColor": TEXT,
        "titleColor": TEXT,
        "titleFontWeight": "normal",
    },
    "title": {
        "fontWeight": "bold",
        "anchor": "start",
        "color": TEXT,
        "subtitleColor": GREY,
        "fontSize": 13,
        "subtitleFontSize": 11,
    },
    "legend": {"titleFontWeight": "normal", "titleColor": TEXT, "labelColor": TEXT, "symbolOpacity": 1},
    "text": {"color": TEXT},
    "range": {"category": list(CATEGORIES), "ramp": list(RAMP), "heatmap": list(SHADES)},
}
_MAX_TICK_CHARACTERS = 18  # in all labels of an axis
_FORMATS = (".html", ".png", ".svg")

_PARAMETERS = {
    "loss.private.alpha": ("α private", "weight of the index-code mutual information"),
    "loss.private.beta": ("β private", "weight of the total correlation"),
    "loss.private.gamma": ("γ private", "weight of the dimension-wise KL"),
    "loss.shared.alpha": ("α shared", "weight of the index-code mutual information"),
    "loss.shared.beta": ("β shared", "weight of the total correlation"),
    "loss.shared.gamma": ("γ shared", "weight of the dimension-wise KL"),
    "loss.reconstruction": ("reconstruction", "weight of the squared error"),
    "latent.private": ("private latents", "number of dimensions"),
    "latent.shared": ("shared latents", "number of dimensions"),
    "latent.fusion": ("fusion", "of the two views' shared latents"),
    "contrast.strategy": ("contrastive strategy", ""),
    "contrast.private": ("private contrast", "weight of the contrastive loss"),
    "contrast.shared": ("shared contrast", "weight of the contrastive loss"),
    "contrast.temperature": ("temperature", "of the contrastive loss"),
    "independence.hsic": ("HSIC", "weight of the dependence between private and shared latents"),
    "independence.adversarial": ("adversary", "strength against a probe of the shared factors in private latents"),
    "independence.cross_covariance": ("cross-covariance", "weight of the correlation of private and shared latents"),
    "optimiser.learning_rate": ("learning rate", ""),
}
_UNITS = {"frequency": "Hz", "amplitude": "1 is full scale"}


class MissingDataError(Exception):
    """A chart has nothing to show; the message gives the reason."""


def styled(chart: ChartType) -> ChartType:
    """Return a whole chart in the style of the project, for a light page. Its parts are shared with the original."""
    configured = copy.copy(chart)
    # Altair's `configure_…` copy the whole chart each, and its attributes are properties of the chart.
    object.__setattr__(configured, "_kwds", {**chart._kwds, "config": _CONFIG})
    return configured


def vega_lite(chart: ChartType, is_dark: bool) -> dict[str, Any]:
    """Return a whole chart as a specification of Vega-Lite, for a light or a dark page. Its background is transparent.

    Charts are written with the colours of this module, which are meant for a light page. On a dark page each colour is
    replaced by its counterpart, which has the same meaning and the same contrast.
    """
    # Validation takes longer than all else; tests validate each kind of chart.
    content: dict[str, Any] = styled(chart).to_dict(validate=False)
    datasets = content.pop("datasets", {})
    content["config"] = {**_CONFIG, "background": "transparent"}
    return (_recoloured(content) if is_dark else content) | {"datasets": datasets}


def _recoloured(part: Any) -> Any:
    """Return a part of a specification with the colours of a dark page."""
    if isinstance(part, str):
        return _DARK.get(part, part)
    if isinstance(part, dict):
        return {name: _recoloured(value) for name, value in part.items()}
    if isinstance(part, list):
        return [_recoloured(value) for value in part]
    return part


def save_chart(chart: ChartType, path: Path) -> None:
    """Write a chart for a light page as self-contained HTML, as PNG at twice the screen's resolution, or as SVG."""
    suffix = path.suffix.lower()
    if suffix not in _FORMATS:
        raise UserError(f"a plot must be a file ending in {', '.join(_FORMATS)}; got {path.name!r}")
    # Altair does not derive the format from a suffix in capitals.
    options: dict[str, Any] = {"format": suffix.removeprefix(".")}
    options |= {"inline": True} if suffix == ".html" else {"scale_factor": PIXEL_RATIO}
    try:
        with atomic_path(path) as draft:
            styled(chart).save(str(draft), **options)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or error}") from None


def category_marks(count: int) -> tuple[list[str], list[str]]:
    """Return colours and shapes of categories; more categories than colours also differ in shape."""
    colours = [CATEGORIES[index % len(CATEGORIES)] for index in range(count)]
    return colours, [SHAPES[index // len(CATEGORIES) % len(SHAPES)] for index in range(count)]


def spread_text(replicates: int, spread: Spread) -> str:
    """Return what a point with its error bar shows: `mean with 90 % interval over 3 seeds`."""
    if replicates == 1:
        return "one seed each"
    return f"mean with {'standard deviation' if spread == 'sd' else '90 % interval'} over {replicates} seeds"


def error_bars(points: alt.Chart, axis: Literal["x", "y"] = "y", **style: Any) -> alt.Chart:
    """Draw a line from `low` to `high` of each point that has them."""
    rules: alt.Chart = points.transform_filter("isValid(datum.low)").mark_rule(**style)
    ends: dict[str, Any] = {axis: "low:Q", f"{axis}2": "high:Q"}
    return rules.encode(**ends)


def number_axis(values: pd.Series, is_log: bool, ticks: int, **style: Any) -> alt.Axis:
    """Return an axis of numbers. `ticks` is the approximate number of ticks; a logarithmic axis has round numbers."""
    round_numbers = _log_ticks(values) if is_log else []
    chosen: dict[str, Any] = {"values": round_numbers} if len(round_numbers) > 1 else {"tickCount": ticks}
    return alt.Axis(format=".4~g", **style, **chosen)


def parameter_label(name: str) -> str:
    """Return a short label of a parameter of the space."""
    return _PARAMETERS[name][0] if name in _PARAMETERS else name.replace(".", " ").replace("_", " ")


def parameter_description(name: str) -> str:
    """Return the meaning of a parameter beyond its label; a space if there is none, so that headings have two lines."""
    return _PARAMETERS.get(name, ("", ""))[1] or " "


def metric_lines(spec: Spec, name: str) -> list[str]:
    """Return the label of a metric, and on a second line the direction of an objective."""
    direction = {"min": ["lower is better"], "max": ["higher is better"]}
    return [objective_label(name), *direction.get(spec.objectives.get(name, ""), [])]


def metric_title(spec: Spec, name: str) -> str:
    """Return the label of a metric with its direction: `MIG (higher is better)`."""
    return f"{objective_label(name)} ({'lower' if spec.direction(name) == 'min' else 'higher'} is better)"


def cell_colours(is_signed: bool = False) -> alt.Scale:
    """Return the scale of cells from 0 to 1, or from -1 to 1, in five steps, so that text can be read on each."""
    return alt.Scale(type="quantize", domain=[-int(is_signed), 1], range=list(DIVERGING if is_signed else SHADES))


def cell_text_colour(field: str) -> Any:
    """Return the encoding of the colour of text on cells whose values are in a field."""
    return alt.condition(f"abs(datum.{field}) >= {LIGHT_TEXT}", alt.value(_PAGE), alt.value(TEXT))


def factor_label(name: str) -> str:
    """Return a factor's name with its unit."""
    return f"{name} ({_UNITS[name]})" if name in _UNITS else name


def factor_value_label(name: str, value: Scalar) -> str:
    """Return a factor's value with its unit, or with the name of the factor unless the value is a word."""
    if isinstance(value, str):
        return value
    return f"{value:.4g} Hz" if _UNITS.get(name) == "Hz" else f"{name} {value:.4g}"


def value_label(parameter: Parameter, value: Scalar) -> str:
    """Return a parameter's value as it is written in the spec: 8 if the table has 8.0."""
    typed = next((choice for choice in parameter.choice or () if choice == value), value)
    if isinstance(typed, bool):
        return str(typed).lower()
    return f"{typed:g}" if isinstance(typed, float) else str(typed)


def spans_decades(values: pd.Series) -> bool:
    """Return whether numbers need a logarithmic axis: all are positive, and they differ by a large factor."""
    present = values.dropna()
    return bool(len(present) and present.min() > 0 and present.max() / present.min() > 20)


def latent_columns(latents: pd.DataFrame, subspace: str) -> list[str]:
    """Return the columns of a subspace in a sample of latents, in the order of the model."""
    return [name for name in latents if str(name).startswith(f"{subspace}/")]


def downsample(rows: pd.DataFrame, keep: pd.Series | None = None) -> pd.DataFrame:
    """Return at most `MAX_POINTS` rows in their order: those to keep, and a fixed random sample of the others."""
    if len(rows) <= MAX_POINTS:
        return rows
    kept = rows.index[:0] if keep is None else rows.index[keep]
    others = rows.drop(kept)
    sampled = others.sample(max(0, min(MAX_POINTS - len(kept), len(others))), random_state=0)
    return rows.loc[rows.index.isin(kept.union(sampled.index))]


def downsample_note(count: int) -> str:
    """Return a sentence on downsampling for a caption; empty if all rows are drawn."""
    return "" if count <= MAX_POINTS else f" The chart shows a random sample of {MAX_POINTS:,} of {count:,}."


def _log_ticks(values: pd.Series) -> list[float]:
    """Return round numbers within the range of the values, as many in each decade as their labels have room."""
    low, high = float(values.min()), float(values.max())
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    ticks: list[float] = []
    for digits in ((1, 2, 5), (1, 3), (1,)):
        ticks = [tick for decade in decades for digit in digits if low <= (tick := digit * 10.0**decade) <= high]
        if sum(len(f"{tick:g}") for tick in ticks) <= _MAX_TICK_CHARACTERS:
            break
    return ticks
