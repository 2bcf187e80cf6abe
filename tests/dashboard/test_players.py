import io
from base64 import b64decode

import numpy as np
import pytest
import soundfile
from PIL import Image

from dashboard import players
from dashboard.players import Row, sound_table, spectrogram_image
from marl.audio import AudioConfig
from study.export.audition import Sound

CONFIG = AudioConfig()
HOSTILE = "</script><img src=x onerror=alert(1)>"


def sound(level, decibels=-30.0):
    wave_S = np.full(1600, level, np.float32) * np.where(np.arange(1600) % 2, 1, -1)
    return Sound(wave_S.astype(np.float32), 16_000, np.full((4, 5), decibels, np.float32))


@pytest.fixture
def drawn(monkeypatch):
    """Return the data that the component receives for a table."""
    received = []
    monkeypatch.setattr(players, "_component", lambda: lambda data, key: received.append(data))

    def draw(rows, **options):
        sound_table(rows, CONFIG, key="table", **options)
        return received[-1]

    return draw


def level_of(cell):
    samples = soundfile.read(io.BytesIO(b64decode(cell["audio"].removeprefix("data:audio/wav;base64,"))))[0]
    return np.sqrt(np.mean(samples**2))


def test_sounds_of_a_row_get_the_loudness_of_the_first_and_state_the_change(drawn):
    row = Row("clip", {"original": sound(0.5), "quiet": sound(0.25), "same": sound(0.5)}, {"quiet": "3 dB away"})
    original, quiet, same = drawn([row])["rows"][0]["cells"]
    assert level_of(quiet) == pytest.approx(level_of(original), abs=1e-3) == pytest.approx(0.5, abs=1e-3)
    assert quiet["remark"] == "3 dB away, loudness +6.0 dB"
    assert original["remark"] == same["remark"] == ""


def test_unmatched_sounds_keep_their_loudness(drawn):
    row = Row("clip", {"original": sound(0.5), "quiet": sound(0.25)})
    _, quiet = drawn([row], is_matched=False)["rows"][0]["cells"]
    assert level_of(quiet) == pytest.approx(0.25, abs=1e-3)
    assert quiet["remark"] == ""


def test_silent_sounds_are_not_amplified(drawn):
    _, silent = drawn([Row("clip", {"original": sound(0.5), "silent": sound(0.0)})])["rows"][0]["cells"]
    assert level_of(silent) == 0
    assert silent["remark"] == ""


def test_a_blind_table_has_neither_pictures_nor_remarks(drawn):
    row = Row("clip", {"original": sound(0.5), "A": sound(0.25)}, {"A": "trial 3"})
    data = drawn([row], is_blind=True)
    assert [set(cell) for cell in data["rows"][0]["cells"]] == [{"title", "audio"}] * 2
    assert data["blind"]


def test_pictures_have_high_frequencies_at_the_top_and_are_brighter_for_higher_levels(drawn):
    decibels_FT = np.array([[0.0, 0.0], [-60.0, -60.0]], np.float32)
    one = Sound(np.zeros(16, np.float32), 16_000, decibels_FT)
    image = spectrogram_image(one)
    assert image[0, 0].tolist() == players._RAMP[0].tolist()
    assert image[-1, 0].tolist() == players._RAMP[-1].tolist()
    (cell,) = drawn([Row("clip", {"original": one})])["rows"][0]["cells"]
    content = b64decode(cell["image"].removeprefix("data:image/png;base64,"))
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(content))), image)


def test_levels_outside_the_scale_are_clipped():
    low, high = (spectrogram_image(sound(0.5, decibels))[0, 0].tolist() for decibels in (-200, 40))
    assert (low, high) == (players._RAMP[0].tolist(), players._RAMP[-1].tolist())


def test_ticks_rise_with_frequency_within_the_picture(drawn):
    ticks = drawn([Row("clip", {"original": sound(0.5)})])["ticks"]
    positions = [position for position, _ in ticks]
    assert positions == sorted(positions)
    assert all(0 < position <= 1.001 for position in positions)
    assert {"1", "2", "4"} <= {label for _, label in ticks}


def test_texts_reach_the_component_as_text_and_its_code_writes_no_markup(drawn):
    data = drawn([Row(HOSTILE, {HOSTILE: sound(0.5)}, {HOSTILE: HOSTILE})])
    assert data["rows"][0]["title"] == data["rows"][0]["cells"][0]["title"] == HOSTILE
    for name in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval", "fetch", "http"):
        assert name not in players._JS


def test_the_table_has_as_many_columns_as_its_longest_row(drawn):
    rows = [Row("a", {"original": sound(0.5)}), Row("b", {str(number): sound(0.5) for number in range(3)})]
    assert drawn(rows)["columns"] == 3
    assert drawn([])["rows"] == []
