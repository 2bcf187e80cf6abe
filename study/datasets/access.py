"""The data of a study, whichever kind it is: computed on the device, or prepared and in the store."""

import torch

from marl.audio import AudioConfig
from marl.data import Clips, Dataset, Factor, SoundsConfig, SynTone, syntone
from study.configuration import audio_of, data_of
from study.datasets.loading import load_dataset
from study.datasets.prepared import PreparedSet
from study.errors import UserError
from study.objects import Objects
from study.spec import Spec

__all__ = ["clips_of", "dataset_of", "factors_of"]


def dataset_of(spec: Spec, objects: Objects, device: torch.device) -> Dataset:
    """The clips of a resolved spec and their spectrograms, for a device.

    Raises:
        UserError: when they must be prepared and are not in the store, or are others, or damaged.
    """
    data, audio = data_of(spec), audio_of(spec)
    if isinstance(data, SynTone):
        return syntone.build(data, audio, device)
    memory = spec.resources.data_gib
    return load_dataset(_prepared(data, audio, objects), data.split, device, None if memory == "auto" else memory)


def clips_of(spec: Spec, objects: Objects, audio: AudioConfig) -> Clips:
    """The clips without their spectrograms, at once however many there are; on the CPU."""
    data = data_of(spec)
    if isinstance(data, SynTone):
        return syntone.clips(data, audio, torch.device("cpu"))
    return _prepared(data, audio, objects).clips(data.split)


def factors_of(spec: Spec, objects: Objects) -> tuple[Factor, ...]:
    """The factors of the clips, without making clips."""
    data = data_of(spec)
    if isinstance(data, SynTone):
        return syntone.factors(data)
    return _prepared(data, audio_of(spec), objects).factors_and_values[0]


def _prepared(data: SoundsConfig, audio: AudioConfig, objects: Objects) -> PreparedSet:
    if data.content is None:
        raise UserError("data: is not prepared yet; do so by `marl-study data build SPEC`")
    found = PreparedSet(objects, data.content)
    document = found.document
    if document.audio != audio or document.factors != tuple(data.factor_names):
        raise UserError(
            f"data.content: {data.content} is a set of other spectrograms or factors than the spec's; leave it out, "
            "and the set that fits is found, or prepared"
        )
    return found
