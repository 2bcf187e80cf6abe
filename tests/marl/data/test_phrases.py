import itertools

import numpy as np
import pytest
from pydantic import ValidationError

from marl.data import KINDS
from marl.data.fluidsynth import font_digest, render
from marl.data.phrases import MELODIES, RHYTHMS, Phrases, notes_of
from tests.marl.data.entries import waveforms_of
from tests.marl.data.fonts import SINE_HZ, font_of, needs_fluidsynth, needs_timgm, pitch_hz
from tests.messages import mentions

RATE = 16_000
GRID_S = 64 / RATE


@pytest.fixture
def font(tmp_path):
    path = tmp_path / "sine.sf2"
    path.write_bytes(font_of((0, 0, b"Piano"), (0, 19, b"Organ"), (0, 40, b"Organ")))
    return str(path)


def small(font, **changes):
    fields = {"instruments": (0, 19), "melodies": ("arch", "thirds"), "rhythms": ("straight", "tresillo")}
    return Phrases(**{"path": font, "tempos": (90, 120)} | fields | changes)


def onsets_s(melody, rhythm, tempo, seconds=4.0):
    return [note.start_s for note in notes_of(melody, rhythm, tempo, 60, seconds)]


def onsets_heard_s(clip):
    """Return where sound starts after silence, for a font whose notes end at once."""
    sounding = np.flatnonzero(np.abs(clip) > 1e-4)
    return sounding[np.r_[True, np.diff(sounding) > 64]] / RATE


def test_melodies_have_eight_notes_and_differ():
    assert len(MELODIES) == 12
    assert {len(degrees) for degrees in MELODIES.values()} == {8}
    assert len(set(MELODIES.values())) == len(MELODIES)


def test_rhythms_fill_a_bar_and_differ():
    assert {len(pattern) for pattern in RHYTHMS.values()} == {16}
    assert all(set(pattern) == {"x", "."} for pattern in RHYTHMS.values())
    assert len(set(RHYTHMS.values())) == len(RHYTHMS)


def test_the_tresillo_has_its_known_onsets():
    # 3 + 3 + 2 sixteenths, each an eighth of a second.
    expected = [0, 0.375, 0.75, 1.0, 1.375, 1.75, 2.0, 2.375, 2.75, 3.0, 3.375, 3.75]
    assert onsets_s("arch", "tresillo", 120) == pytest.approx(expected)


def test_the_off_beat_starts_after_the_beat():
    assert onsets_s("arch", "off-beat", 60, 3.0) == pytest.approx([0.5, 1.5, 2.5])


@pytest.mark.parametrize("rhythm", RHYTHMS)
@pytest.mark.parametrize("tempo", [30, 97.5, 300])
def test_rhythms_repeat_every_bar(rhythm, tempo):
    bar_s = 4 * 60 / tempo
    found = np.array(onsets_s("arch", rhythm, tempo, 3 * bar_s - 1e-6))
    assert len(found) == 3 * RHYTHMS[rhythm].count("x")
    bars = found.reshape(3, -1)
    np.testing.assert_allclose(np.diff(bars, axis=0), bar_s)


def test_melodies_are_assigned_in_order_and_repeat():
    keys = [note.key for note in notes_of("scale up", "straight", 120, 60, 10.0)]
    assert keys == [60, 62, 64, 65, 67, 69, 71, 72] * 2 + [60, 62, 64, 65]
    assert [note.key for note in notes_of("scale up", "tresillo", 120, 62, 1.0)] == [62, 64, 66]


def test_notes_do_not_overlap_and_the_first_of_a_bar_is_accented():
    for melody, rhythm, tempo in itertools.product(("arch", "pedal"), RHYTHMS, (80.0, 140.0)):
        notes = notes_of(melody, rhythm, tempo, 60, 8.0)
        for note, following in itertools.pairwise(notes):
            assert 0.8 < note.length_s / (following.start_s - note.start_s) < 1
        bar_s = 4 * 60 / tempo
        first_of_bar = [abs(note.start_s / bar_s - round(note.start_s / bar_s)) < 1e-9 for note in notes]
        accented = {note.velocity for note, first in zip(notes, first_of_bar, strict=True) if first}
        others = {note.velocity for note, first in zip(notes, first_of_bar, strict=True) if not first}
        assert len(others) == 1
        assert accented == set() or min(accented) > max(others)


@needs_fluidsynth
@pytest.mark.parametrize("rhythm", RHYTHMS)
@pytest.mark.parametrize("tempo", [52.5, 80])  # slow enough for silence between any two notes
def test_onsets_in_the_audio_match_rhythm_and_tempo(font, rhythm, tempo):
    config = small(font, rhythms=(rhythm, "straight" if rhythm != "straight" else "dotted"), tempos=(tempo, 60))
    found = config
    (clip,) = waveforms_of(found, found.entries()[:1], RATE, 4 * RATE)
    assert found.entries()[0].values[2:] == (rhythm, tempo)
    step_s = 60 / tempo / 4
    steps = [step for step in range(200) if RHYTHMS[rhythm][step % 16] == "x" and step * step_s < 4]
    heard = onsets_heard_s(clip)
    assert len(heard) == len(steps)
    # Tolerance: the time grid of the synthesiser, and the first samples of a sine.
    np.testing.assert_allclose(heard, np.array(steps) * step_s, atol=GRID_S / 2 + 5 / RATE)


@needs_fluidsynth
def test_pitches_in_the_audio_match_the_melody(font):
    found = small(font, melodies=("scale up", "lament"), key=57)
    (clip,) = waveforms_of(found, [found.entries()[1]], RATE, 4 * RATE)
    assert found.entries()[1].values == ("Piano", "scale up", "straight", 120.0)
    for number, semitones in enumerate([0, 2, 4, 5, 7, 9, 11, 12]):
        expected_hz = SINE_HZ / 2 * 2 ** (semitones / 12)
        held = clip[number * 8_000 + 800 : number * 8_000 + 6_400]
        assert pitch_hz(held, RATE, expected_hz) == pytest.approx(expected_hz, rel=2e-4)


@needs_fluidsynth
@pytest.mark.parametrize(("sample_rate", "samples"), [(8_000, 12_345), (16_000, 64_000), (44_100, 441_000)])
def test_phrases_fill_clips_of_any_length(font, sample_rate, samples):
    found = small(font)
    for clip in waveforms_of(found, found.entries()[:4], sample_rate, samples):
        assert clip.shape == (samples,)
        assert clip.dtype == np.float32
        beat = round(sample_rate * 60 / 90)
        assert clip[-beat:].any()


def test_clips_shorter_than_a_note_hold_at_most_one_note():
    assert notes_of("arch", "off-beat", 60, 60, 0.4) == []
    assert len(notes_of("arch", "straight", 60, 60, 0.4)) == 1


@needs_timgm
def test_every_combination_occurs_once_and_is_named_by_its_factors():
    found = Phrases()
    entries = found.entries()
    assert found.factor_names == Phrases.factor_names == ("instrument", "melody", "rhythm", "tempo")
    assert len(entries) == len({entry.name for entry in entries}) == len({entry.values for entry in entries}) == 9_600
    by_name = {entry.name: entry for entry in entries}
    entry = by_name["program 40 (Violin), arch, son clave, 95 bpm"]
    assert entry.values == ("Violin", "arch", "son clave", 95.0)
    assert entry.group == "Violin"
    assert all(isinstance(entry.values[3], float) for entry in entries)


@needs_fluidsynth
def test_it_is_registered_as_a_kind_of_data(font):
    assert KINDS["phrases"] is Phrases
    assert len(small(font).entries()) == 2**4


@needs_fluidsynth
def test_instruments_of_the_same_name_get_distinct_names(font):
    entries = small(font, instruments=(0, 19, 40)).entries()
    assert {entry.group for entry in entries} == {"Piano", "Organ (19)", "Organ (40)"}


@needs_timgm
def test_phrases_are_distinct_and_independent_of_rendering_order():
    config = Phrases(instruments=(0, 40), melodies=("arch", "leaps"), rhythms=("gallop", "off-beat"), tempos=(80, 140))
    entries = config.entries()
    expected = waveforms_of(config, entries, RATE, 4 * RATE)
    backwards = waveforms_of(config, entries[::-1], RATE, 4 * RATE)[::-1]
    assert all(np.array_equal(clip, other) for clip, other in zip(expected, backwards, strict=True))
    assert len({clip.tobytes() for clip in expected}) == len(entries)


@needs_timgm
def test_the_loudest_phrases_stay_below_full_scale():
    config = Phrases()
    peaks = [
        np.abs(render(config.path, program, notes_of(melody, rhythm, 140, config.key, 4.0), RATE, 4 * RATE)).max()
        for program in config.instruments
        for melody, rhythm in (("arpeggio down", "running"), ("scale up", "gallop"))
    ]
    assert 0.5 < max(peaks) < 0.7


@needs_fluidsynth
def test_the_digest_equals_the_digest_of_the_font(font):
    assert small(font).digest() == small(font, key=50).digest() == font_digest(font)


@needs_fluidsynth
def test_missing_programs_are_listed(font):
    with pytest.raises(ValueError, match=mentions("instruments", font, "program 7, 41") + r"(?!.*41, \d)"):
        small(font, instruments=(0, 7, 41)).entries()


@pytest.mark.parametrize(
    ("changes", "facts"),
    [
        ({"rhythms": ("waltz", "straight")}, ["rhythms", "straight", "waltz"]),
        ({"melodies": ("arch", "yodel")}, ["melodies", "scale up", "yodel"]),
        ({"rhythms": ("straight",)}, ["rhythms", "at least 2"]),
        ({"melodies": ("arch", "arch")}, ["melodies", "twice"]),
        ({"tempos": (100, 100.0)}, ["tempos", "twice"]),
        ({"tempos": (29, 100)}, ["tempos", "greater than or equal to 30", 29]),
        ({"tempos": (100, 301)}, ["tempos", "less than or equal to 300", 301]),
        ({"tempos": (100, float("inf"))}, ["tempos", "inf"]),
        ({"instruments": (0, 128)}, ["instruments", "less than or equal to 127", 128]),
        ({"key": 11}, ["key", "greater than or equal to 12", 11]),
        ({"key": 97}, ["key", "less than or equal to 96", 97]),
        ({"tempo": 100}, ["tempo", "extra"]),
    ],
)
def test_invalid_settings_are_rejected(changes, facts):
    with pytest.raises(ValidationError, match=mentions(*facts)):
        Phrases(**changes)


def test_keys_stay_in_the_midi_range():
    for key, melody in itertools.product((12, 96), MELODIES):
        assert all(0 <= note.key <= 127 for note in notes_of(melody, "running", 300, key, 2.0))
