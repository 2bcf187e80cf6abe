"""Contract of a data set: the same clips again, valid factors, splits that share nothing, and pairs."""

import itertools
from typing import Any

import numpy as np
import pytest
import torch

from marl.audio import AudioConfig
from marl.data import KINDS, AudioDatasetConfig, Clips, ComputedDatasetConfig, Factor, Partners
from marl.data.dataset import SPLITS, UNKNOWN
from marl.testing.cases import Plugin

_CPU = torch.device("cpu")
_ENTRIES = 8


def _config(plugin: Plugin) -> Any:
    return KINDS[plugin.name].model_validate({**plugin.options, "kind": plugin.name})


@pytest.fixture
def computed(plugin: Plugin) -> ComputedDatasetConfig:
    """Configuration of a data set that is computed; for another one the test is skipped."""
    config = _config(plugin)
    if not isinstance(config, ComputedDatasetConfig):
        pytest.skip("the data set is prepared from audio")
    return config


@pytest.fixture
def prepared(plugin: Plugin) -> AudioDatasetConfig:
    """Configuration of a data set that is prepared from audio; for another one the test is skipped."""
    config = _config(plugin)
    if not isinstance(config, AudioDatasetConfig):
        pytest.skip("the data set is computed")
    return config


def test_it_is_described(plugin: Plugin) -> None:
    config = _config(plugin)
    assert config.description.strip(), "description must say what the clips are, for model cards"
    assert len(config.factor_names) > 1, "there must be two factors: one that views share, and one in which they differ"
    assert len(set(config.factor_names)) == len(config.factor_names), "names of factors must differ"
    assert type(config).model_validate_json(config.model_dump_json()) == config


def test_clips_are_the_same_again(computed: ComputedDatasetConfig) -> None:
    first, second = (computed.build(AudioConfig(), _CPU) for _ in range(2))
    assert torch.equal(first.value_NC, second.value_NC)
    assert torch.equal(first.log_mels.values_NFT, second.log_mels.values_NFT), "log-mels must not depend on chance"
    assert all(torch.equal(first.splits[split], second.splits[split]) for split in SPLITS)


def test_log_mels_are_finite_and_standardised(computed: ComputedDatasetConfig) -> None:
    audio, built = AudioConfig(), computed.build(AudioConfig(), _CPU)
    values_NFT = built.log_mels.values_NFT
    assert values_NFT.shape == (computed.size, audio.mel_bands, audio.frames)
    assert values_NFT.isfinite().all()
    training = values_NFT[built.splits["training"]]
    assert abs(training.mean().item()) < 0.01, "log-mels must have mean 0 over the training clips"
    assert abs(training.std().item() - 1) < 0.01, "log-mels must have variance 1 over the training clips"


def test_waveforms_are_mono_clips_in_full_scale(computed: ComputedDatasetConfig) -> None:
    audio, clips = AudioConfig(), computed.clips(AudioConfig(), _CPU)
    waveform_nS = clips.waveforms([0, computed.size - 1])
    assert waveform_nS.shape == (2, audio.clip_samples)
    assert waveform_nS.isfinite().all(), "waveforms must be finite"
    assert waveform_nS.any(), "waveforms must not be silent"


def test_factors_are_within_their_classes(computed: ComputedDatasetConfig) -> None:
    clips, factors = computed.clips(AudioConfig(), _CPU), computed.factors()
    assert tuple(factor.name for factor in factors) == tuple(computed.factor_names) == clips.factor_names
    assert clips.value_NC.shape == (computed.size, len(factors))
    for factor, value_N in zip(factors, clips.value_NC.unbind(dim=1), strict=True):
        _check_factor(factor)
        known_n = value_N[value_N != UNKNOWN]
        assert known_n.min() >= 0, f"values of {factor.name} are out of range"
        assert known_n.max() < len(factor.values), f"values of {factor.name} are out of range"


def _check_factor(factor: Factor) -> None:
    assert len(factor.values) == len(factor.class_of_value) > 1, f"each value of {factor.name} needs a class"
    assert set(factor.class_of_value) == set(range(factor.classes)), f"classes of {factor.name} must be 0, 1, …"


def test_splits_share_no_clip(computed: ComputedDatasetConfig) -> None:
    clips = computed.clips(AudioConfig(), _CPU)
    for first, second in itertools.combinations(SPLITS, 2):
        common = set(clips.splits[first].tolist()) & set(clips.splits[second].tolist())
        assert not common, f"{len(common)} clips are in the splits {first} and {second}"
    for split in SPLITS:
        assert len(clips.splits[split]), f"the split {split} is empty"


def test_pairs_can_be_drawn(computed: ComputedDatasetConfig) -> None:
    clips = computed.clips(AudioConfig(), _CPU)
    reasons = [reason for name in computed.factor_names if (reason := _why_no_pairs(clips, name))]
    assert len(reasons) < len(computed.factor_names), f"views that share one factor have no pairs: {reasons[0]}"


def _why_no_pairs(clips: Clips, shared: str) -> str:
    try:
        Partners(clips, [shared], "training").check()
    except ValueError as error:
        return str(error)
    return ""


def test_entries_are_the_same_again(prepared: AudioDatasetConfig) -> None:
    first, second = prepared.entries(), prepared.entries()
    assert list(first) == list(second), "entries must come in the same order"
    assert len({entry.name for entry in first}) == len(first), "names of entries must be unique"
    assert all(len(entry.values) == len(prepared.factor_names) for entry in first), (
        "an entry has a value of each factor"
    )
    assert prepared.digest() == prepared.digest(), "the digest must depend on the files alone"


def test_waveforms_of_entries_are_the_same_again(prepared: AudioDatasetConfig) -> None:
    audio = AudioConfig()
    for entry in list(prepared.entries())[:_ENTRIES]:
        first, second = (prepared.waveform(entry, audio.sample_rate, audio.clip_samples) for _ in range(2))
        assert first.shape == (audio.clip_samples,)
        assert first.dtype == np.float32
        assert np.array_equal(first, second), f"the waveform of {entry.name} must depend on its entry alone"
