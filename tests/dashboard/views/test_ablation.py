import pytest

from tests.dashboard.opening import open_page, unescaped, words
from tests.messages import assert_mentions
from tests.study.report.studies import PLAIN, trial_of, write_study

pytestmark = pytest.mark.slow


def test_each_metric_has_a_panel_for_each_weight(tmp_path, tiny, monkeypatch):
    trials = [
        trial_of([4.0, 4.2], [0.2, 0.4]),
        trial_of([3.0, 3.2], [0.1, 0.2], config=PLAIN | {"loss.private.gamma": 5.0}),
    ]
    write_study(tmp_path, tiny, trials)
    app = open_page(monkeypatch, tmp_path, "ablation", study="tiny")
    assert [unescaped(heading.value) for heading in app.subheader] == [
        "log-mel RMSE (dB)",
        "separation (strong reader)",
    ]
    assert len(app.get("vega_lite_chart")) == 2
    assert_mentions(words(app), "differ", "parameter")


def test_without_complete_trials_the_page_states_it(tmp_path, tiny, monkeypatch):
    write_study(tmp_path, tiny, [trial_of([4.0, 4.2], [0.2, 0.4], "running")])
    assert_mentions(words(open_page(monkeypatch, tmp_path, "ablation", study="tiny")), "no complete trial")
