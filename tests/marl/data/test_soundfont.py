import itertools

import numpy as np
import pytest
from pydantic import ValidationError

from marl.data import KINDS
from marl.data.fluidsynth import FAMILIES, TIMGM, font_digest
from marl.data.soundfont import SoundFont
from tests.marl.data.entries import waveforms_of
from tests.marl.data.fonts import SINE_HZ, cents, font_of, needs_fluidsynth, needs_timgm, pitch_hz
from tests.messages import mentions

RATE = 16_000


@pytest.fixture
def font(tmp_path):
    """Font in which three instruments share a name."""
    path = tmp_path / "sine.sf2"
    path.write_bytes(font_of((0, 0, b"Piano"), (0, 19, b"Organ"), (0, 40, b"Organ"), (0, 73, b"Organ"), (8, 1, b"X")))
    return str(path)


def small(font, **changes):
    return SoundFont(
        **{"path": font, "instruments": (0, 19, 40), "lowest": 68, "highest": 70, "velocities": (50, 100)} | changes
    )


def test_the_grid_is_9600_notes_of_instruments_that_play_melodies():
    config = SoundFont()
    assert len(config.instruments) == len(set(config.instruments)) == 40
    assert config.highest - config.lowest + 1 == 48
    assert config.velocities == (25, 50, 75, 100, 127)
    families = {FAMILIES[program // 8] for program in config.instruments}
    assert families == set(FAMILIES) - {"synth effects", "percussive", "sound effects"}
    assert 47 not in config.instruments  # timpani


@needs_timgm
def test_every_combination_occurs_once_and_is_named_by_its_factors():
    found = SoundFont()
    entries = found.entries()
    assert found.factor_names == SoundFont.factor_names == ("instrument", "family", "pitch", "velocity")
    assert len(entries) == len({entry.name for entry in entries}) == len({entry.values for entry in entries}) == 9_600
    by_name = {entry.name: entry for entry in entries}
    entry = by_name["program 40 (Violin), key 60, velocity 100"]
    assert entry.values == ("Violin", "strings", 60.0, 100.0)
    assert entry.group == "Violin"
    assert len({entry.group for entry in entries}) == 40
    assert all(isinstance(value, float) for value in entry.values[2:])


@needs_timgm
def test_families_are_those_of_general_midi():
    config = SoundFont(instruments=range(128), lowest=60, highest=61, velocities=(50, 100))
    families = {entry.locator[0]: entry.values[1] for entry in config.entries()}
    named = {0: "piano", 15: "chromatic percussion", 19: "organ", 24: "guitar", 39: "bass", 40: "strings"}
    named |= {52: "ensemble", 56: "brass", 71: "reed", 73: "pipe", 80: "synth lead", 95: "synth pad"}
    named |= {96: "synth effects", 104: "ethnic", 112: "percussive", 127: "sound effects"}
    assert {program: families[program] for program in named} == named


@needs_fluidsynth
def test_it_is_registered_as_a_kind_of_data(font):
    assert KINDS["soundfont"] is SoundFont
    assert len(small(font).entries()) == 3 * 3 * 2


@needs_fluidsynth
def test_instruments_of_the_same_name_get_distinct_names(font):
    assert small(font, instruments=(40, 0, 19)).instrument_names() == {40: "Organ (40)", 0: "Piano", 19: "Organ (19)"}
    entries = small(font).entries()
    assert {entry.group for entry in entries} == {"Piano", "Organ (19)", "Organ (40)"}
    assert {(entry.values[0], entry.values[1]) for entry in entries} == {
        ("Piano", "piano"),
        ("Organ (19)", "organ"),
        ("Organ (40)", "strings"),
    }


@needs_fluidsynth
def test_clips_sound_like_their_pitch_and_velocity(font):
    found = small(font)
    entries = found.entries()
    heard = dict(zip([entry.locator for entry in entries], waveforms_of(found, entries, RATE, RATE), strict=True))
    for (_, key, _), clip in heard.items():
        assert clip.shape == (RATE,)
        assert clip.dtype == np.float32
        expected_hz = SINE_HZ * 2 ** ((key - 69) / 12)
        assert abs(cents(pitch_hz(clip[800:11_200], RATE, expected_hz), expected_hz)) < 0.1
    assert all(
        np.abs(heard[program, key, 100]).max() > 2 * np.abs(heard[program, key, 50]).max()
        for program, key in itertools.product((0, 19, 40), (68, 69, 70))
    )


@needs_fluidsynth
def test_keys_are_held_for_the_configured_time(font):
    for hold_s in (0.25, 0.5):
        found = small(font, hold_s=hold_s)
        (clip,) = waveforms_of(found, found.entries()[:1], RATE, RATE)
        assert np.flatnonzero(clip)[-1] / RATE == pytest.approx(hold_s, abs=0.02)


@needs_timgm
def test_clips_do_not_depend_on_neighbours():
    config = SoundFont(instruments=(0, 19, 40, 73), lowest=58, highest=60, velocities=(25, 127))
    entries = config.entries()
    expected = waveforms_of(config, entries, RATE, RATE)
    backwards = waveforms_of(config, entries[::-1], RATE, RATE)[::-1]
    alone = [waveforms_of(config, [entry], RATE, RATE)[0] for entry in entries[::5]]
    assert all(np.array_equal(clip, other) for clip, other in zip(expected, backwards, strict=True))
    assert all(np.array_equal(clip, other) for clip, other in zip(expected[::5], alone, strict=True))
    assert len({clip.tobytes() for clip in expected}) == len(entries)


@needs_timgm
def test_every_note_of_the_default_instruments_is_audible():
    config = SoundFont(lowest=36, highest=83)
    ends = [entry for entry in config.entries() if entry.locator[1] in (36, 83) and entry.locator[2] in (25, 127)]
    peaks = [np.abs(clip).max() for clip in waveforms_of(config, ends, RATE, RATE)]
    assert len(peaks) == 160
    assert min(peaks) > 10 ** (-50 / 20)
    assert max(peaks) < 1


@needs_fluidsynth
def test_the_digest_equals_the_digest_of_the_font(font):
    assert small(font).digest() == small(font, lowest=40).digest() == font_digest(font)


@needs_fluidsynth
def test_missing_programs_are_listed(font):
    with pytest.raises(ValueError, match=mentions("instruments", font, "program 7, 41") + r"(?!.*41, \d)"):
        small(font, instruments=(0, 7, 40, 41)).entries()


@needs_fluidsynth
def test_an_unsupported_sample_rate_is_rejected_by_the_name_of_its_field(font):
    found = small(font)
    with pytest.raises(ValueError, match=mentions("audio.sample_rate", 8000, 96_000, 4000)):
        waveforms_of(found, found.entries()[:1], 4_000, 4_000)


def test_a_missing_font_is_named():
    found = SoundFont(path="none.sf2")
    for action in (found.digest, found.entries):
        with pytest.raises(FileNotFoundError, match=mentions("path", ".sf2", ".sf3", "none.sf2")):
            action()


@pytest.mark.parametrize(
    ("changes", "facts"),
    [
        ({"instruments": (0, 128)}, ["instruments", "less than or equal to 127", 128]),
        ({"instruments": (-1, 5)}, ["instruments", "greater than or equal to 0", -1]),
        ({"instruments": (5,)}, ["instruments", "at least 2"]),
        ({"instruments": (5, 7, 5)}, ["instruments", "twice", "[5, 7, 5]"]),
        ({"velocities": (0, 100)}, ["velocities", "greater than or equal to 1", 0]),
        ({"velocities": (100, 128)}, ["velocities", "less than or equal to 127", 128]),
        ({"velocities": (100, 100)}, ["velocities", "twice", "[100, 100]"]),
        ({"lowest": 60, "highest": 60}, ["lowest", "highest", 60]),
        ({"lowest": -1}, ["lowest", "greater than or equal to 0", -1]),
        ({"highest": 128}, ["highest", "less than or equal to 127", 128]),
        ({"hold_s": 0}, ["hold_s", "greater than 0"]),
        ({"hold_s": float("nan")}, ["hold_s", "finite"]),
        ({"pitches": (60,)}, ["pitches", "extra"]),
    ],
)
def test_invalid_settings_are_rejected(changes, facts):
    with pytest.raises(ValidationError, match=mentions(*facts)):
        SoundFont(**changes)


def test_the_default_font_is_the_debian_one():
    assert SoundFont().path == TIMGM == "/usr/share/sounds/sf2/TimGM6mb.sf2"
