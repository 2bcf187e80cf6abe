import numpy as np
import pytest
import torch

from marl.data import LogMels
from marl.data.dataset import UNKNOWN
from study.datasets import load_dataset
from tests.study.datasets.tones import TIME_S

CPU = torch.device("cpu")


def test_loaded_clips_equal_the_prepared_ones(tones):
    dataset = load_dataset(tones, "clip", CPU)
    assert dataset.factor_names == ("pitch", "voice")
    assert len(dataset.value_NC) == 59
    assert dataset.factors[1].values == ("voice 0", "voice 1", "voice 2")
    assert dataset.value_NC[9].tolist() == [9, UNKNOWN]
    expected = 0.5 * np.sin(2 * np.pi * (100.0 + 10 * 41) * TIME_S)
    np.testing.assert_allclose(dataset.waveforms([41, 3])[0], expected, atol=1e-4)
    log_mel = dataset.audio(dataset.waveforms([41, 3, 20]))
    deviation = (dataset.log_mels[torch.tensor([41, 3, 20])] - log_mel) * dataset.audio.std_db
    assert deviation.abs().max() < 0.02


def test_training_clips_are_standardised_by_their_own_mean_and_deviation(tones):
    dataset = load_dataset(tones, "clip", CPU)
    training = dataset.log_mels[dataset.splits["training"]].double()
    assert float(training.mean()) == pytest.approx(0.0, abs=1e-5)
    assert float(training.std()) == pytest.approx(1.0, abs=1e-4)


def test_log_mels_read_from_a_file_equal_those_in_memory(tones):
    resident, streamed = load_dataset(tones, "clip", CPU), load_dataset(tones, "clip", CPU, memory_gib=0.0)
    assert isinstance(resident.log_mels, LogMels)
    assert resident.log_mels.is_resident
    assert not streamed.log_mels.is_resident
    every = torch.arange(59)
    assert torch.equal(resident.log_mels[every], streamed.log_mels[every])
    assert torch.equal(resident.value_NC, streamed.value_NC)


def test_clips_with_unknown_factors_are_not_held_out_and_train_no_probe(tones):
    dataset = load_dataset(tones, "clip", CPU)
    for clips in (dataset.splits["validation"], dataset.splits["test"], dataset.probe_train_clips("validation")):
        assert (dataset.value_NC[clips] != UNKNOWN).all()
    assert (dataset.value_NC[dataset.splits["training"]] == UNKNOWN).any()


def test_clips_have_the_same_indices_with_and_without_spectrograms(tones):
    known, dataset = tones.clips("group"), load_dataset(tones, "group", CPU)
    assert torch.equal(known.value_NC, dataset.value_NC)
    assert all(torch.equal(known.splits[name], clips) for name, clips in dataset.splits.items())
