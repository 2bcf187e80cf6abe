import numpy as np
import pytest
import torch
from scipy import signal

from marl.audio import AudioConfig
from marl.data.syntone import TIMBRES, SynTone, amplitudes, frequencies_hz, synthesise
from tests.messages import mentions


def test_frequencies_and_amplitudes_are_the_published_ones():
    config = SynTone()
    np.testing.assert_allclose(frequencies_hz(config).numpy(), np.linspace(440, 8000, 400), rtol=1e-14)
    np.testing.assert_allclose(amplitudes(config).numpy(), np.linspace(0.1, 1.0, 20), rtol=1e-14)


@pytest.mark.parametrize("hz", [440.0, 1003.7, 5432.1])
def test_waveforms_are_the_naive_ones_of_scipy(hz):
    phase = 2 * np.pi * hz * np.arange(16_000) / 16_000
    expected = {
        "sine": np.sin(phase),
        "triangle": signal.sawtooth(phase, 0.5),
        "sawtooth": signal.sawtooth(phase),
        "square": signal.square(phase),
    }
    for timbre in TIMBRES:
        ours = synthesise(timbre, torch.tensor(hz, dtype=torch.float64), 16_000, 16_000).numpy()
        # At a discontinuity the last bit of the phase decides between both sides.
        agrees = np.isclose(ours, expected[timbre], atol=1e-9)
        assert agrees.mean() > 0.999, timbre


def test_unknown_timbres_are_rejected():
    with pytest.raises(ValueError, match=mentions("sine", "triangle", "sawtooth", "square", "'noise'")):
        synthesise("noise", torch.tensor(440.0), 10, 16_000)


def test_spectrograms_by_the_amplitude_shortcut_equal_those_of_the_waveforms(small_dataset):
    clips = torch.randperm(640, generator=torch.Generator().manual_seed(0))[:64]
    direct = small_dataset.audio(small_dataset.waveforms(clips.tolist()))
    # Within 0.0005 dB everywhere: float32 rounding of quiet bins next to loud ones, before the logarithm.
    torch.testing.assert_close(small_dataset.log_mels[clips], direct, atol=3e-5, rtol=0)


def test_every_combination_occurs_once_and_is_named_by_its_factors(small_dataset):
    values = small_dataset.value_NC
    assert small_dataset.factor_names == ("timbre", "frequency", "amplitude") == SynTone.factor_names
    assert len(values.unique(dim=0)) == len(values) == 4 * 40 * 4
    assert [len(factor.values) for factor in small_dataset.factors] == [4, 40, 4]


def test_clips_can_be_listed_without_spectrograms(small_dataset):
    known = SynTone(frequencies=40, amplitudes=4).clips(AudioConfig(), torch.device("cpu"))
    assert torch.equal(known.value_NC, small_dataset.value_NC)
    assert known.factors == small_dataset.factors
    assert all(torch.equal(known.splits[name], some) for name, some in small_dataset.splits.items())
    assert torch.equal(known.waveforms([5, 600]), small_dataset.waveforms([5, 600]))


def test_factors_can_be_listed_without_clips(small_dataset):
    assert SynTone(frequencies=40, amplitudes=4).factors() == small_dataset.factors


def test_frequency_has_twenty_classes_of_neighbouring_frequencies(small_dataset):
    frequency = small_dataset.factors[1]
    assert frequency.classes == 20
    assert list(frequency.class_of_value) == sorted(frequency.class_of_value)
    assert set(np.bincount(frequency.class_of_value)) == {2}


def test_training_clips_have_zero_mean_and_unit_variance(small_dataset):
    training = small_dataset.log_mels[small_dataset.splits["training"]].double()
    assert training.mean().item() == pytest.approx(0, abs=1e-5)
    assert training.std().item() == pytest.approx(1, abs=1e-5)


def test_splits_are_disjoint_complete_and_the_same_every_time(small_dataset):
    splits = small_dataset.splits
    assert {name: len(clips) for name, clips in splits.items()} == {"training": 512, "validation": 64, "test": 64}
    assert torch.cat(list(splits.values())).sort().values.equal(torch.arange(640))
    again = SynTone(frequencies=40, amplitudes=4).build(AudioConfig(), torch.device("cpu"))
    assert all(torch.equal(again.splits[name], clips) for name, clips in splits.items())
    assert torch.equal(again.log_mels.values_NFT, small_dataset.log_mels.values_NFT)


@pytest.mark.slow
def test_the_whole_set_is_32000_clips_and_the_shortcut_is_exact_there_too():
    dataset = SynTone().build(AudioConfig(), torch.device("cpu"))
    assert dataset.log_mels.values_NFT.shape == (32_000, 64, 64)
    assert len(dataset.value_NC.unique(dim=0)) == 32_000
    clips = torch.randperm(32_000, generator=torch.Generator().manual_seed(1))[:200]
    direct = dataset.audio(dataset.waveforms(clips.tolist()))
    torch.testing.assert_close(dataset.log_mels[clips], direct, atol=3e-5, rtol=0)
