import pytest

from tests.dashboard.opening import open_page, words
from tests.messages import assert_mentions
from tests.study.report.studies import PLAIN, trial_of, write_study

pytestmark = pytest.mark.slow

OTHER = PLAIN | {"latent.private": 4}


def test_configurations_are_compared_where_they_differ(tmp_path, tiny, monkeypatch):
    write_study(tmp_path, tiny, [trial_of([4.0, 4.2], [0.2, 0.4]), trial_of([3.0, 3.2], [0.1, 0.2], config=OTHER)])
    app = open_page(monkeypatch, tmp_path, "compare", study="tiny", trials="0,1")
    differences = app.dataframe[0].value
    assert differences.index.tolist() == ["private latents"]
    assert differences.iloc[0].tolist() == ["2", "4"]
    assert_mentions(words(app), "equal", "γ private")


def test_a_conditional_parameter_of_one_trial_is_a_difference(tmp_path, tiny, monkeypatch):
    has = PLAIN | {"contrast.strategy": "infonce", "contrast.temperature": 0.2}
    write_study(tmp_path, tiny, [trial_of([4.0, 4.2], [0.2, 0.4]), trial_of([3.0, 3.2], [0.1, 0.2], config=has)])
    app = open_page(monkeypatch, tmp_path, "compare", study="tiny", trials="0,1")
    assert app.dataframe[0].value.loc["temperature"].tolist() == ["–", "0.2"]


def test_a_single_trial_is_not_compared(tmp_path, tiny, monkeypatch):
    write_study(tmp_path, tiny, [trial_of([4.0, 4.2], [0.2, 0.4])])
    app = open_page(monkeypatch, tmp_path, "compare", study="tiny", trials="0")
    assert_mentions(words(app), "at least two trials")


def test_both_readers_of_each_subspace_are_compared_and_named(tmp_path, tiny, monkeypatch):
    write_study(tmp_path, tiny, [trial_of([4.0, 4.2], [0.2, 0.4]), trial_of([3.0, 3.2], [0.1, 0.2], config=OTHER)])
    app = open_page(monkeypatch, tmp_path, "compare", study="tiny", trials="0,1")
    (chosen,) = (box for box in app.multiselect if box.label == "Metrics")
    assert {f"{group}/timbre/{part}" for group in ("information", "probe") for part in ("private", "shared")} < set(
        chosen.value
    )
    assert {"information timbre shared (strong reader)", "probe timbre shared (lightweight reader)"} < set(
        chosen.options
    )
