"""Checkpoints of models as bytes: weights in safetensors, metadata in JSON. Reading them executes nothing.

Bytes that are not the weights of the model in the metadata raise ValueError.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from pydantic import Field, ValidationError

from marl.audio import AudioConfig, LogMel
from marl.base_config import BaseConfig
from marl.config import Config
from marl.extractor import FeatureExtractor
from marl.models import NETWORKS, Architecture, Network, Parameters, build_network
from marl.objective import ActiveTerms
from marl.registry import PluginError, PluginSource, check_source, is_reference
from marl.stack import Snapshot

__all__ = ["MANIFEST_FILE", "METADATA_FILE", "MODEL_FILE", "STATE_FILE", "ModelMetadata", "build_extractor", "load"]
__all__ += ["load_parameters", "load_snapshot", "model_bytes", "state_bytes", "unloaded_network"]

MODEL_FILE = "model.safetensors"
STATE_FILE = "state.safetensors"
METADATA_FILE = "config.json"
MANIFEST_FILE = "manifest.json"
_MOMENTS = ("first_moment", "second_moment")
_HEADS = "heads"


class ModelMetadata(BaseConfig):
    """Everything but the weights that is needed to use a model.

    Attributes:
        audio: Log-mels that the model encodes.
        mean_db: Mean of the log-mels of the training clips.
        std_db: Standard deviation of the log-mels of the training clips.
        shared_factors: Factors that the two views of a training pair had in common.
        plugins: Sources of the plug-ins that the model was made with.
    """

    format: int = Field(1, ge=1, le=1)
    config: Config
    audio: AudioConfig
    mean_db: float
    std_db: float = Field(gt=0)
    shared_factors: tuple[str, ...]
    seed: int = Field(ge=0)
    step: int = Field(ge=0)
    plugins: tuple[PluginSource, ...] = ()


def model_bytes(snapshot: Snapshot) -> bytes:
    """Return the weights of a model as safetensors, without the heads, which only training uses."""
    return safetensors.torch.save(snapshot.parameters)


def state_bytes(snapshot: Snapshot) -> bytes:
    """Return the weights of the heads and the moments of Adam as safetensors; with the model, training can resume."""
    tensors = (snapshot.heads, snapshot.first_moment, snapshot.second_moment)
    parts = dict(zip((_HEADS, *_MOMENTS), tensors, strict=True))
    return safetensors.torch.save(
        {f"{part}/{name}": value for part, values in parts.items() for name, value in values.items()}
    )


def load_snapshot(metadata: ModelMetadata, model: bytes, state: bytes) -> Snapshot:
    """Return the snapshot from the results of `model_bytes` and `state_bytes`."""
    state_tensors = _tensors(state, STATE_FILE)

    def part(name: str) -> Parameters:
        prefix = f"{name}/"
        return {key.removeprefix(prefix): value for key, value in state_tensors.items() if key.startswith(prefix)}

    heads = part(_HEADS)
    # The metadata has no number of groups, so the size of the probe is taken from its weights.
    groups = len(heads.get("probe.private.out.bias", ()))
    network = build_network(_architecture(metadata), ActiveTerms.of(metadata.config).heads, groups)
    parameters, moments = _tensors(model, MODEL_FILE), [part(name) for name in _MOMENTS]
    for values in (parameters | heads, *moments):
        _check_shapes(network, values)
    return Snapshot(metadata.step, parameters, heads, *moments)


def load_parameters(metadata: ModelMetadata, model: bytes, name: str = MODEL_FILE) -> Parameters:
    """Return the weights from the result of `model_bytes`; errors contain the name of the file."""
    parameters = _tensors(model, name)
    _check_shapes(build_network(_architecture(metadata)), parameters)
    return parameters


def load(path: str | Path, device: torch.device | str = "cpu", plugins: Iterable[str] = ()) -> FeatureExtractor:
    """Return the feature extractor in a folder with `model.safetensors` and `config.json`.

    If the folder has a manifest, as exported models do, the files must have the SHA-256 that it states.

    Args:
        path: Folder of the model.
        device: Device that the model computes on.
        plugins: Networks that may be imported, such as `my_nets:MyNetwork`. A model whose network is a plug-in needs
            it here, because no file may choose code to run. The module is imported as Python finds it, if its source is
            the one that the model was trained with.

    Raises:
        FileNotFoundError: If a file is missing.
        ValueError: If a file is damaged, or the model needs a plug-in that is not in `plugins`, is missing or has
            another source; the message names it.
    """
    folder = Path(path)
    files = {name: (folder / name).read_bytes() for name in (METADATA_FILE, MODEL_FILE)}
    _check_manifest(folder, files)
    _load_network(folder, files[METADATA_FILE], set(plugins))
    try:
        metadata = ModelMetadata.model_validate_json(files[METADATA_FILE])
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(map(str, first["loc"]))
        raise ValueError(f"{folder / METADATA_FILE}: {field or 'JSON'}: {first['msg']}") from None
    return build_extractor(metadata, files[MODEL_FILE], device, str(folder / MODEL_FILE))


def build_extractor(
    metadata: ModelMetadata, model: bytes, device: torch.device | str = "cpu", name: str = MODEL_FILE
) -> FeatureExtractor:
    """Return a feature extractor from the result of `model_bytes`; errors contain the name of the file."""
    parameters = load_parameters(metadata, model, name)
    log_mel = LogMel(metadata.audio, metadata.mean_db, metadata.std_db, device)
    on_device = {name: value.to(device) for name, value in parameters.items()}
    return FeatureExtractor(build_network(_architecture(metadata)), on_device, log_mel, metadata.shared_factors)


def unloaded_network(metadata: bytes) -> str | None:
    """Return the plug-in that is the network of a model, if it is not loaded; None for other or damaged metadata."""
    try:
        kind = json.loads(metadata)["config"]["model"]["kind"]
    except (ValueError, KeyError, TypeError):
        return None
    return kind if is_reference(kind) and kind not in NETWORKS else None


def _load_network(folder: Path, metadata: bytes, allowed: set[str]) -> None:
    """Import the network of a model if it is a plug-in, is allowed, and has the source that the metadata state."""
    try:
        content: dict[str, Any] = json.loads(metadata)
        kind = content["config"]["model"]["kind"]
        recorded = tuple(map(PluginSource.model_validate, content.get("plugins", ())))
    except (ValueError, KeyError, TypeError, AttributeError):
        return  # validation of the metadata names the reason
    if not is_reference(kind):
        return
    if unloaded_network(metadata) and kind not in allowed:
        module = kind.partition(":")[0].partition(".")[0]
        source = next((f" ({source})" for source in recorded if source.module == module), "")
        raise PluginError(
            f"{folder}: its network is the plug-in {kind}{source}, which is imported only if you name it: use "
            f"marl.load(folder, plugins=[{kind!r}]) or --plugin {kind}, where Python finds the module {module}"
        )
    check_source(kind, recorded, f"the model in {folder}")
    NETWORKS.load(kind)


def _check_manifest(folder: Path, files: Mapping[str, bytes]) -> None:
    try:
        manifest = json.loads((folder / MANIFEST_FILE).read_bytes())
        hashes = {name: str(manifest["sha256"][name]) for name in files}
    except FileNotFoundError:
        return
    except (ValueError, KeyError, TypeError):
        names = " and ".join(files)
        raise ValueError(f"{folder / MANIFEST_FILE} is damaged: it does not state the SHA-256 of {names}") from None
    for name, content in files.items():
        if hashlib.sha256(content).hexdigest() != hashes[name]:
            raise ValueError(
                f"{folder / name} was changed after the export: its SHA-256 differs from {MANIFEST_FILE}; export the "
                "model again"
            )


def _architecture(metadata: ModelMetadata) -> Architecture:
    """Return the architecture of the model, without the padding of a stack."""
    audio, config = metadata.audio, metadata.config
    return Architecture(audio.mel_bands, audio.frames, config.model, config.latent.private, config.latent.shared)


def _tensors(data: bytes, name: str) -> Parameters:
    try:
        return safetensors.torch.load(data)
    except safetensors.SafetensorError as error:
        raise ValueError(f"{name} is not a safetensors file: {error}") from None


def _check_shapes(network: Network, parameters: Parameters) -> None:
    shapes = {name: tuple(value.shape) for name, value in parameters.items()}
    for name in sorted(network.shapes.keys() | shapes.keys()):
        if (shape := shapes.get(name)) != (expected := network.shapes.get(name)):
            raise ValueError(f"weights do not fit the model: {name} must have shape {expected}; got {shape}")
        if parameters[name].dtype != torch.float32:
            raise ValueError(f"weights do not fit the model: {name} must be float32; got {parameters[name].dtype}")
