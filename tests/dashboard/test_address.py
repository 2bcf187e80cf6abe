"""Addresses of pages: each value is checked in one place, and a link reproduces a view."""

import logging
import threading

import pytest

import dashboard.reading
from dashboard.address import parse_trials
from dashboard.reading import StoreReader
from study.storage import ObjectStore
from tests.dashboard.opening import open_page, unescaped, words
from tests.messages import assert_mentions
from tests.study.report.studies import trial_of, write_study

TRIALS = [trial_of([4.0, 4.2], [0.2, 0.4]), trial_of([3.0, 3.2], [0.1, 0.2]), trial_of([5.0, 5.1], [0.1, 0.1])]


@pytest.fixture
def opened(tmp_path, tiny, monkeypatch):
    """Function that opens a page of a study of three trials: 0 and 1 are on the front."""
    write_study(tmp_path, tiny, TRIALS)
    return lambda path, **address: open_page(monkeypatch, tmp_path, path, study="tiny", **address)


@pytest.mark.parametrize("text", ["9" * 5000, "1,x", "-1", "1.5", "²"])
def test_words_that_are_not_trial_numbers_are_rejected(text):
    with pytest.raises(ValueError, match="is not the number of a trial"):
        parse_trials(text)


def test_repeated_trials_count_once():
    assert parse_trials("3, 1 3,,1") == [3, 1]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("path", "values", "quoted"),
    [
        ("compare", {"trials": "9" * 5000}, "trials=999"),
        ("compare", {"trials": "1,77"}, "trials=77"),
        ("trial", {"trial": "77"}, "trial=77"),
        ("trial", {"trial": "nan"}, "trial=nan"),
        ("trial", {"part": "Cellar"}, "part=Cellar"),
        ("trade-off", {"x": "no/such"}, "x=no/such"),
        ("trade-off", {"limited": "fidelity/log_mel_rmse_db", "fidelity/log_mel_rmse_db": "nan"}, "=nan"),
        ("trade-off", {"spread": "wide"}, "spread=wide"),
    ],
)
def test_an_invalid_value_is_ignored_with_a_note(opened, path, values, quoted):
    app = opened(path, **values)
    assert not app.error
    (note,) = (unescaped(warning.value) for warning in app.warning)
    assert quoted in note


@pytest.mark.slow
@pytest.mark.parametrize("path", ["compare", "trial", "trade-off", "trials", "search", "ablation", "export"])
def test_a_page_does_not_change_its_own_address(opened, path):
    address = opened(path, trial=1).query_params
    assert dict(address) == {"study": "tiny", "trial": "1"}


@pytest.mark.slow
def test_viewing_a_trial_selects_none(opened):
    app = opened("trial")
    app.selectbox(key="one trial").select(0).run()
    assert app.query_params["trial"] == "0"
    assert "trials" not in app.query_params


@pytest.mark.slow
def test_error_bars_are_intervals_unless_the_switch_asks_for_standard_deviations(opened):
    assert_mentions(words(opened("compare")), "90 % interval")
    assert_mentions(words(opened("compare", spread="sd")), "standard deviation")


@pytest.mark.slow
def test_another_study_keeps_what_error_bars_show(opened, tmp_path, tiny):
    write_study(tmp_path, tiny | {"name": "other"}, TRIALS)
    app = opened("compare", spread="sd", trials="1", metrics="fidelity/log_mel_rmse_db")
    app.selectbox(key="other study").select("other").run()
    assert {name: str(value) for name, value in app.query_params.items()} == {"study": "other", "spread": "sd"}


@pytest.mark.slow
def test_an_error_of_a_page_shows_no_traceback(opened, monkeypatch, caplog):
    def fail(reading):
        raise RuntimeError("broken")

    monkeypatch.setattr("dashboard.views.compare.page", fail)
    with caplog.at_level(logging.ERROR):
        app = opened("compare")
    (message,) = (error.value for error in app.error)
    assert "broken" not in message
    assert "RuntimeError: broken" in caplog.text


def test_a_slow_first_reading_of_a_study_does_not_delay_another(tmp_path, tiny, monkeypatch):
    write_study(tmp_path, tiny, TRIALS)
    write_study(tmp_path, tiny | {"name": "slow"}, TRIALS)
    reader, release, has_started = StoreReader(ObjectStore(str(tmp_path))), threading.Event(), threading.Event()
    read = dashboard.reading.StudyResults

    def wait(store):
        if store.name == "slow":
            has_started.set()
            assert release.wait(60)
        return read(store)

    monkeypatch.setattr("dashboard.reading.StudyResults", wait)
    thread = threading.Thread(target=reader.latest, args=["slow"])
    thread.start()
    assert has_started.wait(60)
    assert reader.latest("tiny").status["study"] == "tiny"
    release.set()
    thread.join()


def test_what_a_user_has_written_is_in_the_next_reading(tmp_path, tiny):
    write_study(tmp_path, tiny, TRIALS)
    reader = StoreReader(ObjectStore(str(tmp_path)))
    reading = reader.latest("tiny")
    reading.notes.write(1, "sounds clean")
    assert not reader.latest("tiny").marks.notes  # a page that polls may wait
    reading.expire()
    assert [note.text for note in reader.latest("tiny").marks.notes] == ["sounds clean"]
