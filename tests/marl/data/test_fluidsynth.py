import ctypes.util
import os
import struct
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from marl.data import fluidsynth as synthesiser
from marl.data.fluidsynth import FAMILIES, TIMGM, Note, Preset, font_digest, preset_names, presets, render
from tests.marl.data.fonts import SINE_HZ, cents, chunk, font_of, needs_fluidsynth, needs_timgm, pitch_hz, preset_list
from tests.messages import assert_mentions, mentions

RATE = 16_000
TWO = ((0, 0, b"Piano"), (0, 5, b"Organ"))


@pytest.fixture
def font(tmp_path):
    """Font whose two instruments play the same sine."""
    path = tmp_path / "sine.sf2"
    path.write_bytes(font_of(*TWO))
    return str(path)


@pytest.fixture
def unloaded(monkeypatch):
    """FluidSynth before the first render."""
    monkeypatch.setattr(synthesiser, "_open_fonts", {})
    monkeypatch.delitem(sys.modules, "fluidsynth", raising=False)
    synthesiser._library.cache_clear()
    yield
    synthesiser._library.cache_clear()


def note(key=69, velocity=100, start_s=0.0, length_s=0.75):
    return Note(start_s, length_s, key, velocity)


def played_plainly(font, program, key, velocity):
    """Render a second of one note as the documentation of the library does, with a new synthesiser."""
    library = synthesiser._library()
    player = synthesiser._new_synthesiser(RATE)
    number = player.sfload(font)
    assert player.program_select(0, number, 0, program) == 0
    channels = np.zeros((2, RATE), np.float32)
    left, right = (channel.ctypes.data for channel in channels)
    player.noteon(0, key, velocity)
    library.fluid_synth_write_float(player.synth, 12_032, left, 0, 1, right, 0, 1)
    player.noteoff(0, key)
    library.fluid_synth_write_float(player.synth, RATE - 12_032, left, 12_032, 1, right, 12_032, 1)
    player.delete()
    return channels


@needs_fluidsynth
@pytest.mark.parametrize("sample_rate", [8_000, 11_025, 16_000, 44_100, 96_000])
@pytest.mark.parametrize("octaves", [-1, 0, 1])
def test_keys_have_their_pitch_at_any_sample_rate(font, sample_rate, octaves):
    expected_hz = SINE_HZ * 2**octaves
    heard = render(font, 0, [note(69 + 12 * octaves)], sample_rate, sample_rate)
    assert heard.shape == (sample_rate,)
    assert heard.dtype == np.float32
    held = heard[sample_rate // 10 : sample_rate // 2]
    assert abs(cents(pitch_hz(held, sample_rate, expected_hz), expected_hz)) < 0.1


@needs_timgm
@pytest.mark.parametrize("program", [16, 19, 40, 48, 56, 68, 71, 75, 80])
def test_sustained_instruments_play_key_69_at_440_hz(program):
    heard = render(TIMGM, program, [note(length_s=0.95)], RATE, RATE)
    assert abs(cents(pitch_hz(heard[1_600:15_000], RATE, 440.0), 440.0)) < 5


@needs_fluidsynth
def test_notes_start_and_end_on_time_without_reverb(font):
    heard = render(font, 0, [note(start_s=0.1, length_s=0.5)], RATE, RATE)
    sounding = np.flatnonzero(heard)
    assert 0 <= sounding[0] - 1_600 <= 2  # a sine starts at zero
    assert 9_600 < sounding[-1] < 9_600 + 0.02 * RATE  # FluidSynth fades every note for 16 ms to avoid clicks


@needs_fluidsynth
def test_the_level_is_steady_without_chorus(font):
    heard = render(font, 0, [note()], RATE, RATE)
    peaks = [np.abs(heard[first : first + 400]).max() for first in range(400, 11_600, 400)]
    assert max(peaks) == pytest.approx(min(peaks), rel=1e-3)


@needs_timgm
@pytest.mark.parametrize("program", [0, 40, 73, 105])
def test_higher_velocity_is_louder(program):
    levels = [np.square(render(TIMGM, program, [note(60, velocity)], RATE, RATE)).mean() for velocity in (25, 75, 127)]
    assert levels[0] < levels[1] / 2 < levels[2] / 4


@needs_timgm
def test_the_loudest_notes_stay_just_below_full_scale():
    peaks = [
        np.abs(render(TIMGM, program, [note(key, 127)], RATE, RATE // 2)).max()
        for program in range(96)
        for key in range(36, 84, 8)
    ]
    assert 0.6 < max(peaks) < 0.8
    assert np.abs(render(TIMGM, 60, [note(64, 127)], RATE, RATE)).max() == pytest.approx(0.709, abs=0.01)  # the loudest


@needs_timgm
@pytest.mark.parametrize("program", [0, 19, 40, 60, 104])
def test_shared_synthesisers_play_like_a_new_one(program):
    expected = played_plainly(TIMGM, program, 60, 100).mean(axis=0, dtype=np.float32)
    assert np.array_equal(render(TIMGM, program, [Note(0.0, 0.75, 60, 100)], RATE, RATE), expected)


@needs_timgm
def test_both_channels_are_averaged():
    left, right = played_plainly(TIMGM, 0, 36, 100)
    assert not np.allclose(left, right, atol=1e-3)
    np.testing.assert_allclose(render(TIMGM, 0, [note(36)], RATE, RATE), (left + right) / 2, atol=1e-7)


@needs_timgm
def test_bits_do_not_depend_on_earlier_renders(font):
    phrase = [Note(0.2 * number, 0.18, 60 + number, 90) for number in range(20)]
    wanted = [(0, [note(60)]), (40, [note(60, 25)]), (0, phrase), (19, phrase), (0, [note(83, 127)]), (73, [note(40)])]
    expected = [render(TIMGM, program, notes, RATE, RATE) for program, notes in wanted]
    for (program, notes), before in reversed(list(zip(wanted, expected, strict=True))):
        render(TIMGM, program, notes, 44_100, 30_001)
        assert np.array_equal(render(TIMGM, program, notes, RATE, RATE), before)
    render(font, 0, [note()], RATE, RATE)  # opens another font
    assert all(
        np.array_equal(render(TIMGM, program, notes, RATE, RATE), before)
        for (program, notes), before in zip(wanted, expected, strict=True)
    )


@needs_timgm
def test_a_longer_clip_starts_like_a_shorter_one():
    whole = render(TIMGM, 40, [note()], RATE, RATE)
    for samples in (1, 63, 64, 65, 10_007):
        assert np.array_equal(render(TIMGM, 40, [note()], RATE, samples), whole[:samples])


@needs_fluidsynth
def test_repeated_keys_do_not_overlap(font):
    twice = render(font, 0, [note(length_s=0.4), note(start_s=0.4, length_s=0.4)], RATE, RATE)
    assert np.abs(twice[7_000:7_200]).max() == pytest.approx(np.abs(twice[3_000:3_200]).max(), rel=0.01)
    assert not twice[13_100:].any()


@needs_fluidsynth
@pytest.mark.parametrize("sample_rate", [7_999, 96_001, 0])
def test_unsupported_sample_rates_are_rejected(font, sample_rate):
    with pytest.raises(ValueError, match=mentions("audio.sample_rate", 8000, 96_000, sample_rate)):
        render(font, 0, [note()], sample_rate, 100)


@needs_fluidsynth
def test_missing_instruments_are_rejected(font):
    with pytest.raises(ValueError, match=mentions("instruments", font, "program 3")):
        render(font, 3, [note()], RATE, 100)


@needs_fluidsynth
def test_a_replaced_font_is_reopened(font, tmp_path):
    assert preset_names(font) == {0: "Piano", 5: "Organ"}
    (tmp_path / "other.sf2").write_bytes(font_of((0, 7, b"Cembalo")))
    (tmp_path / "other.sf2").replace(font)
    assert preset_names(font) == {7: "Cembalo"}
    assert render(font, 7, [note()], RATE, RATE).any()
    with pytest.raises(ValueError, match=mentions("program 0")):
        render(font, 0, [note()], RATE, RATE)


@needs_timgm
def test_presets_equal_those_of_fluidsynth():
    found = presets(TIMGM)
    player = synthesiser._new_synthesiser(RATE)
    number = player.sfload(TIMGM)
    assert all(player.sfpreset_name(number, bank, program).strip() == name for bank, program, name in found)
    player.delete()
    assert {program for bank, program, _ in found if bank == 0} == set(range(128))
    assert any(bank == 128 for bank, _, _ in found)
    assert len(FAMILIES) == 16


@needs_fluidsynth
def test_names_of_the_first_bank_are_unique(font, tmp_path):
    path = tmp_path / "font.sf2"
    path.write_bytes(
        font_of(
            (0, 3, b"Piano"), (0, 1, b"Piano"), (0, 2, b"Piano (1)"), (0, 9, b""), (8, 4, b"Gong"), (128, 0, b"Drums")
        )
    )
    assert preset_names(str(path)) == {1: "Piano (1) (1)", 2: "Piano (1) (2)", 3: "Piano (3)", 9: "program 9"}


def test_presets_need_no_fluidsynth_and_names_are_one_line(tmp_path):
    path = tmp_path / "font.sf2"
    path.write_bytes(font_of((0, 0, b" Fl\xfcte\n\x1b[1m "), (128, 40, b"x" * 20), (0, 1, b"a\0b")))
    assert presets(str(path)) == [Preset(0, 0, "Flüte[1m"), Preset(128, 40, "x" * 20), Preset(0, 1, "a")]


def riff(*parts):
    return chunk(b"RIFF", b"sfbk" + b"".join(parts))


@pytest.mark.parametrize(
    ("content", "facts"),
    [
        (b"", ["header"]),
        (b"RIFF", ["header"]),
        (b"OggS" + bytes(100), ["header"]),
        (chunk(b"RIFF", b"WAVE" + bytes(100)), ["header"]),
        (struct.pack("<4sI4s", b"RIFF", 3, b"sfbk"), ["'sfbk'"]),
        (struct.pack("<4sI4s", b"RIFF", 2**32 - 1, b"sfbk"), ["truncated"]),
        (riff(), ["'pdta'"]),
        (riff(chunk(b"LIST", b"INFO")), ["'pdta'"]),
        (riff(chunk(b"LIST", b"")), ["'pdta'"]),
        (riff(*[chunk(b"junk", b"")] * 10_000), ["'pdta'"]),
        (riff(b"LIS"), ["truncated"]),
        (riff(struct.pack("<4sI4s", b"LIST", 2**31, b"pdta")), ["truncated"]),
        (riff(chunk(b"LIST", b"pdta")), ["'phdr'"]),
        (riff(chunk(b"LIST", b"pdta" + struct.pack("<4sI", b"phdr", 38))), ["truncated"]),
        (riff(chunk(b"LIST", b"pdta" + chunk(b"phdr", bytes(77)))), ["instruments", "77 bytes"]),
        (riff(chunk(b"LIST", b"pdta" + chunk(b"phdr", b""))), ["instruments", "0 bytes"]),
        (riff(chunk(b"LIST", b"pdta" + preset_list([]))), ["instruments", "38 bytes"]),
        (
            riff(chunk(b"LIST", b"pdta" + chunk(b"phdr", bytes(38 * 40_000)))),
            ["instruments", "1,520,000 bytes"],
        ),
    ],
)
def test_invalid_files_are_described_in_one_line(tmp_path, content, facts):
    path = tmp_path / "font.sf2"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=mentions("path", ".sf2", ".sf3", path, *facts)) as error:
        presets(str(path))
    assert "\n" not in str(error.value)


def test_truncated_files_are_rejected(tmp_path):
    whole = font_of(*TWO)
    path = tmp_path / "font.sf2"
    for length in [*range(40), *range(40, len(whole), 97), len(whole) - 1]:
        path.write_bytes(whole[:length])
        with pytest.raises(ValueError, match=mentions("path", ".sf2", path)):
            presets(str(path))
    path.write_bytes(whole + b"more")
    assert len(presets(str(path))) == 2


@given(st.data())
def test_any_bytes_give_presets_or_are_rejected_in_one_line(tmp_path_factory, data):
    content = bytearray(riff(chunk(b"LIST", b"INFO"), chunk(b"LIST", b"pdta" + preset_list(TWO))))
    for place in data.draw(st.lists(st.integers(0, len(content) - 1), max_size=4)):
        content[place] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.getbasetemp() / "any.sf2"
    path.write_bytes(bytes(content))
    try:
        assert all(preset.name.isprintable() or not preset.name for preset in presets(str(path)))
    except ValueError as error:
        assert_mentions(str(error), "path", ".sf2", path)
        assert "\n" not in str(error)  # noqa: PT017


@needs_fluidsynth
def test_fluidsynth_prints_nothing(tmp_path, capfd, monkeypatch, unloaded):
    monkeypatch.setenv("CI", "true")  # makes pyfluidsynth print, too
    path = tmp_path / "font.sf2"
    path.write_bytes(riff(chunk(b"LIST", b"pdta" + preset_list(TWO))))  # presets without samples
    with pytest.raises(ValueError, match=mentions("FluidSynth", path)):
        preset_names(str(path))
    path.write_bytes(font_of(*TWO))
    render(str(path), 0, [note(), note(velocity=127)], RATE, RATE)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("missing", "remedy"),
    [("package", "pip install 'marl-study[soundfont]'"), ("library", "apt-get install libfluidsynth3")],
)
def test_without_fluidsynth_the_error_names_what_to_install(font, monkeypatch, unloaded, missing, remedy):
    if missing == "package":
        monkeypatch.setitem(sys.modules, "fluidsynth", None)
    else:
        monkeypatch.setattr(ctypes.util, "find_library", lambda name: None)
    for action in (lambda: preset_names(font), lambda: render(font, 0, [note()], RATE, 100)):
        with pytest.raises(FileNotFoundError, match=mentions("FluidSynth", remedy)) as error:
            action()
        assert str(error.value).isprintable()


@pytest.mark.parametrize("action", [preset_names, presets, font_digest, lambda font: render(font, 0, [], RATE, 1)])
def test_a_missing_font_is_named(tmp_path, monkeypatch, action):
    for path in (tmp_path / "none.sf2", tmp_path):
        with pytest.raises(FileNotFoundError, match=rf"{mentions('path', '.sf2', '.sf3', path)}(?!.*apt-get)"):
            action(str(path))
    monkeypatch.setattr(synthesiser, "TIMGM", str(tmp_path / "none.sf2"))
    with pytest.raises(FileNotFoundError, match=mentions(tmp_path / "none.sf2", "apt-get install timgm6mb-soundfont")):
        action(str(tmp_path / "none.sf2"))


def test_the_digest_depends_on_the_bytes_alone(font, tmp_path):
    digest = font_digest(font)
    assert len(digest) == 64
    (tmp_path / "same.sf2").write_bytes(font_of(*TWO))
    os.utime(tmp_path / "same.sf2", (0, 0))
    assert font_digest(str(tmp_path / "same.sf2")) == digest
    (tmp_path / "same.sf2").write_bytes(font_of(*TWO, (0, 6, b"Harp")))
    assert font_digest(str(tmp_path / "same.sf2")) != digest
