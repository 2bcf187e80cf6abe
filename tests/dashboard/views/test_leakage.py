import pytest

from marl.metrics import METRIC_VERSION
from tests.dashboard.opening import open_page, words
from tests.messages import assert_mentions
from tests.study.report.studies import separated, trial_of, write_study

pytestmark = pytest.mark.slow

TRIALS = [
    trial_of([4.0, 4.2], [0.7, 0.8]),
    trial_of([3.0, 3.2], [0.3, 0.5]),
    trial_of([3.5, 3.7], [0.4, 0.5], "pruned"),
    trial_of([5.0, 5.2], [0.1, 0.2]),
]


def models_of(app):
    """Models with a column in the tables of values, by table."""
    return [list(table.value.columns[3:]) for table in app.dataframe]


def test_the_matrix_of_a_trial_is_beside_others_of_the_front(tmp_path, tiny, monkeypatch):
    write_study(tmp_path, tiny, TRIALS)
    app = open_page(monkeypatch, tmp_path, "leakage", study="tiny", trial=0)
    assert models_of(app) == [["trial 0"], ["trial 1"]]
    assert [heading.value for heading in app.subheader][-1] == "Other trials on the front"
    values = app.dataframe[0].value.set_index(["factor", "subspace", "reader"])["trial 0"]
    assert values["timbre", "shared", "strong"].startswith("60.0")
    assert values["frequency", "private", "strong"].startswith("40.0")


def test_selected_trials_are_small_multiples(tmp_path, tiny, monkeypatch):
    write_study(tmp_path, tiny, TRIALS)
    app = open_page(monkeypatch, tmp_path, "leakage", study="tiny", trial=0, trials="3,0,1")
    assert models_of(app) == [["trial 0"], ["trial 3", "trial 1"]]
    assert [heading.value for heading in app.subheader][-1] == "Selected trials"


def test_the_untrained_network_is_a_reference(tmp_path, tiny, monkeypatch):
    store = write_study(tmp_path, tiny, TRIALS)
    store.write_baselines(
        {"replicates": 2, "untrained": {"information/timbre/shared": 0.125}, "metric_version": METRIC_VERSION}
    )
    app = open_page(monkeypatch, tmp_path, "leakage", study="tiny", trial=0)
    assert models_of(app)[0] == ["trial 0", "untrained"]
    assert app.dataframe[0].value["untrained"].tolist().count("12.5") == 1


def test_stored_latents_show_which_latent_knows_which_factor(tmp_path, tiny, monkeypatch):
    store = write_study(tmp_path, tiny, TRIALS)
    app = open_page(monkeypatch, tmp_path, "leakage", study="tiny", trial=0)
    assert_mentions(words(app), "not drawn", "latents", "trial 0")
    charts = len(app.get("vega_lite_chart"))
    store.write_latents(0, 0, separated())
    app = open_page(monkeypatch, tmp_path, "leakage", study="tiny", trial=0)
    assert len(app.get("vega_lite_chart")) == charts + 1


def test_only_complete_trials_are_offered(tmp_path, tiny, monkeypatch):
    write_study(tmp_path, tiny, TRIALS)
    app = open_page(monkeypatch, tmp_path, "leakage", study="tiny", trial=2)
    assert app.selectbox(key="one trial").options == ["0", "1", "3"]
    assert_mentions(words(app), "trial=2")


def test_a_study_without_complete_trials_says_so(tmp_path, tiny, monkeypatch):
    write_study(tmp_path, tiny, TRIALS[2:3])
    app = open_page(monkeypatch, tmp_path, "leakage", study="tiny")
    assert_mentions(words(app), "no trial is complete")
