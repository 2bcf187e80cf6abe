"""Compiled steps: law 1 holds in them too, and they do what the plain step does."""

import shutil

import numpy as np
import pytest
import torch

from marl.audio import AudioConfig
from marl.config import ViewsConfig
from marl.data import Dataset
from marl.data.syntone import SynTone, build
from marl.evaluation import INTERMEDIATE, evaluate
from marl.models import Architecture
from marl.stack import Stack
from tests.marl.stack.test_stack import ACTIVE_TERMS, DIVERGING, OTHERS, PROBAND, assert_same_bits, train

needs_compiler = pytest.mark.skipif(
    not any(shutil.which(name) for name in ("g++", "clang++", "c++")), reason="no C++ compiler (g++, clang++ or c++)"
)
HOW = [
    pytest.param("cpu", "float32", marks=[pytest.mark.slow, needs_compiler]),
    pytest.param("cpu", "bfloat16", marks=[pytest.mark.slow, needs_compiler]),
    pytest.param("cuda", "float32", marks=pytest.mark.gpu),
    pytest.param("cuda", "bfloat16", marks=pytest.mark.gpu),
]
LANES, STEPS = 6, 40


@pytest.fixture(scope="module")
def dataset_on(small_dataset):
    """The small data set on a device."""
    made: dict[str, Dataset] = {"cpu": small_dataset}

    def get(device: str) -> Dataset:
        if device not in made:
            made[device] = build(SynTone(frequencies=40, amplitudes=4), AudioConfig(), torch.device(device))
        return made[device]

    return get


def new_stack(dataset: Dataset, precision: str, compiled: bool = True) -> Stack:
    return Stack(
        Architecture(64, 64, PROBAND.model, private=5, shared=4),
        LANES,
        dataset,
        ViewsConfig(),
        16,
        ACTIVE_TERMS,
        precision=precision,
        compiled=compiled,
    )


def vector(parameters) -> torch.Tensor:
    return torch.cat([value.flatten() for value in parameters.values()])


def assert_alike(found: torch.Tensor, expected: torch.Tensor, allowed: float) -> None:
    assert (found - expected).norm() <= allowed * expected.norm()


@pytest.mark.parametrize(("device", "precision"), HOW)
def test_law_one_to_the_bit_and_the_first_steps_as_in_plain_float32(dataset_on, device, precision):
    dataset = dataset_on(device)
    alone = new_stack(dataset, precision)
    lane = alone.attach(PROBAND, seed=7)
    plain = new_stack(dataset, "float32", compiled=False)
    plain.attach(PROBAND, seed=7)
    start = vector(alone.snapshot(lane).parameters)
    # bfloat16 keeps eight bits, and a first gradient is a sum of much that cancels.
    allowed = {"float32": 1e-4, "bfloat16": 0.3}[precision]
    for steps in (1, 2):
        train(alone, steps)
        train(plain, steps)
        for part in ("first_moment", "second_moment"):
            assert_alike(vector(getattr(alone.snapshot(lane), part)), vector(getattr(plain.snapshot(0), part)), allowed)
        moved, expected = (vector(stack.snapshot(0).parameters) - start for stack in (alone, plain))
        assert_alike(moved, expected, allowed)
        # Rates of another step would make it another length: 0.74 of it at the first.
        assert float(moved.norm()) == pytest.approx(float(expected.norm()), rel=0.02)
    train(alone, STEPS - 3)

    # In another lane, among neighbours of other sizes and ages, one diverging; taken away half way and put elsewhere.
    crowded = new_stack(dataset, precision)
    crowded.attach(OTHERS[0], seed=7)
    crowded.attach(DIVERGING, seed=1)
    train(crowded, 7)
    lane = crowded.attach(PROBAND, seed=7)
    train(crowded, STEPS // 2)
    assert crowded.diverged().keys() == {1}
    half_way = crowded.snapshot(lane)
    crowded.detach(lane)
    crowded.detach(0)
    crowded.attach(OTHERS[1], seed=3)
    lane = crowded.attach(PROBAND, seed=7, snapshot=half_way)
    train(crowded, STEPS - STEPS // 2)
    assert_same_bits(crowded.snapshot(lane), alone.snapshot(0))


@pytest.mark.parametrize(("device", "precision"), HOW)
def test_after_training_differences_stay_below_the_spread_over_seeds(dataset_on, device, precision):
    def final(stack: Stack) -> np.ndarray:
        for seed in range(stack.lanes):
            stack.attach(PROBAND, seed)
        train(stack, 100)
        metrics = evaluate(stack.models, ["timbre"], INTERMEDIATE).metrics
        names = ("fidelity/log_mel_rmse_db", "disentanglement/linear_separation", "disentanglement/mig")
        return np.array([[row[name] for name in names] for row in metrics])

    plain = final(new_stack(dataset_on(device), "float32", compiled=False))
    other = final(new_stack(dataset_on(device), precision))
    differences = np.abs(plain.mean(axis=0) - other.mean(axis=0))
    assert (differences < plain.std(axis=0, ddof=1)).all(), (differences, plain.std(axis=0, ddof=1))
