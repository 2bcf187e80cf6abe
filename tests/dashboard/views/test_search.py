import pytest

from tests.dashboard.opening import open_page, unescaped, words
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
        "Configurations",
        "Importance of parameters",
        "One and two parameters",
        "Correlations of metrics",
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


@pytest.mark.parametrize(("count", "is_warned"), [(29, True), (30, False)])
def test_importances_of_fewer_than_thirty_trials_have_a_warning(tmp_path, tiny, monkeypatch, count, is_warned):
    study(tmp_path, tiny, count)
    warnings = [one.value for one in open_page(monkeypatch, tmp_path, "search", study="tiny").warning]
    assert [f"{count} complete trials are few" in warning for warning in warnings] == [True] * is_warned


def test_ranges_of_axes_are_kept_in_the_address_and_count_the_trials_within(tmp_path, tiny, monkeypatch):
    study(tmp_path, tiny, 5)
    # Trials are at 0 to 1 in steps of a quarter by their error.
    within = "fidelity/log_mel_rmse_db:-0.1:0.6,latent.private:-0.1:0.5"
    app = open_page(monkeypatch, tmp_path, "search", study="tiny", within=within)
    assert not app.warning or "within" not in app.warning[0].value
    assert_mentions(words(app), "2 of 5 trials", "within all ranges")
    assert app.query_params["within"] in (within, [within])
    (clear,) = (button for button in app.button if button.label == "Clear the ranges")
    app = clear.click().run()
    assert "within" not in app.query_params
    assert "within all ranges" not in words(app)


@pytest.mark.parametrize("part", ["latent.private:0.6:0.2", "latent.private:0.1", "latent.private:0:inf", "nothing"])
def test_invalid_ranges_are_ignored_with_a_note_and_others_stay(tmp_path, tiny, monkeypatch, part):
    study(tmp_path, tiny, 5)
    app = open_page(monkeypatch, tmp_path, "search", study="tiny", within=f"{part},latent.private:-0.1:0.5")
    assert_mentions(unescaped("\n".join(one.value for one in app.warning)), f"within={part}", "name:low:high")
    assert_mentions(words(app), "3 of 5 trials", "within all ranges")
