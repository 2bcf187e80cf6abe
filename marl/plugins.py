"""What plug-ins are made of: one protocol or base class for each kind, and what their code needs.

| kind | field of the spec | what to write |
|---|---|---|
| strategy | `contrast.strategy` | a function, `PairwiseLoss`, or a `Strategy` if it needs heads or a target network |
| data set | `data.kind` | a subclass of `ComputedDatasetConfig` or of `AudioDatasetConfig` |
| network | `model.kind` | a subclass of `Network`; further sizes in a subclass of `ModelConfig` |
| metric | `metrics` | a function, `Metric` |
| sampler | `search.sampler` | a class of Optuna that takes a seed, `study.spec.samplers.SamplerFactory` |

docs/plugins.md has an example of each. `pytest --pyargs marl.testing --plugin module:name` checks a plug-in.
"""

from marl.audio import AudioConfig, LogMel
from marl.data import (
    AudioDatasetConfig,
    Clips,
    ComputedDatasetConfig,
    Dataset,
    Factor,
    LogMels,
    split_clips,
)
from marl.data.audio_dataset import Entry, UnusableClipError
from marl.data.audio_file import read_mono
from marl.evaluation import EvaluationContext, Metric
from marl.losses.ssl import Pairing, PairwiseLoss, Strategy, StrategyInputs
from marl.losses.ssl.strategy import identity, positive_and_negatives, tile_views, unit_clips
from marl.models import Architecture, ModelConfig, Network, Parameters, ParameterSpec
from marl.models.heads import PROJECTION, HeadKind
from marl.models.network import linear, linear_specs
from marl.registry import PluginError, PluginSource

__all__ = [
    "PROJECTION",
    "Architecture",
    "AudioConfig",
    "AudioDatasetConfig",
    "Clips",
    "ComputedDatasetConfig",
    "Dataset",
    "Entry",
    "EvaluationContext",
    "Factor",
    "HeadKind",
    "LogMel",
    "LogMels",
    "Metric",
    "ModelConfig",
    "Network",
    "Pairing",
    "PairwiseLoss",
    "ParameterSpec",
    "Parameters",
    "PluginError",
    "PluginSource",
    "Strategy",
    "StrategyInputs",
    "UnusableClipError",
    "identity",
    "linear",
    "linear_specs",
    "positive_and_negatives",
    "read_mono",
    "split_clips",
    "tile_views",
    "unit_clips",
]
