import pytest

from tests.dashboard.opening import open_page, unescaped, words
from tests.messages import assert_mentions
from tests.study.report.studies import trial_of, write_study

pytestmark = pytest.mark.slow


def test_each_study_has_a_card_with_its_state_and_its_best_values(tmp_path, tiny, monkeypatch):
    for name, fidelity in (("one", 4.0), ("two", 3.0)):
        write_study(tmp_path, tiny | {"name": name}, [trial_of([fidelity, fidelity], [0.2, 0.4])])
    app = open_page(monkeypatch, tmp_path)
    assert [heading.value for heading in app.subheader] == ["one", "two"]
    values = [metric.value for metric in app.metric if unescaped(metric.label) == "lowest log-mel RMSE (dB)"]
    assert values == ["4", "3"]
    assert words(app).count("1 complete, of 1") == 2


def test_an_empty_store_shows_the_first_command(tmp_path, monkeypatch):
    assert "marl-study run quickstart" in words(open_page(monkeypatch, tmp_path))


def test_an_invalid_store_is_one_error_message(monkeypatch):
    assert_mentions(words(open_page(monkeypatch, "ftp-of-old://host/x")), "folder", "s3://", "ftp-of-old://host/x")


def test_a_damaged_study_is_reported_and_others_are_listed(tmp_path, tiny, monkeypatch):
    write_study(tmp_path, tiny | {"name": "good"}, [trial_of([4.0, 4.0], [0.2, 0.4])])
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "study.json").write_text("{")
    app = open_page(monkeypatch, tmp_path)
    assert_mentions(words(app), "bad", "damaged")
    assert [metric.label for metric in app.metric if unescaped(metric.label) == "highest separation (strong reader)"]


def test_interrupted_studies_show_the_resume_command(tmp_path, tiny, monkeypatch):
    write_study(tmp_path, tiny, [trial_of([4.0, 4.0], [0.2, 0.4], "running")])
    app = open_page(monkeypatch, tmp_path)
    assert "interrupted" in words(app)
    assert f"marl-study resume tiny --store {tmp_path}" in words(app)
