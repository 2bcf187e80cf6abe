"""Datasets of a study: prepared once from the user's sounds, kept in the store, loaded by every trainer.

Spectrograms lie on the device if they fit, else in a memory-mapped file.
"""

import hashlib
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import PurePosixPath
from typing import TypeVar

import numpy as np
import psutil
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor

from marl.audio import AudioConfig, LogMel
from marl.data import AudioDatasetConfig, Clips, ComputedDatasetConfig, Dataset, Factor, LogMels, Partners
from marl.data.audio_dataset import Entry
from marl.data.audio_file import SUFFIXES
from marl.data.folder import Folder
from study.datasets.prepared_set import PreparedSet, key_of
from study.datasets.shared_memory import shared_file
from study.environment import available_cpus, cache_folder, code_hash
from study.errors import UserError
from study.local_files import atomic_path
from study.spec.resolved_spec import ResolvedSpec
from study.storage import ObjectStore

__all__ = ["as_user_error", "check_pairs", "clips_of", "dataset_of", "factors_of", "find", "has_pairs", "load_dataset"]
__all__ += ["local_copy", "shared_dataset_of", "with_content"]

_Result = TypeVar("_Result")

_SHARE_OF_MEMORY = 0.5
_FILES_AT_ONCE = 16


def find(config: AudioDatasetConfig, audio: AudioConfig, objects: ObjectStore) -> PreparedSet:
    """Return the prepared set for the current content of a dataset's files; it may not be prepared yet."""
    return PreparedSet(objects, key_of(config, audio, as_user_error(lambda: local_copy(config).digest())))


def local_copy(config: AudioDatasetConfig, entries: Sequence[Entry] | None = None) -> AudioDatasetConfig:
    """Return the configuration with a copy of its files on this machine if they lie in a bucket.

    Files that changed in the bucket are copied again, and files that were deleted there are deleted from the copy.

    Args:
        config: Configuration of a dataset. Only a `folder` may lie in a bucket.
        entries: Entries whose files are copied; by default the table and all audio files.

    Raises:
        ValueError: If the bucket has no table, or a file is too large to be read.
    """
    if not isinstance(config, Folder) or "://" not in config.path:
        return config
    bucket, folder = ObjectStore(config.path, 60.0), cache_folder() / "recordings" / _hash(config.path)
    etags = {name: _hash(entry.etag) for name, entry in bucket.entries("").items()}
    if config.table not in etags:
        raise ValueError(f"table must be a CSV or Parquet file; {config.path}/{config.table} does not exist")
    audio = {name for name in etags if PurePosixPath(name).suffix.lower() in SUFFIXES}
    # The file beside a copy holds the tag of the object that was copied.
    copied = {path.relative_to(folder).as_posix().removesuffix(".etag") for path in folder.rglob("*.etag")}
    wanted = {config.table, *audio, *copied} if entries is None else {entry.locator[0] for entry in entries}
    # Names of objects may contain `..` or begin with a slash: they must not lead out of the folder.
    tags = {name: folder / f"{name}.etag" for name in wanted if not {"..", "/"} & {*PurePosixPath(name).parts}}
    stale = [name for name, tag in tags.items() if not tag.is_file() or tag.read_text() != etags.get(name)]
    for first in range(0, len(stale), _FILES_AT_ONCE):
        names = stale[first : first + _FILES_AT_ONCE]
        for name in names:
            tags[name].unlink(missing_ok=True)
            (folder / name).unlink(missing_ok=True)
        for name, content in bucket.read_all([name for name in names if name in etags]).items():
            for path, data in ((folder / name, content), (tags[name], etags[name].encode())):
                with atomic_path(path) as draft:
                    draft.write_bytes(data)
    return config.model_copy(update={"path": str(folder)})


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def with_content(
    resolved: ResolvedSpec, objects: ObjectStore, build: Callable[[], PreparedSet] | None = None
) -> ResolvedSpec:
    """Return the spec with the key of its prepared set in `data.content`; computed datasets have no set.

    If the spec does not name a set, `build` prepares it. Without `build` it is looked up by the content of the files.

    Raises:
        UserError: If the set is missing.
    """
    config = resolved.data
    if not isinstance(config, AudioDatasetConfig):
        return resolved
    if config.content is not None:
        prepared = PreparedSet(objects, config.content)
    else:
        prepared = build() if build is not None else find(config, resolved.audio, objects)
    if not prepared.is_whole():
        raise UserError(f"data: not prepared in {objects.uri}; prepare it with `marl-study data build SPEC`")
    return resolved.with_content(prepared.key)


def as_user_error(action: Callable[[], _Result]) -> _Result:
    """Run an action on files of the user and turn its errors into UserErrors."""
    try:
        return action()
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        raise UserError(f"data: {where}{error.strerror or error}") from None
    except ValueError as error:
        raise UserError(f"data: {error}") from None


def load_dataset(prepared: PreparedSet, split: str, device: torch.device, memory_gib: float | None = None) -> Dataset:
    """Load the clips of a prepared set with their spectrograms, split as `marl.data.split_clips` describes.

    Spectrograms that need more than `memory_gib` of device memory, by default half of the free memory, are read from a
    file instead.

    Raises:
        UserError: If the set is damaged, cannot be split, or all its training clips are equal.
    """
    clips, audio = prepared.clips(split), prepared.document.audio
    training = clips.splits["training"].numpy()
    sums = prepared.rows[["sum_db", "square_db"]].to_numpy()[training].sum(axis=0)
    mean, square = (float(value) for value in sums / (len(training) * audio.mel_bands * audio.frames))
    std = max(0.0, square - mean**2) ** 0.5
    if not std > 0:
        raise UserError("data: all training clips are equal, so their log-mels cannot be standardised")
    if memory_gib is None:
        on_cuda = device.type == "cuda"
        free = torch.cuda.mem_get_info(device)[0] if on_cuda else psutil.virtual_memory().available
        memory_gib = free * _SHARE_OF_MEMORY / 2**30
    shape = (len(prepared.rows), audio.mel_bands, audio.frames)
    fits = 2 * math.prod(shape) <= memory_gib * 2**30
    decibels = _on_device(prepared, shape, device) if fits else _in_file(prepared, shape)
    return Dataset(
        clips.value_NC.to(device),
        clips.factors,
        {name: index_n.to(device) for name, index_n in clips.splits.items()},
        clips.waveforms,
        LogMels(decibels, device, mean, std),
        LogMel(audio, mean, std, device),
    )


def _on_device(prepared: PreparedSet, shape: tuple[int, int, int], device: torch.device) -> Tensor:
    decibels_NFT = torch.empty(shape, dtype=torch.float16, device=device)
    for clips, part in prepared.log_mels():
        decibels_NFT[torch.from_numpy(clips).to(device)] = torch.from_numpy(part).to(device)
    return decibels_NFT


def _in_file(prepared: PreparedSet, shape: tuple[int, int, int]) -> NDArray[np.float16]:
    """Memory-map a local file with the spectrograms, creating it first if it does not exist."""
    path = cache_folder() / "data" / f"{prepared.key}.npy"
    if not path.exists():
        with atomic_path(path) as draft:
            array = np.lib.format.open_memmap(draft, mode="w+", dtype=np.float16, shape=shape)
            for clips, part in prepared.log_mels():
                array[clips] = part
            array.flush()
    decibels_NFT: NDArray[np.float16] = np.load(path, mmap_mode="r", allow_pickle=False)
    if decibels_NFT.shape != shape or decibels_NFT.dtype != np.float16:
        raise UserError(f"{path} is not a copy of {prepared.uri}; delete it and it will be created again")
    return decibels_NFT


def dataset_of(resolved: ResolvedSpec, objects: ObjectStore, device: torch.device) -> Dataset:
    """Return the dataset of a resolved spec on a device."""
    data, audio = resolved.data, resolved.audio
    if isinstance(data, ComputedDatasetConfig):
        return data.build(audio, device)
    memory_gib = resolved.spec.resources.data_gib
    prepared = _prepared(data, audio, objects)
    return load_dataset(prepared, data.split, device, None if memory_gib == "auto" else memory_gib)


def shared_dataset_of(resolved: ResolvedSpec, objects: ObjectStore) -> Dataset:
    """Return the dataset on the CPU, with log-mels in memory that is shared with all trainers of this machine.

    The first trainer computes or reads them. Log-mels that do not fit into memory are in a file that all trainers map
    anyway.
    """
    cpu, audio = torch.device("cpu"), resolved.audio
    plugins = " ".join(source.sha256 for source in resolved.plugins)
    content = f"{resolved.data.model_dump_json()} {audio.model_dump_json()} {code_hash()} {plugins}"
    clips = clips_of(resolved, objects)
    size = 4 * len(clips.value_NC) * audio.mel_bands * audio.frames
    with shared_file(f"log-mels-{_hash(content)}", size) as path:
        if not path.exists():
            with _threads(available_cpus()):  # the other trainers wait
                built = dataset_of(resolved, objects, cpu)
            if not built.log_mels.is_resident:
                return built
            statistics = torch.tensor([built.audio.mean_db, built.audio.std_db], dtype=torch.float64)
            with atomic_path(path) as draft:
                save_file({"log_mels": built.log_mels.values_NFT, "statistics": statistics}, draft)
            del built
        mapped = load_file(path)
    mean_db, std_db = mapped["statistics"].tolist()
    standardisation = (mean_db, std_db) if resolved.needs_preparation else ()
    log_mels = LogMels(mapped["log_mels"], cpu, *standardisation)
    return Dataset(**vars(clips), log_mels=log_mels, audio=LogMel(audio, mean_db, std_db, cpu))


@contextmanager
def _threads(number: int) -> Iterator[None]:
    previous = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(previous)


def clips_of(resolved: ResolvedSpec, objects: ObjectStore) -> Clips:
    """Return the clips of a spec on the CPU, without reading or computing spectrograms."""
    data = resolved.data
    if isinstance(data, ComputedDatasetConfig):
        return data.clips(resolved.audio, torch.device("cpu"))
    return _prepared(data, resolved.audio, objects).clips(data.split)


def has_pairs(resolved: ResolvedSpec) -> bool:
    """Return whether the two views of any model are two clips that share factors."""
    return any(config.views.scheme == "factor" for config in resolved.candidates)


def check_pairs(resolved: ResolvedSpec, objects: ObjectStore) -> None:
    """Raise a UserError if the training clips cannot be paired, or more than 1 % of them have no partner."""
    if has_pairs(resolved):
        try:
            Partners(clips_of(resolved, objects), resolved.base_config.views.shared, "training").check()
        except ValueError as error:
            raise UserError(str(error)) from None


def factors_of(resolved: ResolvedSpec, objects: ObjectStore) -> tuple[Factor, ...]:
    """Return the factors of a spec's clips."""
    data = resolved.data
    if isinstance(data, ComputedDatasetConfig):
        return data.factors()
    return _prepared(data, resolved.audio, objects).factors_and_values[0]


def _prepared(data: AudioDatasetConfig, audio: AudioConfig, objects: ObjectStore) -> PreparedSet:
    if data.content is None:
        raise UserError("data: not prepared; prepare it with `marl-study data build SPEC`")
    prepared = PreparedSet(objects, data.content)
    if prepared.document.audio != audio or prepared.document.factors != tuple(data.factor_names):
        raise UserError(
            f"data.content: must name a set with the audio settings and factors of the spec; got {data.content}. "
            "Leave it out to find or prepare the matching set"
        )
    return prepared
