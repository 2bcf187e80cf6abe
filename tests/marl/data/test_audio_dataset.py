import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from marl.audio import AudioConfig, LogMel
from marl.data.audio_dataset import (
    MAX_CLASSES,
    Entry,
    UnusableClipError,
    factor_from_column,
    prepare_clips,
    waveforms_of,
)
from marl.data.dataset import UNKNOWN
from tests.messages import assert_mentions, mentions

AUDIO = AudioConfig()
TIME_S = np.arange(AUDIO.clip_samples) / AUDIO.sample_rate


def sine(level: float, hz: float = 440.0) -> np.ndarray:
    return (level * np.sin(2 * np.pi * hz * TIME_S)).astype(np.float32)


class Given:
    """Source of given sounds."""

    factor_names = ("vowel",)

    def __init__(self, **sounds) -> None:
        self._sounds = sounds

    def entries(self):
        return [Entry(name, ("a",), "singer", (name,)) for name in self._sounds]

    def waveform(self, entry, sample_rate, samples):
        assert (sample_rate, samples) == (AUDIO.sample_rate, AUDIO.clip_samples)
        if isinstance(sound := self._sounds[entry.locator[0]], UnusableClipError):
            raise sound
        return sound


def made(**sounds):
    source = Given(**sounds)
    return prepare_clips(source, source.entries(), AUDIO)


def test_log_mels_are_computed_from_the_16_bit_samples():
    found = made(a=sine(0.5), b=sine(0.1, 1000.0))
    assert [clip.name for clip in found.clips] == ["a", "b"]
    waveforms_NS = waveforms_of(found.samples_NS)
    np.testing.assert_allclose(waveforms_NS[0], sine(0.5), atol=0.6 / 32767)
    expected = LogMel(AUDIO)(waveforms_NS)
    torch.testing.assert_close(torch.from_numpy(found.decibels_NFT).float(), expected, atol=0.02, rtol=0)


def test_clips_have_loudness_and_sounding_length():
    half = sine(0.5)
    half[8_000:] = 0
    (clip,) = made(a=half).clips
    assert clip.loudness_db == pytest.approx(20 * np.log10(0.5) - 10 * np.log10(2), abs=0.01)
    assert clip.peak == pytest.approx(0.5, abs=1e-3)
    assert clip.sounds_s == pytest.approx(0.5, abs=2e-3)


def test_clip_sums_give_mean_and_deviation_of_log_mels():
    found = made(a=sine(0.5), b=sine(0.1, 1000.0))
    values = found.decibels_NFT.astype(np.float64)
    mean = sum(clip.sum_db for clip in found.clips) / values.size
    square = sum(clip.square_db for clip in found.clips) / values.size
    assert mean == pytest.approx(values.mean())
    assert (square - mean**2) ** 0.5 == pytest.approx(values.std())


@pytest.mark.parametrize(
    ("sound", "facts"),
    [
        (np.zeros(AUDIO.clip_samples, np.float32), ["silent", "-60 dB"]),
        (sine(1e-4), ["silent", "-60 dB"]),
        (np.full(AUDIO.clip_samples, np.nan, np.float32), ["not finite"]),
        (np.full(AUDIO.clip_samples, np.inf, np.float32), ["not finite"]),
        (UnusableClipError("cannot be decoded: no sound"), ["cannot be decoded: no sound"]),
    ],
)
def test_unusable_clips_are_rejected_with_a_reason_and_change_no_other_clip(sound, facts):
    alone, beside = made(a=sine(0.5)), made(a=sine(0.5), bad=sound)
    ((name, reason),) = beside.rejected
    assert name == "bad"
    assert_mentions(reason, *facts)
    assert beside.clips == alone.clips
    assert beside.decibels_NFT.tobytes() == alone.decibels_NFT.tobytes()


def test_samples_beyond_full_scale_are_scaled_down():
    found = made(a=sine(4.0))
    assert found.clips[0].peak == pytest.approx(4.0, abs=1e-3)
    np.testing.assert_allclose(waveforms_of(found.samples_NS)[0], sine(1.0), atol=1e-3)


def test_identical_sounds_share_a_content_hash():
    contents = [clip.content for clip in made(a=sine(0.5), b=sine(0.5), c=sine(0.501)).clips]
    assert contents[0] == contents[1] != contents[2]


def test_clips_do_not_depend_on_neighbours():
    sounds = {f"sound {number}": sine(0.3, 100.0 * (number + 1)) for number in range(20)}
    together = made(**sounds)
    for number, (name, sound) in enumerate(sounds.items()):
        alone = made(**{name: sound})
        assert alone.decibels_NFT[0].tobytes() == together.decibels_NFT[number].tobytes()


def test_unusable_clips_alone_give_an_empty_result():
    found = made(a=UnusableClipError("is empty"))
    assert (len(found.clips), found.samples_NS.shape, found.decibels_NFT.shape) == (0, (0, 16_000), (0, 64, 64))


def test_each_word_is_a_class():
    words = [f"singer {number:03d}" for number in range(50)]
    factor, index_N = factor_from_column("singer", [*words, *reversed(words)])
    assert factor.values == tuple(words)
    assert factor.classes == 50
    assert not factor.is_continuous
    assert index_N.tolist() == [*range(50), *reversed(range(50))]


def test_each_of_few_numbers_is_a_class():
    factor, index_N = factor_from_column("velocity", [100.0, 25.0, 100.0, 50.0])
    assert factor.values == (25.0, 50.0, 100.0)
    assert factor.class_of_value == (0, 1, 2)
    assert index_N.tolist() == [2, 0, 2, 1]


def test_many_grid_values_are_binned_and_not_measured():
    factor, _ = factor_from_column("pitch", [float(key) for key in range(36, 84) for _ in range(20)])
    assert len(factor.values) == 48
    assert factor.classes == MAX_CLASSES
    assert list(factor.class_of_value) == sorted(factor.class_of_value)
    assert not factor.is_continuous


def test_rarely_repeated_numbers_count_as_measured():
    factor, _ = factor_from_column("f0", [100.0 + number / 7 for number in range(300)])
    assert factor.is_continuous
    assert factor.classes == MAX_CLASSES


def test_unknown_entries_have_no_value():
    factor, index_N = factor_from_column("vowel", ["a", None, "e", None])
    assert factor.values == ("a", "e")
    assert index_N.tolist() == [0, UNKNOWN, 1, UNKNOWN]


@pytest.mark.parametrize(
    ("column", "facts"),
    [
        (["a", "a"], ["'vowel'", "'a'"]),
        ([None, None], ["'vowel'", "none"]),
        (["a", 1.0], ["'vowel'", "words", "numbers"]),
    ],
)
def test_constant_and_mixed_factors_are_rejected(column, facts):
    with pytest.raises(ValueError, match=mentions(*facts)):
        factor_from_column("vowel", column)


@given(
    st.lists(st.one_of(st.none(), st.floats(-1e6, 1e6)), min_size=2).filter(lambda column: len({*column} - {None}) > 1)
)
def test_classes_are_numbered_without_gaps_and_follow_the_order_of_the_numbers(column):
    factor, index_N = factor_from_column("number", column)
    assert sorted(set(factor.class_of_value)) == list(range(factor.classes))
    assert list(factor.class_of_value) == sorted(factor.class_of_value)
    assert factor.classes <= MAX_CLASSES
    known = [(value, index) for value, index in zip(column, index_N.tolist(), strict=True) if value is not None]
    assert all(factor.values[index] == value for value, index in known)
