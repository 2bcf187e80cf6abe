"""Configurations and stacks that tests train, and the disturbances that law 1 must withstand."""

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from marl import checkpoint
from marl.checkpoint import ModelMetadata
from marl.config import Config, ViewsConfig
from marl.data import Dataset
from marl.models import Architecture, ModelConfig
from marl.objective import ActiveTerms
from marl.stack import Snapshot, Stack

SMALL = {"width": 16, "embedding": 16, "hidden": 32}
PROBAND = Config.model_validate(
    {
        "model": SMALL,
        "latent": {"private": 3, "shared": 2, "fusion": "poe"},
        "loss": {"private": {"alpha": 0.5, "gamma": 2.0}, "shared": {"beta": 3.0}},
        "contrast": {"strategy": "infonce", "shared": 40.0, "private": 1.0},
    }
)
OTHERS = (
    Config.model_validate({"model": SMALL, "latent": {"private": 5, "shared": 4, "fusion": "mean"}}),
    Config.model_validate({"model": SMALL, "latent": {"private": 1, "shared": 1, "fusion": "swap"}}),
)
DIVERGING = OTHERS[0].model_copy(update={"optimiser": PROBAND.optimiser.model_copy(update={"learning_rate": 1e12})})
ACTIVE_TERMS = ActiveTerms.of_all([PROBAND, *OTHERS])
PATCH, CONV = PROBAND.model, ModelConfig(kind="conv", channels=16, hidden=32)

needs_compiler = pytest.mark.skipif(
    not any(shutil.which(name) for name in ("g++", "clang++", "c++")), reason="no C++ compiler (g++, clang++ or c++)"
)


def of(model: ModelConfig, config: Config) -> Config:
    """Return the configuration with another network."""
    return config.model_copy(update={"model": model})


def new_stack(
    dataset: Dataset,
    lanes: int,
    model: ModelConfig = PATCH,
    views: ViewsConfig | None = None,
    pairs: int = 16,
    **options: Any,
) -> Stack:
    """Return an empty stack that holds PROBAND and OTHERS.

    Args:
        options: `precision` and `compiled`.
    """
    architecture = Architecture(64, 64, model, private=5, shared=4)
    return Stack(architecture, lanes, dataset, views or ViewsConfig(), pairs, ACTIVE_TERMS, **options)


def train(stack: Stack, steps: int) -> None:
    """Train all lanes."""
    for _ in range(steps):
        stack.step()


def empty(stack: Stack) -> None:
    """Detach all lanes."""
    for lane, config in enumerate(stack._configs):
        if config is not None:
            stack.detach(lane)


def train_alone(stack: Stack, proband: Config, steps: int) -> Snapshot:
    """Train a proband (seed 7) without neighbours and empty the stack."""
    lane = stack.attach(proband, seed=7)
    train(stack, steps)
    snapshot = stack.snapshot(lane)
    empty(stack)
    return snapshot


def train_disturbed(
    stack: Stack,
    probands: Mapping[str, Config],
    steps: int,
    others: Sequence[Config] = OTHERS,
    diverging: Config = DIVERGING,
) -> dict[str, Snapshot]:
    """Train probands (seed 7) among neighbours, interrupt them half way, resume them in other lanes; return snapshots.

    One neighbour is older, one diverges, and one is attached during the interruption. Snapshots pass through the bytes
    of a checkpoint.
    """
    old = stack.attach(others[0], seed=7)
    wrong = stack.attach(diverging, seed=1)
    train(stack, 7)
    names = list(reversed(probands))
    lanes = {name: stack.attach(probands[name], seed=7) for name in names}
    train(stack, steps // 2)
    assert stack.diverged().keys() == {wrong}
    half_way = {name: stack.snapshot(lane) for name, lane in lanes.items()}
    for lane in (old, *lanes.values()):
        stack.detach(lane)
    old = stack.attach(others[1], seed=3)
    train(stack, 5)
    stack.detach(old)
    for name in names:
        restored = through_bytes(probands[name], stack.dataset, half_way[name])
        lane = stack.attach(probands[name], seed=7, snapshot=restored)
        assert lane != lanes[name]
        lanes[name] = lane
    train(stack, steps - steps // 2)
    return {name: stack.snapshot(lane) for name, lane in lanes.items()}


def assert_same_bits(first: Snapshot, second: Snapshot) -> None:
    """Assert that two replicates are at the same step with the same parameters and moments."""
    assert first.step == second.step
    for part in ("parameters", "heads", "first_moment", "second_moment"):
        ours, theirs = getattr(first, part), getattr(second, part)
        assert ours.keys() == theirs.keys()
        for name, value in ours.items():
            assert torch.equal(value, theirs[name]), f"{part} of {name}"


def metadata_of(config: Config, dataset: Dataset, step: int, seed: int = 0) -> ModelMetadata:
    """Return what a checkpoint says of a model beside its weights."""
    audio = dataset.audio
    return ModelMetadata(
        config=config,
        audio=audio.config,
        mean_db=audio.mean_db,
        std_db=audio.std_db,
        shared_factors=("timbre",),
        seed=seed,
        step=step,
    )


def through_bytes(config: Config, dataset: Dataset, snapshot: Snapshot) -> Snapshot:
    """Return the snapshot as it is read from the bytes of its checkpoint."""
    metadata = metadata_of(config, dataset, snapshot.step)
    metadata = ModelMetadata.model_validate_json(metadata.model_dump_json())
    return checkpoint.load_snapshot(metadata, checkpoint.model_bytes(snapshot), checkpoint.state_bytes(snapshot))


def save_trained(config: Config, steps: int, dataset: Dataset, folder: Path) -> Stack:
    """Train a model and save it to a folder as an exported one is. Return its stack; the model is in lane 0."""
    stack = Stack(Architecture(64, 64, config.model, 8, 8), 1, dataset, config.views, 16, ActiveTerms.of(config))
    stack.attach(config, seed=0)
    train(stack, steps)
    snapshot = stack.snapshot(0)
    (folder / "model.safetensors").write_bytes(checkpoint.model_bytes(snapshot))
    (folder / "config.json").write_text(metadata_of(config, dataset, steps).model_dump_json())
    return stack
