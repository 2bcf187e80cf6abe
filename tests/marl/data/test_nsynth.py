import json

import numpy as np
import pytest
import soundfile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from marl.data import KINDS
from marl.data.audio_dataset import UnusableClipError
from marl.data.nsynth import NSynth
from tests.marl.data.entries import waveforms_of
from tests.messages import assert_mentions, mentions

RATE = 16_000


def example(note, **changes):
    """Return a note as `examples.json` of NSynth describes it."""
    instrument, pitch, velocity = note.rsplit("-", 2)
    family, kind, _ = instrument.split("_")
    return {
        "note_str": note,
        "note": 1,
        "instrument": 417,
        "instrument_str": instrument,
        "instrument_family": 0,
        "instrument_family_str": family,
        "instrument_source": 0,
        "instrument_source_str": kind,
        "pitch": int(pitch),
        "velocity": int(velocity),
        "sample_rate": RATE,
        "qualities": [0] * 10,
        "qualities_str": [],
    } | changes


NOTES = [
    f"{instrument}-{pitch:03}-{velocity:03}"
    for instrument in ("keyboard_acoustic_004", "bass_synthetic_033", "guitar_electronic_001")
    for pitch in (36, 60, 61)
    for velocity in (25, 127)
]


def tone(pitch, velocity, seconds=4.0):
    time_s = np.arange(round(seconds * RATE)) / RATE
    return velocity / 254 * np.sin(2 * np.pi * 440 * 2 ** ((pitch - 69) / 12) * time_s)


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "audio").mkdir()
    write(tmp_path, {note: example(note) for note in NOTES})
    for note in NOTES:
        _, pitch, velocity = note.rsplit("-", 2)
        soundfile.write(tmp_path / "audio" / f"{note}.wav", tone(int(pitch), int(velocity)), RATE)
    return tmp_path


def write(folder, examples):
    (folder / "examples.json").write_text(json.dumps(examples))


def made(folder, **fields):
    return NSynth(path=str(folder), **fields)


def test_entries_are_the_notes_with_their_factors(folder):
    found = made(folder)
    assert found.factor_names == NSynth.factor_names == ("instrument", "family", "pitch", "velocity", "source")
    entries = {entry.name: entry for entry in found.entries()}
    assert sorted(entries) == sorted(NOTES)
    entry = entries["bass_synthetic_033-060-127"]
    assert entry.values == ("bass_synthetic_033", "bass", 60.0, 127.0, "synthetic")
    assert entry.group == "bass_synthetic_033"
    assert all(isinstance(value, float) for value in entry.values[2:4])


def test_entries_are_sorted_by_name(folder):
    expected = made(folder).entries()
    write(folder, {note: example(note) for note in reversed(NOTES)})
    assert made(folder).entries() == expected


def test_it_is_registered_as_a_kind_of_data(folder):
    assert KINDS["nsynth"] is NSynth
    assert len(NSynth(path=str(folder)).entries()) == len(NOTES)


def test_clips_sound_like_their_pitch(folder):
    found = made(folder)
    for entry, clip in zip(found.entries(), waveforms_of(found, found.entries(), RATE, RATE), strict=True):
        assert clip.dtype == np.float32
        np.testing.assert_allclose(clip, tone(entry.values[2], entry.values[3], 1.0), atol=1e-4)


def test_clips_may_have_another_rate_and_be_longer_than_the_notes(folder):
    found = made(folder)
    (clip,) = waveforms_of(found, found.entries()[:1], 8_000, 40_000)
    assert clip.shape == (40_000,)
    assert clip[:32_000].any()
    assert not clip[32_000:].any()


def test_the_sample_is_uniform_and_deterministic(folder):
    few, more = made(folder, at_most=5).entries(), made(folder, at_most=9).entries()
    assert len(few) == 5
    assert {entry.name for entry in few} < {entry.name for entry in more}
    assert made(folder, at_most=5).entries() == few
    assert len(made(folder, at_most=10**9).entries()) == len(NOTES)
    # Instruments are sampled in proportion.
    many = [f"bass_synthetic_{instrument:03}-060-{velocity:03}" for instrument in range(10) for velocity in range(100)]
    write(folder, {note: example(note) for note in many})
    chosen = [entry.values[0] for entry in made(folder, at_most=500).entries()]
    assert all(30 <= chosen.count(instrument) <= 70 for instrument in set(chosen))
    assert len(set(chosen)) == 10


def test_notes_without_a_sound_are_unusable(folder):
    entries = made(folder).entries()
    (folder / "audio" / f"{entries[0].name}.wav").unlink()
    (folder / "audio" / f"{entries[1].name}.wav").write_bytes(b"")
    first, second, third, *_ = waveforms_of(made(folder), entries, RATE, RATE)
    assert isinstance(first, UnusableClipError)
    assert_mentions(str(second), "empty")
    assert third.shape == (RATE,)


def test_the_digest_covers_the_selected_notes(folder):
    used = {entry.name for entry in made(folder, at_most=5).entries()}
    digest = made(folder, at_most=5).digest()
    assert made(folder).digest() != digest
    assert made(folder, at_most=5).digest() == digest
    (folder / "audio" / f"{next(note for note in NOTES if note not in used)}.wav").write_bytes(b"another")
    assert made(folder, at_most=5).digest() == digest
    (folder / "audio" / f"{min(used)}.wav").write_bytes(b"another")
    changed = made(folder, at_most=5).digest()
    assert changed != digest
    write(folder, {note: example(note, pitch=7) for note in NOTES})
    assert made(folder, at_most=5).digest() not in (digest, changed)


def refusal(folder, content=None):
    if content is not None:
        (folder / "examples.json").write_text(content)
    with pytest.raises(ValueError, match=".") as error:
        made(folder).entries()
    reason = str(error.value)
    assert reason.isprintable()
    assert len(reason) < 300 + len(str(folder))
    return reason


def test_invalid_examples_are_described_in_one_line(folder):
    note = NOTES[0]
    assert_mentions(refusal(folder / "missing"), "path", "folder", "examples.json", folder / "missing")
    for content in ("", '{"a": 1', "[" * 100_000):
        assert_mentions(refusal(folder, content), "examples.json", "JSON")
    assert_mentions(refusal(folder, "[1]"), "examples.json", "object", "note", "[1]")
    assert_mentions(refusal(folder, "{}"), "examples.json", "object", "note", "{}")
    assert_mentions(refusal(folder, json.dumps({note: [2]})), f"'{note}'", "object", "[2]")
    (folder / "examples.json").write_bytes(b'{"\xff": {}}')
    assert_mentions(refusal(folder), "examples.json", "JSON")


@pytest.mark.parametrize("name", ["../../etc/passwd", "/etc/passwd", "a/b", "a\\b", "", "a\0", "a\n", "ä" * 1000])
def test_names_outside_the_folder_are_rejected(folder, name):
    assert_mentions(refusal(folder, json.dumps({name: example(NOTES[0])})), "note", "name", "letters", "digits")


@pytest.mark.parametrize("field", ["instrument_str", "instrument_family_str", "instrument_source_str"])
@pytest.mark.parametrize("value", [None, 7, "", ["x"], "a\nb", "\ud800"])
def test_names_must_be_words(folder, field, value):
    write(folder, {NOTES[0]: example(NOTES[0], **{field: value})})
    assert_mentions(refusal(folder), f"'{NOTES[0]}'", field, "word", repr(value))


@pytest.mark.parametrize("field", ["pitch", "velocity"])
@pytest.mark.parametrize("value", [None, "60", True, -1, 128, float("nan"), float("inf"), 10**400, {"a": "b" * 10_000}])
def test_numbers_outside_the_midi_range_are_rejected(folder, field, value):
    write(folder, {NOTES[0]: example(NOTES[0], **{field: value})})
    assert_mentions(refusal(folder), f"'{NOTES[0]}'", field, "MIDI", 0, 127, repr(value)[:60])


def test_a_sample_of_zero_notes_is_rejected(folder):
    with pytest.raises(ValidationError, match=mentions("at_most", "greater than or equal to 1")):
        NSynth(path=str(folder), at_most=0)


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=5) | st.sampled_from(list(example(NOTES[0]))), inner)
    ),
    max_leaves=10,
)


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(JSON | st.dictionaries(st.sampled_from(NOTES), JSON), st.binary(max_size=3))
def test_any_examples_are_read_or_rejected_in_one_line(tmp_path, examples, more):
    (tmp_path / "examples.json").write_bytes(json.dumps(examples).encode() + more)
    try:
        made(tmp_path).entries()
    except ValueError as error:
        assert "\n" not in str(error)  # noqa: PT017
