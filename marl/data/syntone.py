"""SynTone: four waveforms at 400 frequencies and 20 amplitudes, one second each.

Brima et al., "Learning Disentangled Audio Representations through Controlled Synthesis", 2024. The waveforms are
computed naively and alias, as the published ones do. Band-limited, every timbre above 4 kHz would be a sine.
"""

import math
from collections.abc import Sequence
from itertools import product
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from marl import randomness
from marl.audio import AudioConfig, LogMel
from marl.data.audio_dataset import MAX_CLASSES, ComputedDatasetConfig, standardise
from marl.data.dataset import HELD_OUT_SHARE, Clips, Dataset, Factor, LogMels

__all__ = ["DATASET", "TIMBRES", "SynTone", "amplitudes", "frequencies_hz", "synthesise"]

TIMBRES = ("sine", "triangle", "sawtooth", "square")
_CHUNK = 10
_REFERENCE = """@misc{brima2024syntone,
  title = {Learning Disentangled Audio Representations through Controlled Synthesis},
  author = {Brima, Yusuf and Krumnack, Ulf and Pika, Simone and Heidemann, Gunther},
  year = {2024}
}"""


class SynTone(ComputedDatasetConfig):
    """Configuration of SynTone. By default the published grid: 4 timbres x 400 frequencies x 20 amplitudes.

    Clips are numbered with the amplitude fastest, then the frequency, then the timbre.
    """

    description: ClassVar[str] = "SynTone: computed sines, triangles, sawtooths and squares"
    reference: ClassVar[str] = _REFERENCE
    factor_names: ClassVar[tuple[str, ...]] = ("timbre", "frequency", "amplitude")

    kind: Literal["syntone"] = "syntone"
    """Sines, triangles, sawtooths and squares that are computed when a study starts."""
    frequencies: int = Field(400, ge=2)
    """Number of frequencies, evenly spaced from 440 to 8,000 Hz."""
    amplitudes: int = Field(20, ge=2)
    """Number of amplitudes, evenly spaced from 0.1 to 1.0."""

    @property
    def size(self) -> int:
        """Number of clips."""
        return len(TIMBRES) * self.frequencies * self.amplitudes

    def factors(self) -> tuple[Factor, ...]:
        """Return timbre, frequency in Hz, and amplitude relative to full scale."""
        return (
            Factor("timbre", TIMBRES, tuple(range(len(TIMBRES)))),
            _numeric_factor("frequency", frequencies_hz(self)),
            _numeric_factor("amplitude", amplitudes(self)),
        )

    def clips(self, audio: AudioConfig, device: torch.device) -> Clips:
        """Return the clips; waveforms are synthesised when they are asked for."""
        value_NC = torch.cartesian_prod(
            torch.arange(len(TIMBRES)), torch.arange(self.frequencies), torch.arange(self.amplitudes)
        ).to(device)
        hz, level = frequencies_hz(self), amplitudes(self)

        def waveforms(indices: Sequence[int]) -> Tensor:
            rows = [
                level[amplitude] * synthesise(TIMBRES[timbre], hz[frequency], audio.clip_samples, audio.sample_rate)
                for timbre, frequency, amplitude in value_NC[torch.as_tensor(indices, device=device)].tolist()
            ]
            return torch.stack(rows).to(torch.float32)

        return Clips(value_NC, self.factors(), _splits(self.size, device), waveforms)

    def build(self, audio: AudioConfig, device: torch.device) -> Dataset:
        """Compute all log-mels on a device, from one spectrogram per timbre and frequency.

        The power of a clip scales with the square of its amplitude.
        """
        log_mel = LogMel(audio, device=device)
        gain = amplitudes(self).to(device).square().to(torch.float32)
        log_mel_NFT = torch.empty(self.size, audio.mel_bands, audio.frames, device=device)
        first = 0
        for timbre, hz in product(TIMBRES, frequencies_hz(self).to(device).split(_CHUNK)):
            power = log_mel.power(synthesise(timbre, hz, audio.clip_samples, audio.sample_rate))
            scaled = (power[:, None] * gain[:, None, None]).flatten(0, 1)
            log_mel_NFT[first : first + len(scaled)] = log_mel.from_power(scaled)
            first += len(scaled)
        clips = self.clips(audio, device)
        mean_db, std_db = standardise(log_mel_NFT, clips.splits["training"])
        return Dataset(**vars(clips), log_mels=LogMels(log_mel_NFT), audio=LogMel(audio, mean_db, std_db, device))


DATASET = SynTone


def frequencies_hz(config: SynTone) -> Tensor:
    """Return the frequencies, float64."""
    return torch.linspace(440.0, 8_000.0, config.frequencies, dtype=torch.float64)


def amplitudes(config: SynTone) -> Tensor:
    """Return the amplitudes, float64."""
    return torch.linspace(0.1, 1.0, config.amplitudes, dtype=torch.float64)


def synthesise(timbre: str, frequency_hz: Tensor, samples: int, sample_rate: int) -> Tensor:
    """Return waveforms [..., samples] of amplitude one and phase zero, float64, for frequencies [...]."""
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


def _numeric_factor(name: str, values: Tensor) -> Factor:
    classes = min(MAX_CLASSES, len(values))
    return Factor(name, tuple(values.tolist()), tuple(i * classes // len(values) for i in range(len(values))))


def _splits(count: int, device: torch.device) -> dict[str, Tensor]:
    """Split 80, 10 and 10 % of the clips by a hash of their index."""
    held_out = int(count * HELD_OUT_SHARE)
    zero = torch.zeros((), dtype=torch.int64, device=device)
    state = randomness.stream(zero, zero, randomness.Purpose.SPLIT)
    scores = randomness.bits(state, torch.arange(count, device=device), zero[None])
    order = scores.flatten().argsort(stable=True)
    training, validation, test = order.split([count - 2 * held_out, held_out, held_out])
    return {"training": training, "validation": validation, "test": test}
