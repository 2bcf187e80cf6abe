"""A prepared set becomes a dataset: spectrograms on the device where they fit, else in a file that is mapped."""

import tempfile
from pathlib import Path

import numpy as np
import psutil
import torch
from numpy.typing import NDArray
from torch import Tensor

from marl.audio import AudioConfig, LogMel
from marl.data import AudioDatasetConfig, Clips, ComputedDatasetConfig, Dataset, Factor, LogMels
from study.datasets.prepared_set import PreparedSet
from study.errors import UserError
from study.process_env import cache_folder
from study.spec.resolved_spec import ResolvedSpec
from study.storage import ObjectStore

__all__ = ["clips_of", "dataset_of", "factors_of", "load_dataset"]

_SHARE_OF_MEMORY = 0.5


def load_dataset(prepared: PreparedSet, split: str, device: torch.device, memory_gib: float | None = None) -> Dataset:
    """The clips of a set with their spectrograms.

    Args:
        prepared: the set.
        split: what never lies in two splits, as `marl.data.dataset.split_clips`.
        device: what computes.
        memory_gib: of the device that spectrograms may take; by default half of what is free.

    Raises:
        UserError: when the set is damaged, cannot be split so, or its training clips are all the same.
    """
    known, audio = prepared.clips(split), prepared.document.audio
    training = known.splits["training"].numpy()
    sums = prepared.rows[["sum_db", "square_db"]].to_numpy()[training].sum(axis=0)
    mean, square = (float(value) for value in sums / (len(training) * audio.mel_bands * audio.frames))
    std = max(0.0, square - mean**2) ** 0.5
    if not std > 0:
        raise UserError("data: the training clips are all the same, so their log-mels cannot be standardised")
    allowed = _free_bytes(device) * _SHARE_OF_MEMORY if memory_gib is None else memory_gib * 2**30
    shape = (len(prepared.rows), audio.mel_bands, audio.frames)
    fits = 2 * int(np.prod(shape)) <= allowed
    decibels = _on_device(prepared, shape, device) if fits else _in_file(prepared, shape)
    return Dataset(
        value_NC=known.value_NC.to(device),
        factors=known.factors,
        splits={name: clips.to(device) for name, clips in known.splits.items()},
        waveforms=known.waveforms,
        log_mels=LogMels(decibels, device, mean, std),
        audio=LogMel(audio, mean, std, device),
    )


def _on_device(prepared: PreparedSet, shape: tuple[int, int, int], device: torch.device) -> Tensor:
    decibels_NFT = torch.empty(shape, dtype=torch.float16, device=device)
    for clips, part in prepared.log_mels():
        decibels_NFT[torch.from_numpy(clips).to(device)] = torch.from_numpy(part).to(device)
    return decibels_NFT


def _in_file(prepared: PreparedSet, shape: tuple[int, int, int]) -> NDArray[np.float16]:
    """A file of this machine, which is mapped; made where it is not there yet."""
    path = cache_folder() / "data" / f"{prepared.key}.npy"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=".unfinished-") as draft:
            array = np.lib.format.open_memmap(f"{draft}/all.npy", mode="w+", dtype=np.float16, shape=shape)
            for clips, part in prepared.log_mels():
                array[clips] = part
            array.flush()
            Path(draft, "all.npy").replace(path)
    found: NDArray[np.float16] = np.load(path, mmap_mode="r", allow_pickle=False)
    if found.shape != shape or found.dtype != np.float16:
        raise UserError(f"{path} is no copy of {prepared.uri}; delete it, it is made anew")
    return found


def _free_bytes(device: torch.device) -> int:
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    return int(psutil.virtual_memory().available)


def dataset_of(resolved: ResolvedSpec, objects: ObjectStore, device: torch.device) -> Dataset:
    """The clips of a resolved spec and their spectrograms, for a device.

    Raises:
        UserError: when they must be prepared and are not in the store, or are others, or damaged.
    """
    data, audio = resolved.data, resolved.audio
    if isinstance(data, ComputedDatasetConfig):
        return data.build(audio, device)
    memory = resolved.spec.resources.data_gib
    return load_dataset(_prepared(data, audio, objects), data.split, device, None if memory == "auto" else memory)


def clips_of(resolved: ResolvedSpec, objects: ObjectStore) -> Clips:
    """The clips without their spectrograms, at once however many there are; on the CPU."""
    data = resolved.data
    if isinstance(data, ComputedDatasetConfig):
        return data.clips(resolved.audio, torch.device("cpu"))
    return _prepared(data, resolved.audio, objects).clips(data.split)


def factors_of(resolved: ResolvedSpec, objects: ObjectStore) -> tuple[Factor, ...]:
    """The factors of the clips, without making clips."""
    data = resolved.data
    if isinstance(data, ComputedDatasetConfig):
        return data.factors()
    return _prepared(data, resolved.audio, objects).factors_and_values[0]


def _prepared(data: AudioDatasetConfig, audio: AudioConfig, objects: ObjectStore) -> PreparedSet:
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
