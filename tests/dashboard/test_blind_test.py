import re
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from dashboard import comparison, players
from dashboard.views import compare
from marl.audio import AudioConfig
from study.export.audition import Sound
from study.store.notes import Notes
from tests.dashboard.opening import open_page, unescaped, words
from tests.messages import assert_mentions
from tests.study.report.studies import trial_of, write_study

pytestmark = pytest.mark.slow

LEVELS = {"original": 0.5, 0: 0.25, 1: 0.125}
"""Level of the original, and of the reconstructions of each trial, by which a test recognises them."""


def sound(level):
    return Sound(np.full(160, level, np.float32), 16_000, np.zeros((2, 2), np.float32))


def model(trial):
    clips = pd.DataFrame({"clip": range(100, 140), "factor/timbre": ["sine"] * 40})
    return SimpleNamespace(
        clips=clips,
        audio=AudioConfig(),
        original=lambda clip: sound(LEVELS["original"]),
        reconstruction=lambda clip: sound(LEVELS[trial]),
    )


@pytest.fixture
def heard(monkeypatch):
    """Levels of the original, A and B, of each drawn table."""
    tables = []
    for name in ("_metrics", "_curves"):  # the charts of the page take most of the time
        monkeypatch.setattr(compare, name, lambda reading, rows: None)
    monkeypatch.setattr(comparison, "audition_or_reason", lambda reading, trial, seed: model(trial))
    monkeypatch.setattr(players, "_component", lambda: lambda data, key: None)

    def draw(rows, config, key, is_blind=False):
        assert is_blind
        tables.append([float(one.waveform_S[0]) for one in rows[0].sounds.values()])

    monkeypatch.setattr(comparison, "sound_table", draw)
    return tables


@pytest.fixture
def store(tmp_path, tiny):
    return write_study(tmp_path, tiny, [trial_of([4.0, 4.2], [0.2, 0.4]), trial_of([3.0, 3.2], [0.7, 0.8])])


def opened(monkeypatch, tmp_path, **address):
    return open_page(monkeypatch, tmp_path, "compare", study="tiny", trials="0,1", mode="Blind test", **address)


def answer(app, label):
    return next(button for button in app.button if button.label == label).click().run()


def test_a_listener_who_always_prefers_one_trial_is_understood_in_any_order(store, tmp_path, monkeypatch, heard):
    app = opened(monkeypatch, tmp_path)
    for _ in range(10):
        _, first, _ = heard[-1]
        app = answer(app, "A is nearer" if first == LEVELS[1] else "B is nearer")
    assert {tuple(levels[1:]) for levels in heard} == {(0.25, 0.125), (0.125, 0.25)}  # both orders occurred
    (result,) = [unescaped(one.value) for one in app.success]
    assert_mentions(result, "trial 0 was nearer", "0 of 10", "0 to 21 %", "0 undecided")


def test_names_of_models_are_hidden_until_the_end(store, tmp_path, monkeypatch, heard):
    app = opened(monkeypatch, tmp_path)
    assert not app.success
    assert [button.label for button in app.button][-3:] == ["A is nearer", "B is nearer", "I cannot tell"]


def test_undecided_answers_do_not_count(store, tmp_path, monkeypatch, heard):
    app = opened(monkeypatch, tmp_path)
    for _ in range(10):
        app = answer(app, "I cannot tell")
    assert_mentions(unescaped(app.success[0].value), "0 of 0", "0 to 100 %", "10 undecided")


def test_the_result_and_the_answers_are_kept_as_notes_once(store, tmp_path, monkeypatch, heard):
    app = opened(monkeypatch, tmp_path)
    for number in range(10):
        app = answer(app, "I cannot tell" if number < 3 else "A is nearer")
    result = app.success[0].value
    app = answer(app, "Keep as a note")
    notes = Notes(store).read().notes
    assert [note.trial for note in notes] == [0, 1]
    assert notes[0].text == notes[1].text
    assert notes[0].text.startswith(unescaped(result))
    assert len(re.findall(r"\b1[0-3]\d\b", notes[0].text.partition("Order")[0])) == 10  # all clips are named
    assert re.search(r"Order from seed \d+", notes[0].text)
    assert "Keep as a note" not in [button.label for button in app.button]


def test_a_note_that_fails_to_save_is_reported_and_can_be_kept_later(store, tmp_path, monkeypatch, heard):
    app = opened(monkeypatch, tmp_path)
    for _ in range(10):
        app = answer(app, "A is nearer")
    (tmp_path / "tiny").rename(tmp_path / "away")
    app = answer(app, "Keep as a note")
    assert_mentions(words(app), "'tiny'", "deleted")
    assert "Keep as a note" in [button.label for button in app.button]


def test_another_test_begins_with_other_clips(store, tmp_path, monkeypatch, heard):
    app = opened(monkeypatch, tmp_path)
    for _ in range(10):
        app = answer(app, "A is nearer")
    app = answer(app, "Again with other clips")
    assert not app.success
    assert "clip 1 of 10" in [unescaped(one.proto.text) for one in app.get("progress")]


def test_the_number_of_clips_and_the_pair_are_in_the_address(store, tmp_path, monkeypatch, heard):
    app = opened(monkeypatch, tmp_path, rounds=20)
    assert "clip 1 of 20" in [unescaped(one.proto.text) for one in app.get("progress")]
    assert app.selectbox(key="one pair").options == ["trial 0 and trial 1"]
