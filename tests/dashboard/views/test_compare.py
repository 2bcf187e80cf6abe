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
    assert_mentions(words(app), "single trial", "nothing to compare")


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


@pytest.mark.parametrize(("selected", "compared"), [({}, [2, 1]), ({"trials": "0"}, [0, 2])])
def test_fewer_than_two_selected_trials_are_filled_up_from_the_front(tmp_path, tiny, monkeypatch, selected, compared):
    trials = [trial_of([5.0, 5.1], [0.1, 0.1]), trial_of([4.0, 4.1], [0.5, 0.5]), trial_of([3.0, 3.1], [0.2, 0.2])]
    write_study(tmp_path, tiny, trials)
    app = open_page(monkeypatch, tmp_path, "compare", study="tiny", **selected)
    assert sorted(app.dataframe[0].value.columns) == sorted(f"trial {trial}" for trial in compared)
    assert_mentions(words(app), "fewer than two", *compared)
    assert app.query_params.get("trials") in (None, "0", ["0"])


def test_more_trials_than_fit_are_noted(tmp_path, tiny, monkeypatch):
    write_study(tmp_path, tiny, [trial_of([4.0 + number, 4.2 + number], [0.2, 0.4]) for number in range(8)])
    app = open_page(monkeypatch, tmp_path, "compare", study="tiny", trials="0,1,2,3,4,5,6,7")
    assert_mentions("\n".join(one.value for one in app.warning), "first 6")
    assert len(app.dataframe[0].value.columns) == 6
