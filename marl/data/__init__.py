"""Data sets, and the pairs of clips that form the two views of a training example.

Each module with a constant `DATASET` defines one kind of data set: its value is a subclass of `ComputedDatasetConfig`,
whose log-mels are computed on the device, or of `AudioDatasetConfig`, whose clips are prepared from audio.
"""

import inspect
import pkgutil
from importlib import import_module
from typing import Any

from marl.data.audio_dataset import AudioDatasetConfig, ComputedDatasetConfig
from marl.data.batch_source import BatchSource, DeviceBatchSource, HostBatchSource
from marl.data.dataset import HELD_OUT_SHARE, SPLIT_UNITS, Clips, Dataset, Factor, LogMels, split_clips
from marl.data.pairs import PairSampler, Partners
from marl.registry import PluginError, Registry

__all__ = ["HELD_OUT_SHARE", "KINDS", "SPLIT_UNITS", "AnyDatasetConfig", "AudioDatasetConfig", "BatchSource", "Clips"]
__all__ += ["ComputedDatasetConfig", "Dataset", "DeviceBatchSource", "Factor", "HostBatchSource", "LogMels"]
__all__ += ["PairSampler", "Partners", "split_clips"]

_MODULES = [import_module(f"{__name__}.{module.name}") for module in pkgutil.iter_modules(__path__)]

AnyDatasetConfig = ComputedDatasetConfig | AudioDatasetConfig
"""Configuration of any data set."""


def _adapt(name: str, found: Any) -> type[AnyDatasetConfig]:
    if not (isinstance(found, type) and issubclass(found, ComputedDatasetConfig | AudioDatasetConfig)):
        raise PluginError(f"{name} must be a subclass of ComputedDatasetConfig or of AudioDatasetConfig")
    if missing := inspect.isabstract(found) and ", ".join(sorted(found.__abstractmethods__)):
        raise PluginError(f"{name} must define {missing}")
    return found


_BUILTIN: dict[str, type[AnyDatasetConfig]] = {
    module.DATASET.model_fields["kind"].default: module.DATASET for module in _MODULES if hasattr(module, "DATASET")
}

KINDS = Registry("a data set", "marl_study.datasets", _BUILTIN, _adapt)
"""Configuration class of each kind of data set."""
