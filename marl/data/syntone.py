"""SynTone (Brima et al., 2024): four waveforms at 400 frequencies and 20 amplitudes, one second each.

The waveforms are computed naively, so they alias as the published ones do. With band-limited ones every timbre would be
a sine above 4 kHz.
"""

import math
from collections.abc import Sequence
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from marl.audio import AudioConfig, LogMel
from marl.base_config import Settings
from marl.data.dataset import Clips, Dataset, Factor, LogMels, split_clips, standardise

__all__ = ["TIMBRES", "SynTone", "amplitudes", "build", "clips", "factors", "frequencies_hz", "synthesise"]

TIMBRES = ("sine", "triangle", "sawtooth", "square")
_MOST_CLASSES = 20
_CHUNK = 200


class SynTone(Settings):
    """The published grid by default: 4 timbres x 400 frequencies x 20 amplitudes, 32,000 clips.

    Attributes:
        frequencies: how many, evenly spaced from 440 to 8,000 Hz.
        amplitudes: how many, evenly spaced from 0.1 to 1.0.
    """

    factor_names: ClassVar[tuple[str, ...]] = ("timbre", "frequency", "amplitude")

    kind: Literal["syntone"] = "syntone"
    frequencies: int = Field(400, ge=2)
    amplitudes: int = Field(20, ge=2)

    @property
    def clips(self) -> int:
        """How many clips there are."""
        return len(TIMBRES) * self.frequencies * self.amplitudes


def frequencies_hz(config: SynTone) -> Tensor:
    """The frequencies, float64."""
    return torch.linspace(440.0, 8_000.0, config.frequencies, dtype=torch.float64)


def amplitudes(config: SynTone) -> Tensor:
    """The amplitudes, float64."""
    return torch.linspace(0.1, 1.0, config.amplitudes, dtype=torch.float64)


def synthesise(timbre: str, frequency_hz: Tensor, samples: int, sample_rate: int) -> Tensor:
    """Waveforms [..., samples] of amplitude one and phase zero, float64 on the device of `frequency_hz` [...].

    Raises:
        ValueError: when the timbre is none of `TIMBRES`.
    """
    time_s = torch.arange(samples, dtype=torch.float64, device=frequency_hz.device) / sample_rate
    cycles = (frequency_hz[..., None] * time_s).remainder(1.0)
    match timbre:
        case "sine":
            return torch.sin(2 * math.pi * cycles)
        case "triangle":
            return 1 - 4 * (cycles - 0.5).abs()
        case "sawtooth":
            return 2 * cycles - 1
        case "square":
            return torch.where(cycles < 0.5, 1.0, -1.0).to(torch.float64)
    raise ValueError(f"timbre must be one of {', '.join(TIMBRES)}; got {timbre!r}")


def factors(config: SynTone) -> tuple[Factor, ...]:
    """Timbre, frequency in Hz, and amplitude, where 1 is full scale."""
    return (
        Factor("timbre", TIMBRES, tuple(range(len(TIMBRES)))),
        _numeric_factor("frequency", frequencies_hz(config)),
        _numeric_factor("amplitude", amplitudes(config)),
    )


def clips(config: SynTone, audio: AudioConfig, device: torch.device) -> Clips:
    """All clips, of which none is synthesised before it is asked for.

    They are numbered with the amplitude fastest, then the frequency, then the timbre.
    """
    value_NC = torch.cartesian_prod(
        torch.arange(len(TIMBRES)), torch.arange(config.frequencies), torch.arange(config.amplitudes)
    ).to(device)
    hz, level = frequencies_hz(config), amplitudes(config)

    def waveforms(indices: Sequence[int]) -> Tensor:
        values = value_NC[torch.as_tensor(indices, device=device)].cpu().tolist()
        rows = [
            level[amplitude] * synthesise(TIMBRES[timbre], hz[frequency], audio.clip_samples, audio.sample_rate)
            for timbre, frequency, amplitude in values
        ]
        return torch.stack(rows).to(torch.float32)

    return Clips(value_NC, factors(config), split_clips(config.clips, device), waveforms)


def build(config: SynTone, audio: AudioConfig, device: torch.device) -> Dataset:
    """Synthesise the whole set on a device.

    A clip's power scales with the square of its amplitude, so one spectrogram for each timbre and frequency gives those
    of all amplitudes.
    """
    log_mel = LogMel(audio, device=device)
    hz = frequencies_hz(config).to(device)
    gain = amplitudes(config).to(device).square().to(torch.float32)
    spectrograms = torch.empty(config.clips, audio.mel_bands, audio.frames, device=device)
    row = 0
    for timbre in TIMBRES:
        for part_hz in hz.split(_CHUNK):
            power = log_mel.power(synthesise(timbre, part_hz, audio.clip_samples, audio.sample_rate))
            scaled = (power[:, None] * gain[:, None, None]).flatten(0, 1)
            spectrograms[row : row + len(scaled)] = log_mel.from_power(scaled)
            row += len(scaled)

    known = clips(config, audio, device)
    mean_db, std_db = standardise(spectrograms, known.splits["training"])
    return Dataset(
        value_NC=known.value_NC,
        factors=known.factors,
        splits=known.splits,
        waveforms=known.waveforms,
        log_mels=LogMels(spectrograms),
        audio=LogMel(audio, mean_db, std_db, device),
    )


def _numeric_factor(name: str, values: Tensor) -> Factor:
    classes = min(_MOST_CLASSES, len(values))
    return Factor(name, tuple(values.tolist()), tuple(i * classes // len(values) for i in range(len(values))))
