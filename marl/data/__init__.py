"""Datasets: one file a kind; what they offer, a `Dataset`; and the pairs of clips that form two views.

`syntone` is computed on the device. The other kinds are sounds: each offers a `Source` of clips, of which
`marl.data.source` makes spectrograms once; what comes of it is kept and becomes a `Dataset` again and again.
"""

from marl.data import folder, nsynth, phrases, soundfont
from marl.data.batch_source import BatchSource, DeviceBatchSource, HostBatchSource
from marl.data.dataset import HELD_OUT_SHARE, Clips, Dataset, Factor, LogMels
from marl.data.folder import Folder
from marl.data.nsynth import NSynth
from marl.data.pairs import Pairs, PairSampler
from marl.data.phrases import Phrases
from marl.data.soundfont import SoundFont
from marl.data.source import Sounds, Source
from marl.data.syntone import SynTone

__all__ = [
    "HELD_OUT_SHARE",
    "KINDS",
    "BatchSource",
    "Clips",
    "DataConfig",
    "Dataset",
    "DeviceBatchSource",
    "Factor",
    "HostBatchSource",
    "LogMels",
    "PairSampler",
    "Pairs",
    "Sounds",
    "SoundsConfig",
    "SynTone",
    "source_of",
]

SoundsConfig = NSynth | Folder | SoundFont | Phrases
"""The configuration of any dataset that must be prepared."""

DataConfig = SynTone | SoundsConfig
"""The configuration of any dataset: one of their classes, told apart by `kind`."""

KINDS: dict[str, type[DataConfig]] = {
    "syntone": SynTone,
    "soundfont": SoundFont,
    "phrases": Phrases,
    "nsynth": NSynth,
    "folder": Folder,
}


def source_of(config: SoundsConfig) -> Source:
    """Where the clips of a dataset come from that must be prepared."""
    match config:
        case NSynth():
            return nsynth.source(config)
        case Folder():
            return folder.source(config)
        case SoundFont():
            return soundfont.source(config)
        case Phrases():
            return phrases.source(config)
