"""Draws the pictures of docs/metrics.md: what each metric says of latents and of sounds that are known.

Latents are made up: six, of which four are private. Latent 0 is the frequency, 1 the amplitude, 4, which is shared, the
timbre; the others are normal noise. All have a standard deviation of one before two are mixed or noise is added. The
numbers come from the code that measures models, under the names of the columns that it stores. A line is the mean over
draws, its band goes from their smallest to their largest value.

`python docs/pictures/metrics.py` draws everything, in two minutes on one core; with names of pictures, only these.

K is models, one for each point and draw, N clips, C factors, D latents, F mel bands, T frames.
"""

import math
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal, NamedTuple

import altair as alt
import pandas as pd
import torch
from altair.typing import ChartType
from PIL import Image
from torch import Tensor

from marl.audio import AudioConfig, LogMel
from marl.data.syntone import TIMBRES, synthesise
from marl.evaluation import METRIC_GROUPS
from marl.evaluation.context import EvaluationContext
from marl.evaluation.post_training import POST_TRAINING
from marl.metrics.fidelity import spectral_distance, waveform_fidelity
from marl.metrics.separation import chance_corrected
from study.charts.style import COLOURS, save_chart, styled

FACTORS = {"timbre": 4, "frequency": 20, "amplitude": 10}
PRIVATE, LATENTS = 4, 6
FREQUENCY, AMPLITUDE, TIMBRE, UNUSED = 0, 1, 4, 5
CLIPS, DRAWS = 2048, 3
BLUE, RED, GREEN, ORANGE, GREY = "#30638e", "#d1495b", "#6a994e", "#e09f3e", "#8d99ae"
FULL, DASHED, DOTTED = (1, 0), (6, 3), (2, 2)

Columns = Mapping[str, Tensor]
"""Numbers by column; draw after draw of the first point, then of the second, and so on."""


class Panel(NamedTuple):
    """One of the pictures side by side: what varies along its x axis; or with which latent the frequency is mixed."""

    title: str
    unit: str
    points: tuple[float, ...]
    ticks: tuple[float, ...]
    scale: Literal["linear", "log", "sqrt"] = "linear"
    partner: int | None = None


class Line(NamedTuple):
    """What a column is called in a picture, and how it is drawn."""

    label: str
    colour: str
    dash: Sequence[float] = FULL


class Picture(NamedTuple):
    """Draw panels with a shared y axis. Limits default to the range of the data."""

    lines: Mapping[str, Line]
    numbers: Callable[[Panel], Columns]
    panels: Sequence[Panel]
    title: str
    limits: tuple[float, float] | None = (0.0, 1.0)
    labels_a_row: int = 4


_MIXED = ("degrees", (0, 7.5, 15, 22.5, 30, 37.5, 44, 45), (0, 15, 30, 45))
WITHIN = Panel("frequency mixed with amplitude", *_MIXED, partner=AMPLITUDE)
ACROSS = Panel("frequency mixed with timbre", *_MIXED, partner=TIMBRE)
NOISY = Panel(
    "noise on all", "standard deviations", (0, 0.03, 0.1, 0.2, 0.4, 0.6, 1, 1.4, 2), (0, 0.1, 0.4, 1, 2), "sqrt"
)
KNOWN = (WITHIN, ACROSS, NOISY)
_COPIES = (0.1, 0.3, 1, 3, 10)
COPIED = Panel("noisy copy of the frequency in shared", "standard deviations of its noise", _COPIES, _COPIES, "log")
_CLIPS = (100, 200, 500, 1000, 2000, 5000, 10000)
MORE_CLIPS = Panel("noise of one standard deviation", "clips", _CLIPS, _CLIPS, "log")
LEVEL = Panel("too loud", "dB", (-12, -9, -6, -3, 0, 3, 6), (-12, -6, 0, 6))
BLUR = Panel("blurred", "mel bands", (0, 0.5, 1, 2, 4), (0, 1, 2, 4))
ROUGH = Panel("noisy", "dB", (0, 1, 2, 4, 8), (0, 2, 4, 8))
BURSTS = Panel("8 dB of noise in some frames", "share of frames", (0, 0.125, 0.25, 0.5, 1), (0, 0.5, 1))


@dataclass
class _Models:
    """What measures of latents ask of models, beside what these encode."""

    mask_KD: Tensor

    def __len__(self) -> int:
        return len(self.mask_KD)


class Known(EvaluationContext):
    """Made-up latents in the place of those that models encode, for each point of a panel and each draw."""

    private = PRIVATE

    def __init__(self, panel: Panel, clips: int, draws: int) -> None:
        amount_K11 = torch.tensor(panel.points).repeat_interleave(draws)[:, None, None]
        self.models: Any = _Models(torch.ones(len(amount_K11), LATENTS))
        self.shared, self.factors, self.num_eval_classes = frozenset({"timbre"}), FACTORS, FACTORS
        generator = torch.Generator().manual_seed(0)
        for part in ("fit", "held_out"):
            classes_NC = torch.stack([torch.randint(n, (clips,), generator=generator) for n in FACTORS.values()], dim=1)
            noise_KND = torch.randn(len(amount_K11), clips, LATENTS, generator=generator)
            means_KND = made_up(panel, classes_NC, amount_K11, noise_KND)
            setattr(self, part, SimpleNamespace(classes_NC=classes_NC, means_KND=means_KND))


def made_up(panel: Panel, classes_NC: Tensor, amount_K11: Tensor, noise_KND: Tensor) -> Tensor:
    """Return latents that represent one factor each, or none, mixed or with noise by an amount."""
    value_NC = torch.stack(
        [
            (column - (n - 1) / 2) / math.sqrt((n**2 - 1) / 12)
            for column, n in zip(classes_NC.unbind(dim=1), FACTORS.values(), strict=True)
        ],
        dim=1,
    )
    informative = [TIMBRE, FREQUENCY, AMPLITUDE]
    latents_KND = noise_KND.clone()
    latents_KND[..., informative] = (
        value_NC + (amount_K11 if panel.title == NOISY.title else 0.02) * noise_KND[..., informative]
    )
    if panel.partner is not None:
        pair = [FREQUENCY, panel.partner]
        first, second = latents_KND[..., pair].split(1, dim=-1)
        cosine, sine = amount_K11.deg2rad().cos(), amount_K11.deg2rad().sin()
        latents_KND[..., pair] = torch.cat([cosine * first + sine * second, cosine * second - sine * first], dim=-1)
    if panel is COPIED:
        latents_KND[..., UNUSED] = latents_KND[..., FREQUENCY] + amount_K11[..., 0] * noise_KND[..., UNUSED]
    return latents_KND


@cache
def measured(metric_group: str, panel: Panel) -> Columns:
    """Compute a group of metrics of `marl.evaluation` on the models of a panel."""
    return METRIC_GROUPS[metric_group].compute(Known(panel, CLIPS, DRAWS))


def by_trees(panel: Panel) -> Columns:
    """What DCI says, of fewer clips and draws."""
    context = Known(panel, 1000, 2)
    rows = []
    for fit_ND, held_out_ND in zip(context.fit.means_KND.numpy(), context.held_out.means_KND.numpy(), strict=True):
        inputs: Any = SimpleNamespace(
            fit_ND=fit_ND,
            fit_class_NC=context.fit.classes_NC.numpy(),
            held_out_ND=held_out_ND,
            held_out_class_NC=context.held_out.classes_NC.numpy(),
        )
        rows.append(POST_TRAINING["dci"](inputs))
    return {name: torch.tensor([row[name] for row in rows]) for name in rows[0]}


def leaked(panel: Panel) -> Columns:
    """What probes read where it is not meant to be, chance being zero."""
    found = _of("probes", "linear_probes")(panel)
    factor_of = {name: name.split("/")[1] for name in found if name.endswith(("frequency/shared", "timbre/private"))}
    return {name: chance_corrected(found[name], FACTORS[factor]) for name, factor in factor_of.items()}


def of_more_clips(panel: Panel) -> Columns:
    """Compute the information of single latents, with noise of one standard deviation, from more and more clips."""
    group = METRIC_GROUPS["single_latents"]
    parts = [group.compute(Known(NOISY._replace(points=(1.0,)), int(clips), 20)) for clips in panel.points]
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


@cache
def sounds() -> tuple[LogMel, Tensor, Tensor]:
    """16 clips of SynTone, four frequencies of each timbre, and their log-mels in dB."""
    audio = LogMel(AudioConfig())
    hz, level = torch.tensor([500.0, 1100.0, 2300.0, 4700.0], dtype=torch.float64), torch.linspace(1.0, 0.25, 4)
    parts = [synthesise(timbre, hz, audio.config.clip_samples, audio.config.sample_rate) for timbre in TIMBRES]
    waveform_NS = torch.cat([level[:, None] * part for part in parts]).float()
    return audio, waveform_NS, audio(waveform_NS)


def spoilt(panel: Panel) -> Tensor:
    """Log-mels of the sounds, dB, [K, N, F, T]: too loud, blurred along the bands, or noisy, in some frames or all."""
    _, _, log_mel_NFT = sounds()
    amount_K = torch.tensor(panel.points)
    if panel is BLUR:
        band_F = torch.arange(log_mel_NFT.shape[1])
        apart_FF = (band_F[:, None] - band_F) / amount_K.clamp_min(1e-3)[:, None, None]
        return torch.einsum("kfg,ngt->knft", (-apart_FF.square() / 2).softmax(dim=-1), log_mel_NFT)
    amount_K111 = amount_K[:, None, None, None]
    if panel is LEVEL:
        return log_mel_NFT + amount_K111
    noise_NFT = torch.randn(log_mel_NFT.shape, generator=torch.Generator().manual_seed(0))
    if panel is ROUGH:
        return log_mel_NFT + amount_K111 * noise_NFT
    frame_T = torch.arange(log_mel_NFT.shape[2]) / log_mel_NFT.shape[2]
    return log_mel_NFT + 8 * noise_NFT * (frame_T < amount_K111)


def seen(panel: Panel) -> Columns:
    """Distances of log-mels; the four sounds of one frequency are a draw."""
    error_KJM, distance_KJM = (
        x.unflatten(1, (len(TIMBRES), -1)) for x in spectral_distance(spoilt(panel), sounds()[2])
    )
    columns = {
        "fidelity/log_mel_rmse_db": error_KJM.mean(dim=1).sqrt().flatten(),
        "fidelity/log_spectral_distance_db": distance_KJM.mean(dim=1).flatten(),
    }
    for timbre, error_KM in zip(TIMBRES, error_KJM.unbind(dim=1), strict=True):
        columns[f"fidelity/log_mel_rmse_db/timbre/{timbre}"] = error_KM.mean(dim=1).sqrt()
    return columns


def heard(panel: Panel) -> Columns:
    """Errors of the sounds that log-mels invert to; the four sounds of one frequency are a draw."""
    audio, waveform_NS, _ = sounds()
    errors = [waveform_fidelity(audio, waveform_NS, log_mel_NFT) for log_mel_NFT in spoilt(panel)]
    convergence_KM, error_KM = (
        torch.stack(parts).unflatten(1, (len(TIMBRES), -1)).mean(dim=1)
        for parts in ([e.spectral_convergence_N for e in errors], [e.stft_error_N for e in errors])
    )
    return {
        "fidelity/stft_error": error_KM.flatten(),
        "fidelity/spectral_convergence": convergence_KM.flatten(),
        "fidelity/stft_error/floor": error_KM[panel.points.index(0)].mean().repeat(len(errors)),
    }


def _of(*metric_groups: str) -> Callable[[Panel], Columns]:
    return lambda panel: {name: value for group in metric_groups for name, value in measured(group, panel).items()}


def _blocks(name: str) -> Picture:
    lines = {
        f"disentanglement/{name}": Line("all", GREY),
        f"disentanglement/{name}/private": Line("private", COLOURS["private"]),
        f"disentanglement/{name}/shared": Line("shared", COLOURS["shared"]),
    }
    return Picture(lines, _of("single_latents"), KNOWN, name)


def _single(name: str, metric_group: str) -> Picture:
    return Picture({f"disentanglement/{name}": Line(name, BLUE)}, _of(metric_group), KNOWN, name)


_PROBES = {
    f"{kind}/frequency/{subspace}": Line(f"{subspace}, {label}", COLOURS[subspace], dash)
    for kind, label, dash in (("probe", "network", FULL), ("linear_probe", "linear", DASHED))
    for subspace in ("private", "shared", "both")
}
_NMI = {
    f"{kind}/frequency/{block}": Line(f"{block}{label}", COLOURS[block], dash)
    for kind, label, dash in (("nmi", "", FULL), ("corrected_nmi", ", corrected", DASHED))
    for block in ("private", "shared")
}

PICTURES: Mapping[str, Picture] = {
    "log_mel": Picture(
        {
            "fidelity/log_mel_rmse_db": Line("log_mel_rmse_db", BLUE),
            "fidelity/log_spectral_distance_db": Line("log_spectral_distance_db", RED, DASHED),
        },
        seen,
        (LEVEL, BLUR, BURSTS),
        "dB",
        None,
    ),
    "by_class": Picture(
        {
            f"fidelity/log_mel_rmse_db/timbre/{timbre}": Line(timbre, colour)
            for timbre, colour in zip(TIMBRES, (BLUE, RED, GREEN, ORANGE), strict=True)
        },
        seen,
        (LEVEL, BLUR, BURSTS),
        "log_mel_rmse_db",
        None,
    ),
    "stft_error": Picture(
        {
            "fidelity/stft_error": Line("stft_error", BLUE),
            "fidelity/spectral_convergence": Line("spectral_convergence", RED),
            "fidelity/stft_error/floor": Line("stft_error/floor", GREY, DOTTED),
        },
        heard,
        (LEVEL, BLUR, ROUGH),
        "error",
        None,
    ),
    "probe": Picture(_PROBES, _of("probes", "linear_probes"), KNOWN, "accuracy", labels_a_row=3),
    "separation": Picture(
        {
            "disentanglement/separation": Line("separation", BLUE),
            "disentanglement/linear_separation": Line("linear_separation", RED),
        },
        _of("probes", "linear_probes"),
        KNOWN,
        "separation",
    ),
    "leakage": Picture(
        {
            "probe/frequency/shared": Line("frequency in shared, network", BLUE),
            "linear_probe/frequency/shared": Line("linear", BLUE, DASHED),
            "probe/timbre/private": Line("timbre in private, network", ORANGE),
            "linear_probe/timbre/private": Line("linear ", ORANGE, DASHED),
        },
        leaked,
        (ACROSS, COPIED),
        "leakage",
        (-0.02, 0.6),
        labels_a_row=2,
    ),
    "nmi": Picture(_NMI, _of("single_latents"), KNOWN, "nmi of the frequency"),
    "clips": Picture(_NMI, of_more_clips, (MORE_CLIPS,), "nmi of the frequency", None),
    "mig": _blocks("mig"),
    "modularity": _single("modularity", "single_latents"),
    "jemmig": _blocks("jemmig"),
    "dcimig": _blocks("dcimig"),
    "sap": _single("sap", "sap"),
    "explicitness": _single("explicitness", "explicitness"),
    "factor_vae": _single("factor_vae", "fixed_factors"),
    "beta_vae": _single("beta_vae", "fixed_factors"),
    "dci": Picture(
        {
            "disentanglement/dci": Line("dci", BLUE),
            "disentanglement/dci_completeness": Line("dci_completeness", RED),
            "disentanglement/dci_informativeness": Line("dci_informativeness", GREEN),
        },
        by_trees,
        tuple(panel._replace(points=panel.ticks) for panel in KNOWN),
        "dci",
    ),
}


def rows_of(picture: Picture, panel: Panel) -> pd.DataFrame:
    """A row for each point of each line: the mean, the smallest and the largest value over draws."""
    columns, parts = picture.numbers(panel), []
    for name, line in picture.lines.items():
        value_PR = columns[name].to(torch.float64).view(len(panel.points), -1)
        numbers = {"mean": value_PR.mean(dim=1), "low": value_PR.amin(dim=1), "high": value_PR.amax(dim=1)}
        parts.append(pd.DataFrame({"x": panel.points, "line": line.label, **numbers}))
    return pd.concat(parts)


def chart_of(picture: Picture) -> ChartType:
    """The panels side by side."""
    tables = [rows_of(picture, panel) for panel in picture.panels]
    low, high = picture.limits or (min(0, *(t["low"].min() for t in tables)), max(t["high"].max() for t in tables))
    lines = list(picture.lines.values())
    font: dict[str, Any] = {"labelFontSize": 13, "titleFontSize": 13}
    legend = (
        None
        if len(picture.lines) == 1
        else alt.Legend(
            orient="top",
            title=None,
            columns=picture.labels_a_row,
            labelFontSize=13,
            labelLimit=300,
            symbolType="stroke",
            symbolOpacity=1,
            symbolSize=300,
        )
    )
    domain = [line.label for line in lines]
    colour = alt.Color("line:N", scale=alt.Scale(domain=domain, range=[line.colour for line in lines]), legend=legend)
    dash = alt.StrokeDash("line:N", scale=alt.Scale(domain=domain, range=[line.dash for line in lines]), legend=legend)
    charts = []
    for number, (panel, table) in enumerate(zip(picture.panels, tables, strict=True)):
        base = alt.Chart(table).encode(
            x=alt.X(
                "x:Q",
                title=panel.unit,
                scale=alt.Scale(type=panel.scale),
                axis=alt.Axis(values=panel.ticks, labelExpr="datum.value", **font),
            ),
            color=colour,
        )
        y: dict[str, Any] = {
            "scale": alt.Scale(domain=[low, high]),
            "title": "" if number else picture.title,
            "axis": alt.Axis(tickCount=5, **font),
        }
        band = base.mark_area(opacity=0.2).encode(y=alt.Y("low:Q", **y), y2="high:Q")
        line = base.mark_line(strokeWidth=2.5).encode(y=alt.Y("mean:Q", **y), strokeDash=dash)
        title = alt.Title(panel.title, fontSize=13, fontWeight="normal", anchor="middle")
        charts.append(alt.layer(band, line).properties(width=510 / len(picture.panels), height=150, title=title))
    return styled(alt.hconcat(*charts, spacing=8).resolve_scale(color="shared", strokeDash="shared"))


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
