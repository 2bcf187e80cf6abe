import pytest

from tests.dashboard.opening import open_page, words
from tests.messages import assert_mentions
from tests.study.report.studies import trial_of, write_study

pytestmark = pytest.mark.slow


def test_the_equivalent_command_is_shown(tmp_path, tiny, monkeypatch):
    write_study(tmp_path, tiny, [trial_of([4.0, 4.2], [0.2, 0.4]), trial_of([3.0, 3.2], [0.1, 0.2])])
    app = open_page(monkeypatch, tmp_path, "export", study="tiny", trials="1,0")
    assert app.code[0].value == f"marl-study export tiny --store {tmp_path} --trial 1 --trial 0 --to exported"


def test_missing_weights_are_reported_and_no_download_is_offered(tmp_path, tiny, monkeypatch):
    write_study(tmp_path, tiny, [trial_of([4.0, 4.2], [0.2, 0.4])])
    app = open_page(monkeypatch, tmp_path, "export", study="tiny")
    app = app.button[0].click().run()
    assert app.error
    assert not app.get("download_button")


def test_incomplete_trials_are_not_exported(tmp_path, tiny, monkeypatch):
    write_study(tmp_path, tiny, [trial_of([4.0, 4.2], [0.2, 0.4], "running")])
    assert_mentions(words(open_page(monkeypatch, tmp_path, "export", study="tiny")), "complete trial", "export")
