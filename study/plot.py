"""Charts as files, and which metrics a chart of a study compares."""

from pathlib import Path

from altair.typing import ChartType

from study.errors import UserError
from study.spec import Spec

__all__ = ["PIXEL_RATIO", "compared_metrics", "save_chart"]

PIXEL_RATIO = 2
"""Pixels of a PNG file for each one of the chart."""

_FORMATS = (".html", ".png", ".svg")


def compared_metrics(spec: Spec) -> tuple[str, ...]:
    """The objectives of a study; that of a study of one is seen against fidelity, or else separation."""
    names = [*spec.objectives, "fidelity/log_mel_rmse_db", "disentanglement/separation"]
    return tuple(dict.fromkeys(names))[: max(2, len(spec.objectives))]


def save_chart(chart: ChartType, path: Path) -> None:
    """Write a chart as HTML that needs no network, PNG at twice the screen's resolution, or SVG.

    Raises:
        UserError: when the file's ending is none of these, or it cannot be written.
    """
    if path.suffix.lower() not in _FORMATS:
        raise UserError(f"a plot is written as {', '.join(_FORMATS)}; got {path.name!r}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix.lower() == ".html":
            chart.save(str(path), inline=True)
        else:
            chart.save(str(path), scale_factor=PIXEL_RATIO)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or error}") from None
