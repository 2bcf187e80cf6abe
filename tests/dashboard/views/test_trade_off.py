import json

import pyarrow as pa
import pytest

from study.spec import Baseline
from tests.dashboard.opening import open_page, unescaped, words
from tests.messages import assert_mentions
from tests.study.report.studies import FIDELITY, SEPARATION, trial_of, write_study

pytestmark = pytest.mark.slow

TRIALS = [
    trial_of([4.0, 4.2], [0.2, 0.4]),
    trial_of([3.0, 3.2], [0.1, 0.2]),
    trial_of([5.0, 5.1], [0.1, 0.1], state="pruned"),
]


def drawn(app):
    """Return the specifications of the charts as Vega receives them."""
    return [json.loads(chart.proto.spec) for chart in app.get("vega_lite_chart") + app.get("arrow_vega_lite_chart")]


def test_the_table_lists_the_front_and_the_chart_has_a_description(tmp_path, tiny, monkeypatch):
    write_study(tmp_path, tiny, TRIALS)
    app = open_page(monkeypatch, tmp_path, "trade-off", study="tiny")
    assert_mentions(words(app), "front")
    assert app.dataframe[0].value["trial"].tolist() == [1, 0]
    assert drawn(app)


def test_the_address_selects_trials_and_unknown_numbers_are_ignored(tmp_path, tiny, monkeypatch):
    write_study(tmp_path, tiny, TRIALS)
    app = open_page(monkeypatch, tmp_path, "trade-off", study="tiny", trials="2,99,0")
    assert_mentions(unescaped(app.warning[0].value), "trials=99")
    assert_mentions(words(app), "selected", 2)
    assert app.dataframe[0].value["trial"].tolist() == [2, 0]


def test_limits_filter_trials_and_are_kept_in_the_address(tmp_path, tiny, monkeypatch):
    write_study(tmp_path, tiny, TRIALS)
    app = open_page(monkeypatch, tmp_path, "trade-off", study="tiny", limited="fidelity/log_mel_rmse_db")
    (slider,) = app.slider
    assert slider.label == "log-mel RMSE (dB) at most"
    app = slider.set_value(4.2).run()
    assert_mentions(words(app), "2 of 3 trials")
    again = open_page(monkeypatch, tmp_path, "trade-off", **app.query_params)
    assert again.slider[0].value == pytest.approx(4.2)
    assert_mentions(words(again), "2 of 3 trials")


def drawn_trials(app):
    """Return the trials in the data of the first chart."""
    data = app.get("vega_lite_chart")[0].proto.datasets[0].data.data
    trials = pa.ipc.open_stream(data).read_pandas()["trial"]
    return set(trials[trials >= 0])


def test_new_complete_trials_are_drawn_and_the_selection_stays(tmp_path, tiny, monkeypatch):
    monkeypatch.setattr("dashboard.reading.QUIET_S", -1.0)
    store = write_study(tmp_path, tiny, TRIALS)
    app = open_page(monkeypatch, tmp_path, "trade-off", study="tiny", trials="1")
    assert drawn_trials(app) == {0, 1, 2}
    rows = [
        {"trial": 3, "seed": seed, "step": 30, "metric_version": 1, FIDELITY: 2.0, SEPARATION: 0.9} for seed in (0, 1)
    ]
    store.append("reports", 1, 98, rows)
    store.append("trials", 1, 99, [{"trial": 3, "state": "complete", "error": None, "step": 30}])
    app.run()
    assert drawn_trials(app) == {0, 1, 2, 3}
    assert app.dataframe[0].value["trial"].tolist() == [1]
    assert_mentions(words(app), "selected", 1)


def test_an_unreadable_store_is_reported_and_the_last_reading_stays(tmp_path, tiny, monkeypatch):
    for wait in ("QUIET_S", "LIVE_S"):
        monkeypatch.setattr(f"dashboard.reading.{wait}", -1.0)
    write_study(tmp_path / "runs", tiny, TRIALS)
    app = open_page(monkeypatch, tmp_path / "runs", "trade-off", study="tiny")
    before = words(app)
    (tmp_path / "runs").rename(tmp_path / "away")
    app.run()
    assert_mentions(words(app), "store", "cannot be read")
    assert drawn_trials(app) == {0, 1, 2}
    (tmp_path / "away").rename(tmp_path / "runs")
    app.run()
    assert words(app) == before


def test_a_study_without_reports_states_it(tmp_path, tiny, monkeypatch):
    write_study(tmp_path, tiny, [])
    app = open_page(monkeypatch, tmp_path, "trade-off", study="tiny")
    assert_mentions(words(app), "no trial", "report")


def test_failed_trials_show_their_error(tmp_path, tiny, monkeypatch):
    store = write_study(tmp_path, tiny, [])
    store.append("trials", 1, 99, [{"trial": 0, "state": "failed", "error": "seed 0 diverged at step 7", "step": 7}])
    app = open_page(monkeypatch, tmp_path, "trade-off", study="tiny")
    assert "seed 0 diverged at step 7" in words(app)


def test_an_unknown_study_in_the_address_is_reported_and_another_is_shown(tmp_path, tiny, monkeypatch):
    write_study(tmp_path, tiny, TRIALS)
    app = open_page(monkeypatch, tmp_path, "trade-off", study="nothere")
    assert_mentions(words(app), "not a study", "nothere", "tiny")


@pytest.mark.parametrize("colour", ["contrast.strategy", "loss.private.gamma"])
def test_points_are_coloured_by_a_parameter(tmp_path, tiny, monkeypatch, colour):
    write_study(tmp_path, tiny, TRIALS)
    app = open_page(monkeypatch, tmp_path, "trade-off", study="tiny", colour=colour)
    assert app.selectbox(key="one colour").value == colour


def test_trials_are_selected_by_number_and_unknown_numbers_are_ignored(tmp_path, tiny, monkeypatch):
    write_study(tmp_path, tiny, TRIALS)
    app = open_page(monkeypatch, tmp_path, "trade-off", study="tiny")
    app = app.text_input[0].set_value("1, 99, 1 0").run()
    assert not app.exception
    assert_mentions(words(app), "selected", 2)
    assert app.query_params["trials"] in ("1,0", ["1,0"])
    app = app.text_input[0].set_value("1, two").run()
    assert_mentions(unescaped(app.warning[0].value), "two", "number of a trial")
    assert app.query_params["trials"] in ("1,0", ["1,0"])
    app = app.text_input[0].set_value("99").run()
    assert "Selected" not in words(app)


def test_reports_of_the_baseline_do_not_count_as_reports_of_trials(tmp_path, tiny, monkeypatch):
    store = write_study(tmp_path, tiny, [])
    store.append(
        "reports", 1, 98, [{"trial": Baseline.PLAIN_VAE, "seed": 0, "step": 30, "metric_version": 1, FIDELITY: 4.0}]
    )
    store.append("trials", 1, 99, [{"trial": 0, "state": "failed", "error": "seed 0 diverged at step 7", "step": 7}])
    for page in ("trade-off", "trial", "compare", "search"):
        assert "seed 0 diverged at step 7" in words(open_page(monkeypatch, tmp_path, page, study="tiny"))


def test_one_failed_trial_is_not_reported_as_all_failed(tmp_path, tiny, monkeypatch):
    store = write_study(tmp_path, tiny, [])
    store.append("trials", 1, 98, [{"trial": 0, "state": "failed", "error": "seed 0 diverged at step 7", "step": 7}])
    store.append("trials", 1, 99, [{"trial": 1, "state": "running", "error": None, "step": 0}])
    said = words(open_page(monkeypatch, tmp_path, "trade-off", study="tiny"))
    assert "All" not in said
    assert "seed 0 diverged at step 7" in said


def test_trials_that_may_be_on_the_front_are_listed_with_what_more_seeds_would_decide(tmp_path, tiny, monkeypatch):
    # Trial 2 is far behind. Trials 0 and 1 differ by less than their seeds, of which one is better in both metrics.
    close = [trial_of([3.0, 5.0], [0.4, 0.2]), trial_of([3.1, 4.9], [0.39, 0.21]), trial_of([50.0, 50.1], [0.0, 0.0])]
    write_study(tmp_path, tiny, close)
    app = open_page(monkeypatch, tmp_path, "trade-off", study="tiny")
    assert "What if more seeds" in [heading.value for heading in app.subheader]
    assert_mentions(words(app), "2 of 3 complete trials", "4 seeds", "8 seeds")
    (table,) = (one.value for one in app.dataframe if "front_probability" in one.value and "state" not in one.value)
    assert set(table["trial"]) == {0, 1}
    assert table["front_probability"].between(0.05, 0.95).all()


def test_a_chart_with_outliers_opens_zoomed_and_the_address_shows_all(tmp_path, tiny, monkeypatch):
    points = [trial_of([3 + 0.1 * step] * 2, [0.3 + 0.02 * step] * 2) for step in range(9)]
    write_study(tmp_path, tiny, [*points, trial_of([90.0, 90.0], [0.1, 0.1])])
    app = open_page(monkeypatch, tmp_path, "trade-off", study="tiny")
    assert drawn_trials(app) == set(range(9))
    app = app.button(key="toggle all").click().run()
    assert app.query_params["all"] in ("1", ["1"])
    assert drawn_trials(app) == set(range(10))
