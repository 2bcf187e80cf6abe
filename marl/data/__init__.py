"""Datasets: one file each, all giving a `Dataset`; and the pairs of clips that form two views."""

import torch

from marl.audio import AudioConfig
from marl.data import syntone
from marl.data.dataset import HELD_OUT_SHARE, Clips, Dataset, Factor
from marl.data.pairs import Pairs, PairSampler
from marl.data.syntone import SynTone

__all__ = [
    "HELD_OUT_SHARE",
    "Clips",
    "DataConfig",
    "Dataset",
    "Factor",
    "PairSampler",
    "Pairs",
    "build",
    "clips",
    "factors",
]

DataConfig = SynTone
"""The configuration of any dataset: a union of their classes, told apart by `kind`."""

_BUILDERS = {"syntone": syntone.build}
_CLIPS = {"syntone": syntone.clips}
_FACTORS = {"syntone": syntone.factors}


def build(config: DataConfig, audio: AudioConfig, device: torch.device) -> Dataset:
    """The dataset of a configuration, resident on a device."""
    return _BUILDERS[config.kind](config, audio, device)


def clips(config: DataConfig, audio: AudioConfig) -> Clips:
    """The clips of a configuration without their spectrograms, at once however many there are; on the CPU."""
    return _CLIPS[config.kind](config, audio, torch.device("cpu"))


def factors(config: DataConfig) -> tuple[Factor, ...]:
    """The factors of a configuration's clips, without making the clips."""
    return _FACTORS[config.kind](config)
