"""Metrics of latents and sounds with known properties, which `docs.pictures.metrics` draws.

A synthetic model has six latents, four of them private: latent 0 is the frequency, 1 the amplitude, 4 (shared) the
timbre; the others are standard normal noise. All have a standard deviation of one before they are mixed or noise is
added. The code that evaluates models computes the numbers, under the names of the stored columns.

K is models, one for each point of a panel and draw, N clips, C factors, D latents, F mel bands, T frames.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from types import SimpleNamespace
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from marl.audio import AudioConfig, LogMel
from marl.data import Factor
from marl.data.syntone import TIMBRES, synthesise
from marl.evaluation import FIT_CLIPS, METRIC_GROUPS
from marl.evaluation.context import EvaluationContext
from marl.evaluation.post_training import POST_TRAINING
from marl.metrics.fidelity import spectral_distance, waveform_fidelity

FACTORS = {"timbre": 4, "frequency": 20, "amplitude": 10}
PRIVATE, LATENTS = 4, 6
FREQUENCY, AMPLITUDE, TIMBRE, UNUSED = 0, 1, 4, 5
CLIPS, DRAWS = 2048, 3

Columns = Mapping[str, Tensor]
"""Numbers by column, [K]; draws of the first point come first."""


class Panel(NamedTuple):
    """One of the plots of a picture; `points` vary along its x axis."""

    title: str
    unit: str
    points: tuple[float, ...]
    ticks: tuple[float, ...]
    scale: Literal["linear", "log", "sqrt"] = "linear"
    partner: int | None = None
    """Latent with which the frequency is mixed."""


_MIXED = ("degrees", (0, 7.5, 15, 22.5, 30, 37.5, 44, 45), (0, 15, 30, 45))
WITHIN = Panel("frequency mixed with amplitude", *_MIXED, partner=AMPLITUDE)
ACROSS = Panel("frequency mixed with timbre", *_MIXED, partner=TIMBRE)
_DEVIATIONS = (0, 0.03, 0.1, 0.2, 0.4, 0.6, 1, 1.4, 2)
NOISY = Panel("noise on all", "standard deviations", _DEVIATIONS, (0, 0.1, 0.4, 1, 2), "sqrt")
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
    """The attributes of models that metrics of latents read."""

    mask_KD: Tensor
    dataset: Any

    def __len__(self) -> int:
        return len(self.mask_KD)


class SyntheticContext(EvaluationContext):
    """Synthetic latents in place of encoded clips, for each point of a panel and each draw."""

    private = PRIVATE

    def __init__(self, panel: Panel, clips: int, draws: int) -> None:
        self._panel, self._amount_K11 = panel, torch.tensor(panel.points).repeat_interleave(draws)[:, None, None]
        self.shared, self.factors = frozenset({"timbre"}), FACTORS
        generator = torch.Generator().manual_seed(0)
        self.fit, self.held_out = (self._encoded(clips, generator) for _ in range(2))
        factors = [Factor(name, tuple(map(float, range(n))), tuple(range(n))) for name, n in FACTORS.items()]
        dataset = SimpleNamespace(factors=factors, factor_names=list(FACTORS), value_NC=self.held_out.classes_NC)
        self.models: Any = _Models(torch.ones(len(self._amount_K11), LATENTS), dataset)

    @cached_property
    def network_fit(self) -> Any:
        """Clips that networks are fitted on, `FIT_CLIPS` of them."""
        return self._encoded(FIT_CLIPS, torch.Generator().manual_seed(1))

    def _encoded(self, clips: int, generator: torch.Generator) -> Any:
        classes_NC = torch.stack([torch.randint(n, (clips,), generator=generator) for n in FACTORS.values()], dim=1)
        noise_KND = torch.randn(len(self._amount_K11), clips, LATENTS, generator=generator)
        means_KND = synthetic_latents(self._panel, classes_NC, self._amount_K11, noise_KND)
        return SimpleNamespace(
            clips=torch.arange(clips),
            classes_NC=classes_NC,
            means_KND=means_KND,
            sampled_KND=means_KND,
            posterior_deviation_KD=torch.zeros(len(self._amount_K11), LATENTS),
        )


def synthetic_latents(panel: Panel, classes_NC: Tensor, amount_K11: Tensor, noise_KND: Tensor) -> Tensor:
    """Return latents that represent one factor each, or none, mixed or with noise by an amount."""
    num_C = torch.tensor(list(FACTORS.values()), dtype=torch.float64)
    value_NC = (classes_NC - (num_C - 1) / 2).float() / ((num_C**2 - 1) / 12).sqrt().float()
    informative = [TIMBRE, FREQUENCY, AMPLITUDE]
    latents_KND = noise_KND.clone()
    noise = amount_K11 if panel.title == NOISY.title else 0.02
    latents_KND[..., informative] = value_NC + noise * noise_KND[..., informative]
    if panel.partner is not None:
        pair = [FREQUENCY, panel.partner]
        first, second = latents_KND[..., pair].split(1, dim=-1)
        cosine, sine = amount_K11.deg2rad().cos(), amount_K11.deg2rad().sin()
        latents_KND[..., pair] = torch.cat([cosine * first + sine * second, cosine * second - sine * first], dim=-1)
    if panel is COPIED:
        latents_KND[..., UNUSED] = latents_KND[..., FREQUENCY] + amount_K11[..., 0] * noise_KND[..., UNUSED]
    return latents_KND


@cache
def _measured(metric_group: str, panel: Panel) -> Columns:
    return METRIC_GROUPS[metric_group].compute(SyntheticContext(panel, CLIPS, DRAWS))


def measured(*metric_groups: str) -> Callable[[Panel], Columns]:
    """Return a function that computes groups of metrics of `marl.evaluation` on the models of a panel."""
    return lambda panel: {name: value for group in metric_groups for name, value in _measured(group, panel).items()}


def dci_columns(panel: Panel) -> Columns:
    """Return the scores of DCI, with fewer clips and draws."""
    context = SyntheticContext(panel, 1000, 2)
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


def information_by_clips(panel: Panel) -> Columns:
    """Return metrics of single latents with as much noise as signal, by the number of clips."""
    compute, noisy = METRIC_GROUPS["single_latents"].compute, NOISY._replace(points=(1.0,))
    parts = [compute(SyntheticContext(noisy, int(clips), 20)) for clips in panel.points]
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


@cache
def sounds() -> tuple[LogMel, Tensor, Tensor]:
    """Return 16 clips of SynTone, four frequencies of each timbre, and their log-mels in dB."""
    audio = LogMel(AudioConfig())
    hz, level = torch.tensor([500.0, 1100.0, 2300.0, 4700.0], dtype=torch.float64), torch.linspace(1.0, 0.25, 4)
    parts = [synthesise(timbre, hz, audio.config.clip_samples, audio.config.sample_rate) for timbre in TIMBRES]
    waveform_NS = torch.cat([level[:, None] * part for part in parts]).float()
    return audio, waveform_NS, audio(waveform_NS)


def degraded(panel: Panel) -> Tensor:
    """Return log-mels of the sounds in dB, [K, N, F, T]: too loud, blurred along the bands, or with noise."""
    _, _, log_mel_NFT = sounds()
    amount_K = torch.tensor(panel.points)
    if panel is BLUR:
        band_F = torch.arange(log_mel_NFT.shape[1])
        apart_FF = (band_F[:, None] - band_F) / amount_K.clamp_min(1e-3)[:, None, None]
        return torch.einsum("kfg,ngt->knft", (-apart_FF.square() / 2).softmax(dim=-1), log_mel_NFT)
    amount_K111 = amount_K[:, None, None, None]
    noise_NFT = torch.randn(log_mel_NFT.shape, generator=torch.Generator().manual_seed(0))
    frame_T = torch.arange(log_mel_NFT.shape[2]) / log_mel_NFT.shape[2]
    change = {LEVEL: amount_K111, ROUGH: amount_K111 * noise_NFT, BURSTS: 8 * noise_NFT * (frame_T < amount_K111)}
    return log_mel_NFT + change[panel]


def log_mel_errors(panel: Panel) -> Columns:
    """Return distances of log-mels; the four sounds of one frequency are a draw."""
    distances = spectral_distance(degraded(panel), sounds()[2])
    error_KJM, distance_KJM = (x.unflatten(1, (len(TIMBRES), -1)) for x in distances)
    columns = {
        "fidelity/log_mel_rmse_db": error_KJM.mean(dim=1).sqrt().flatten(),
        "fidelity/log_spectral_distance_db": distance_KJM.mean(dim=1).flatten(),
    }
    for timbre, error_KM in zip(TIMBRES, error_KJM.unbind(dim=1), strict=True):
        columns[f"fidelity/log_mel_rmse_db/timbre/{timbre}"] = error_KM.mean(dim=1).sqrt()
    return columns


def waveform_errors(panel: Panel) -> Columns:
    """Return errors of the sounds that log-mels invert to; the four sounds of one frequency are a draw."""
    audio, waveform_NS, _ = sounds()
    errors = [waveform_fidelity(audio, waveform_NS, log_mel_NFT) for log_mel_NFT in degraded(panel)]
    convergence_KM, error_KM = (
        torch.stack(parts).unflatten(1, (len(TIMBRES), -1)).mean(dim=1)
        for parts in ([e.spectral_convergence_N for e in errors], [e.stft_error_N for e in errors])
    )
    return {
        "fidelity/stft_error": error_KM.flatten(),
        "fidelity/spectral_convergence": convergence_KM.flatten(),
        "fidelity/stft_error/floor": error_KM[panel.points.index(0)].mean().repeat(len(errors)),
    }
