"""A trained model as bytes: weights in safetensors, everything else in JSON. Nothing in it is ever executed."""

from pathlib import Path

import safetensors
import safetensors.torch
import torch
from pydantic import Field, ValidationError

from marl.audio import AudioConfig, LogMel
from marl.base_config import BaseConfig
from marl.config import Config
from marl.extractor import FeatureExtractor
from marl.models import Architecture, Network, Parameters, network_of
from marl.models.heads import head_of
from marl.objective import ActiveTerms
from marl.stack import Snapshot

__all__ = [
    "DESCRIPTION_FILE",
    "MODEL_FILE",
    "STATE_FILE",
    "Description",
    "architecture_of",
    "extractor_of",
    "load",
    "model_bytes",
    "parameters_of",
    "restore",
    "state_bytes",
]

MODEL_FILE = "model.safetensors"
STATE_FILE = "state.safetensors"
DESCRIPTION_FILE = "config.json"
_MOMENTS = ("first_moment", "second_moment")
_HEADS = "heads"


class Description(BaseConfig):
    """What must be known of a model beside its weights.

    Attributes:
        format: of the checkpoint.
        config: what was trained.
        audio: the spectrograms that it takes.
        mean_db: mean of the training clips' log-mel, dB.
        std_db: their standard deviation, dB.
        shared_factors: what the two views of a pair had in common.
        seed: of the replicate.
        step: steps trained.
    """

    format: int = Field(1, ge=1, le=1)
    config: Config
    audio: AudioConfig
    mean_db: float
    std_db: float = Field(gt=0)
    shared_factors: tuple[str, ...]
    seed: int = Field(ge=0)
    step: int = Field(ge=0)


def architecture_of(description: Description) -> Architecture:
    """The architecture of the model alone, without padding."""
    audio, config = description.audio, description.config
    return Architecture(audio.mel_bands, audio.frames, config.model, config.latent.private, config.latent.shared)


def model_bytes(snapshot: Snapshot) -> bytes:
    """Weights of a model without heads, which only training knows, safetensors."""
    return safetensors.torch.save({name: value for name, value in snapshot.parameters.items() if not head_of(name)})


def state_bytes(snapshot: Snapshot) -> bytes:
    """What training needs beside the weights to go on: those of heads, and the moments of Adam, safetensors."""
    heads = {name: value for name, value in snapshot.parameters.items() if head_of(name)}
    parts = dict(zip((_HEADS, *_MOMENTS), (heads, snapshot.first_moment, snapshot.second_moment), strict=True))
    return safetensors.torch.save(
        {f"{part}/{name}": value for part, values in parts.items() for name, value in values.items()}
    )


def restore(description: Description, model: bytes, state: bytes) -> Snapshot:
    """The snapshot that `model_bytes` and `state_bytes` were made of.

    Raises:
        ValueError: when the bytes are not the weights of the model that is described.
    """
    state_tensors = _tensors(state, STATE_FILE)

    def part(name: str) -> Parameters:
        prefix = f"{name}/"
        return {key.removeprefix(prefix): value for key, value in state_tensors.items() if key.startswith(prefix)}

    heads = part(_HEADS)
    # A probe has as many outputs as there were groups, which the description does not know: it is taken as it is.
    groups = max((len(value) for name, value in heads.items() if name == "probe.private.out.bias"), default=0)
    network = network_of(architecture_of(description), ActiveTerms.of(description.config).heads, groups)
    parts = [_tensors(model, MODEL_FILE) | heads, *map(part, _MOMENTS)]
    for values in parts:
        _check_shapes(network, values)
    return Snapshot(description.step, *parts)


def parameters_of(description: Description, model: bytes, name: str = MODEL_FILE) -> Parameters:
    """The weights that `model_bytes` was made of.

    Raises:
        ValueError: when the bytes are not the weights of the model that is described; the message has the name.
    """
    parameters = _tensors(model, name)
    _check_shapes(network_of(architecture_of(description)), parameters)
    return parameters


def load(path: str | Path, device: torch.device | str = "cpu") -> FeatureExtractor:
    """A ready feature extractor from a folder with `model.safetensors` and `config.json`.

    Raises:
        FileNotFoundError: when one of the two is missing.
        ValueError: when a file is not what it should be; the message names it.
    """
    folder = Path(path)
    try:
        description = Description.model_validate_json((folder / DESCRIPTION_FILE).read_bytes())
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        raise ValueError(f"{folder / DESCRIPTION_FILE}: {field or 'JSON'}: {first['msg']}") from None
    return extractor_of(description, (folder / MODEL_FILE).read_bytes(), device, str(folder / MODEL_FILE))


def extractor_of(
    description: Description, model: bytes, device: torch.device | str = "cpu", name: str = MODEL_FILE
) -> FeatureExtractor:
    """A ready feature extractor from what `model_bytes` made.

    Raises:
        ValueError: when the bytes are not the weights of the model that is described; the message has the name.
    """
    parameters = parameters_of(description, model, name)
    log_mel = LogMel(description.audio, description.mean_db, description.std_db, device)
    network = network_of(architecture_of(description))
    on_device = {name: value.to(device) for name, value in parameters.items()}
    return FeatureExtractor(network, on_device, log_mel, description.shared_factors)


def _tensors(data: bytes, name: str) -> Parameters:
    try:
        return safetensors.torch.load(data)
    except safetensors.SafetensorError as error:
        raise ValueError(f"{name} is not a safetensors file: {error}") from None


def _check_shapes(network: Network, parameters: Parameters) -> None:
    expected = network.shapes
    found = {name: tuple(value.shape) for name, value in parameters.items()}
    for name in sorted(expected.keys() | found.keys()):
        if expected.get(name) != found.get(name):
            raise ValueError(
                f"weights do not fit the model: {name} should be {expected.get(name)}, is {found.get(name)}"
            )
        if parameters[name].dtype != torch.float32:
            raise ValueError(f"weights do not fit the model: {name} should be float32, is {parameters[name].dtype}")
