import pytest

from tests.dashboard.opening import open_page, words
from tests.messages import assert_mentions
from tests.study.report.studies import PLAIN, trial_of, write_study

pytestmark = pytest.mark.slow


def study(tmp_path, tiny, count, **changes):
    trials = [
        trial_of(
            [4.0 + gamma, 4.2 + gamma],
            [0.2, 0.4 + 0.01 * gamma],
            config=PLAIN | {"loss.private.gamma": 0.5 + gamma, "latent.private": 2 + 2 * (gamma % 2)},
        )
        for gamma in range(count)
    ]
    return write_study(tmp_path, tiny | changes, trials)


def test_configurations_importance_slice_and_contour_are_drawn(tmp_path, tiny, monkeypatch):
    study(tmp_path, tiny, 8)
    app = open_page(monkeypatch, tmp_path, "search", study="tiny")
    assert [heading.value for heading in app.subheader] == [
        "Optimisation history",
        "Configurations",
        "Importance of parameters",
        "One and two parameters",
    ]
    assert len(app.get("vega_lite_chart")) >= 4


def test_importance_states_the_number_of_trials_it_needs(tmp_path, tiny, monkeypatch):
    study(tmp_path, tiny, 2)
    assert_mentions(words(open_page(monkeypatch, tmp_path, "search", study="tiny")), "importance", "at least", 4, 2)


def test_halving_studies_show_stopped_trials(tmp_path, tiny, monkeypatch):
    study(tmp_path, tiny, 3, halving={"reduction_factor": 2, "min_steps": 10})
    assert_mentions(words(open_page(monkeypatch, tmp_path, "search", study="tiny")), "stopped by halving")


def test_without_complete_trials_the_page_states_it(tmp_path, tiny, monkeypatch):
    write_study(tmp_path, tiny, [trial_of([4.0, 4.2], [0.2, 0.4], "running")])
    assert_mentions(words(open_page(monkeypatch, tmp_path, "search", study="tiny")), "no complete trial")
