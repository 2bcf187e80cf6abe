"""Draw the pictures of docs/metrics.md: each metric on latents or sounds with known properties.

    python -m docs.pictures.metrics [NAME...]

draws everything in two minutes on one core, or only the named pictures. A line is the mean over draws; its band covers
their range.
"""

import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import altair as alt
import pandas as pd
import torch
from altair.typing import ChartType
from PIL import Image

from docs.pictures.known import (
    ACROSS,
    BLUR,
    BURSTS,
    COPIED,
    KNOWN,
    LEVEL,
    MORE_CLIPS,
    ROUGH,
    Columns,
    Panel,
    dci_columns,
    information_by_clips,
    log_mel_errors,
    measured,
    waveform_errors,
)
from marl.data.syntone import TIMBRES
from study.charts.style import COLOURS, save_chart

BLUE, RED, GREEN, ORANGE, GREY = "#30638e", "#d1495b", "#6a994e", "#e09f3e", "#8d99ae"
FULL, DASHED, DOTTED = (1, 0), (6, 3), (2, 2)


class Line(NamedTuple):
    """Label and style of a column in a picture."""

    label: str
    colour: str
    dash: Sequence[float] = FULL


class Picture(NamedTuple):
    """Panels with a shared y axis. Limits default to the range of the data."""

    lines: Mapping[str, Line]
    numbers: Callable[[Panel], Columns]
    panels: Sequence[Panel]
    title: str
    limits: tuple[float, float] | None = (0.0, 1.0)
    legend_columns: int = 4


def _lines(prefix: str, dashes: Sequence[Sequence[float]] = (FULL,) * 4, **colours: str) -> Mapping[str, Line]:
    """Return lines whose label is the name of the column without its prefix."""
    return {
        f"{prefix}/{name}": Line(name, colour, dash)
        for (name, colour), dash in zip(colours.items(), dashes, strict=False)
    }


def _blocks(name: str) -> Picture:
    lines = {f"disentanglement/{name}": Line("all", GREY)}
    lines |= {f"disentanglement/{name}/{part}": Line(part, COLOURS[part]) for part in ("private", "shared")}
    return Picture(lines, measured("single_latents"), KNOWN, name)


def _single(name: str, metric_group: str) -> Picture:
    return Picture(_lines("disentanglement", **{name: BLUE}), measured(metric_group), KNOWN, name)


_LOG_MEL = partial(Picture, numbers=log_mel_errors, panels=(LEVEL, BLUR, BURSTS), limits=None)
_READ = measured("information", "linear_information")
_READERS = {
    f"{kind}/frequency/{subspace}": Line(f"{subspace}, {label}", COLOURS[subspace], dash)
    for kind, label, dash in (("information", "strong", FULL), ("probe", "lightweight", DASHED))
    for subspace in ("private", "shared")
}
_NMI = {
    f"{kind}/frequency/{block}": Line(f"{block}{label}", COLOURS[block], dash)
    for kind, label, dash in (("nmi", "", FULL), ("corrected_nmi", ", corrected", DASHED))
    for block in ("private", "shared")
}
_LEAKAGE = {
    "leakage/frequency": Line("frequency in shared, strong reader", BLUE),
    "linear_leakage/frequency": Line("linear reader", BLUE, DASHED),
    "leakage/timbre": Line("timbre in private, strong reader", ORANGE),
    "linear_leakage/timbre": Line("linear reader ", ORANGE, DASHED),
}
_DISTANCES = _lines("fidelity", (FULL, DASHED), log_mel_rmse_db=BLUE, log_spectral_distance_db=RED)
_TIMBRES = _lines("fidelity/log_mel_rmse_db/timbre", **dict(zip(TIMBRES, (BLUE, RED, GREEN, ORANGE), strict=True)))
_STFT = {"stft_error": BLUE, "spectral_convergence": RED, "stft_error/floor": GREY}
_SEPARATIONS = {
    "disentanglement/separation": Line("strong reader", BLUE),
    "disentanglement/linear_separation": Line("linear reader", RED, DASHED),
}
_DCI = _lines("disentanglement", dci=BLUE, dci_completeness=RED, dci_informativeness=GREEN)

PICTURES: Mapping[str, Picture] = {
    "log_mel": _LOG_MEL(_DISTANCES, title="dB"),
    "by_class": _LOG_MEL(_TIMBRES, title="log_mel_rmse_db"),
    "stft_error": Picture(
        _lines("fidelity", (FULL, FULL, DOTTED), **_STFT), waveform_errors, (LEVEL, BLUR, ROUGH), "error", limits=None
    ),
    "probe": Picture(
        _READERS, measured("information", "probes"), KNOWN, "information, accuracy", (-0.02, 1.0), legend_columns=3
    ),
    "separation": Picture(_SEPARATIONS, _READ, KNOWN, "separation"),
    "leakage": Picture(_LEAKAGE, _READ, (ACROSS, COPIED), "leakage", (-0.02, 0.8), legend_columns=2),
    "nmi": Picture(_NMI, measured("single_latents"), KNOWN, "nmi of the frequency"),
    "clips": Picture(_NMI, information_by_clips, (MORE_CLIPS,), "nmi of the frequency", limits=None),
    "mig": _blocks("mig"),
    "modularity": _single("modularity", "single_latents"),
    "jemmig": _blocks("jemmig"),
    "dcimig": _blocks("dcimig"),
    "sap": _single("sap", "sap"),
    "explicitness": _single("explicitness", "explicitness"),
    "factor_vae": _single("factor_vae", "fixed_factors"),
    "beta_vae": _single("beta_vae", "fixed_factors"),
    "dci": Picture(_DCI, dci_columns, tuple(panel._replace(points=panel.ticks) for panel in KNOWN), "dci"),
}


def rows_of(picture: Picture, panel: Panel) -> pd.DataFrame:
    """Return a row for each point of each line, with the mean, minimum and maximum over draws."""
    columns, parts = picture.numbers(panel), []
    for name, line in picture.lines.items():
        value_PR = columns[name].to(torch.float64).view(len(panel.points), -1)
        numbers = {"mean": value_PR.mean(dim=1), "low": value_PR.amin(dim=1), "high": value_PR.amax(dim=1)}
        parts.append(pd.DataFrame({"x": panel.points, "line": line.label, **numbers}))
    return pd.concat(parts)


def chart_of(picture: Picture) -> ChartType:
    """Return the panels side by side."""
    tables = [rows_of(picture, panel) for panel in picture.panels]
    limits = picture.limits or (min(0, *(t["low"].min() for t in tables)), max(t["high"].max() for t in tables))
    labels, colours, dashes = zip(*picture.lines.values(), strict=True)
    font: dict[str, Any] = {"labelFontSize": 13, "titleFontSize": 13}
    stroke: dict[str, Any] = {"symbolType": "stroke", "symbolOpacity": 1, "symbolSize": 300}
    legend = alt.Legend(
        orient="top", title=None, columns=picture.legend_columns, labelFontSize=13, labelLimit=300, **stroke
    )
    shown = {"legend": legend if len(labels) > 1 else None}
    colour = alt.Color("line:N", scale=alt.Scale(domain=labels, range=colours), **shown)
    dash = alt.StrokeDash("line:N", scale=alt.Scale(domain=labels, range=dashes), **shown)
    charts = []
    for number, (panel, table) in enumerate(zip(picture.panels, tables, strict=True)):
        axis = alt.Axis(values=panel.ticks, labelExpr="datum.value", **font)
        x = alt.X("x:Q", title=panel.unit, scale=alt.Scale(type=panel.scale), axis=axis)
        base = alt.Chart(table).encode(x=x, color=colour)
        y = partial(
            alt.Y,
            scale=alt.Scale(domain=limits),
            title="" if number else picture.title,
            axis=alt.Axis(tickCount=5, **font),
        )
        band = base.mark_area(opacity=0.2).encode(y=y("low:Q"), y2="high:Q")
        line = base.mark_line(strokeWidth=2.5).encode(y=y("mean:Q"), strokeDash=dash)
        title = alt.Title(panel.title, fontSize=13, fontWeight="normal", anchor="middle")
        charts.append(alt.layer(band, line).properties(width=510 / len(picture.panels), height=150, title=title))
    return alt.hconcat(*charts, spacing=8).resolve_scale(color="shared", strokeDash="shared")


def main(names: Sequence[str]) -> None:
    """Draw pictures beside this file."""
    for name in names or PICTURES:
        path = Path(__file__).with_name(f"{name}.png")
        save_chart(chart_of(PICTURES[name]), path)
        # A palette makes the file ten times smaller.
        Image.open(path).convert("RGB").quantize(64).save(path, optimize=True)


if __name__ == "__main__":
    torch.set_num_threads(1)  # numbers that do not depend on how many there are
    main(sys.argv[1:])
