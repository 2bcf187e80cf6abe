"""Compiled steps keep law 1 and agree with the plain step."""

import numpy as np
import pytest
import torch

from marl.audio import AudioConfig
from marl.data import Dataset
from marl.data.syntone import SynTone
from marl.evaluation import INTERMEDIATE, evaluate
from marl.stack import Stack
from tests.marl.cases import PROBAND, assert_same_bits, empty, needs_compiler, train, train_disturbed

HOW = [
    pytest.param("cpu", "float32", marks=[pytest.mark.slow, needs_compiler]),
    pytest.param("cpu", "bfloat16", marks=[pytest.mark.nightly, needs_compiler]),
    pytest.param("cuda", "float32", marks=pytest.mark.gpu),
    pytest.param("cuda", "bfloat16", marks=pytest.mark.gpu),
]
LANES, STEPS = 6, 40


@pytest.fixture(scope="module")
def dataset_on(small_dataset):
    """Small dataset on a device."""
    made: dict[str, Dataset] = {"cpu": small_dataset}

    def get(device: str) -> Dataset:
        if device not in made:
            made[device] = SynTone(frequencies=40, amplitudes=4).build(AudioConfig(), torch.device(device))
        return made[device]

    return get


def vector(parameters) -> torch.Tensor:
    return torch.cat([value.flatten() for value in parameters.values()])


def assert_alike(found: torch.Tensor, expected: torch.Tensor, allowed: float) -> None:
    assert (found - expected).norm() <= allowed * expected.norm()


@pytest.mark.parametrize(("device", "precision"), HOW)
def test_compiled_steps_keep_law_1_and_agree_with_plain_float32_at_first(shared_stack, dataset_on, device, precision):
    dataset = dataset_on(device)
    alone = shared_stack(LANES, dataset=dataset, precision=precision, compiled=True)
    lane = alone.attach(PROBAND, seed=7)
    plain = shared_stack(LANES, dataset=dataset)
    plain.attach(PROBAND, seed=7)
    start = vector(alone.snapshot(lane).parameters)
    # bfloat16 has eight bits, and the terms of a first gradient cancel largely.
    allowed = {"float32": 1e-4, "bfloat16": 0.3}[precision]
    for steps in (1, 2):
        train(alone, steps)
        train(plain, steps)
        for part in ("first_moment", "second_moment"):
            assert_alike(vector(getattr(alone.snapshot(lane), part)), vector(getattr(plain.snapshot(0), part)), allowed)
        moved, expected = (vector(stack.snapshot(0).parameters) - start for stack in (alone, plain))
        assert_alike(moved, expected, allowed)
        # The learning rate of another step would change the length, to 0.74 at the first step.
        assert float(moved.norm()) == pytest.approx(float(expected.norm()), rel=0.02)
    train(alone, STEPS - 3)
    expected = alone.snapshot(0)
    empty(alone)
    assert_same_bits(train_disturbed(alone, {"proband": PROBAND}, STEPS)["proband"], expected)


@pytest.mark.parametrize(("device", "precision"), HOW)
def test_compiled_training_differs_less_than_seeds_do(shared_stack, dataset_on, device, precision):
    def final(stack: Stack) -> np.ndarray:
        found = []
        for _ in range(3):  # the standard error of the difference of means is then a third of a standard deviation
            for seed in range(len(found), len(found) + stack.lanes):
                stack.attach(PROBAND, seed)
            train(stack, 100)
            found += evaluate(stack.models, ["timbre"], INTERMEDIATE).metrics
            empty(stack)
        names = ("fidelity/log_mel_rmse_db", "disentanglement/linear_separation", "disentanglement/mig")
        return np.array([[row[name] for name in names] for row in found])

    plain = final(shared_stack(LANES, dataset=dataset_on(device)))
    other = final(shared_stack(LANES, dataset=dataset_on(device), precision=precision, compiled=True))
    differences = np.abs(plain.mean(axis=0) - other.mean(axis=0))
    assert (differences < plain.std(axis=0, ddof=1)).all(), (differences, plain.std(axis=0, ddof=1))
