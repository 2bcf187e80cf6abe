"""Law 1 with spectrograms on the host: training ends with the same bits as with spectrograms on the device."""

import dataclasses

import numpy as np
import pytest
import torch

from marl.config import ViewsConfig
from marl.data import Dataset, HostBatchSource, LogMels, PairSampler
from marl.evaluation import INTERMEDIATE, evaluate
from tests.marl.cases import OTHERS, PROBAND, assert_same_bits, needs_compiler, new_stack, train_disturbed


@pytest.fixture
def resident(small_dataset) -> Dataset:
    """Small dataset as a prepared set stores it: float16, dB, on the device."""
    audio = small_dataset.audio
    decibels = audio.decibels(small_dataset.log_mels.values_NFT).to(torch.float16)
    return dataclasses.replace(small_dataset, log_mels=LogMels(decibels, None, audio.mean_db, audio.std_db))


@pytest.fixture
def streamed(resident, tmp_path) -> Dataset:
    """Same dataset in a memory-mapped file."""
    path = tmp_path / "log_mels.npy"
    np.save(path, resident.log_mels.values_NFT.numpy())
    audio = resident.audio
    log_mels = LogMels(np.load(path, mmap_mode="r"), torch.device("cpu"), audio.mean_db, audio.std_db)
    assert not log_mels.is_resident
    return dataclasses.replace(resident, log_mels=log_mels)


def assert_train_alike(streamed: Dataset, resident: Dataset, **options) -> None:
    """Train two replicates among neighbours, with an interruption; compare their bits and metrics."""
    stacks = [new_stack(dataset, 4, **options) for dataset in (streamed, resident)]
    ours, theirs = (train_disturbed(stack, {"proband": PROBAND, "other": OTHERS[1]}, 10) for stack in stacks)
    for name, snapshot in theirs.items():
        assert_same_bits(ours[name], snapshot)
    found, expected = (evaluate(stack.models, ["timbre"], INTERMEDIATE).metrics for stack in stacks)
    np.testing.assert_equal(found, expected)


@pytest.mark.parametrize("scheme", ["factor", pytest.param("segment", marks=pytest.mark.slow)])
def test_streamed_clips_give_the_same_bits_and_metrics_as_resident_ones(resident, streamed, scheme):
    assert_train_alike(streamed, resident, views=ViewsConfig(scheme=scheme))


@needs_compiler
@pytest.mark.parametrize(
    "precision",
    [pytest.param("float32", marks=pytest.mark.nightly), pytest.param("bfloat16", marks=pytest.mark.slow)],
)
def test_compiled_stacks_give_streamed_clips_the_same_bits_and_metrics_as_resident_ones(resident, streamed, precision):
    assert_train_alike(streamed, resident, precision=precision, compiled=True)


def test_the_feed_returns_the_clips_of_the_requested_step(resident, streamed):
    sampler = PairSampler(streamed, ["timbre"])
    source = HostBatchSource(streamed.log_mels, sampler, lanes=2, pairs=16)
    seeds = torch.tensor([0, 5])
    # Consecutive steps, then a jump, as when another replicate is attached.
    for steps in ([0, 0], [1, 1], [2, 2], [700, 3], [701, 4]):
        step_K = torch.tensor(steps)
        source.prefetch(seeds, step_K, step_K + 1)
        clips = sampler.draw(seeds, step_K, 16).clips_KVB.flatten()
        assert torch.equal(source.take(clips), resident.log_mels[clips])


def test_float16_decibels_are_precise_to_a_fiftieth_of_a_db(resident, small_dataset):
    clips = small_dataset.splits["validation"]
    error = (resident.log_mels[clips] - small_dataset.log_mels[clips]) * small_dataset.audio.std_db
    assert error.abs().max() < 0.02
