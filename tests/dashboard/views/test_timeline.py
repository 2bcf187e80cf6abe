import pytest

import dashboard.views.timeline
from tests.dashboard.opening import open_page, words
from tests.messages import assert_mentions
from tests.study.report.studies import trial_of, write_study

pytestmark = pytest.mark.slow

TRIALS = [
    trial_of([4.0, 4.2], [0.2, 0.4]),
    trial_of([5.0, 5.2], [0.1, 0.2], "failed", error="<b>boom</b>"),
    trial_of([3.0, 3.2], [0.3, 0.5], "running"),
]


@pytest.fixture
def drawn(monkeypatch):
    """Spans that the page has drawn."""
    tables = []
    chart = dashboard.views.timeline.spans_chart
    monkeypatch.setattr(dashboard.views.timeline, "spans_chart", lambda spans: tables.append(spans) or chart(spans))
    return tables


def values(app):
    return {metric.label: metric.value for metric in app.metric}


def test_each_start_of_a_trial_is_drawn_with_its_trainer_and_counted(tmp_path, tiny, monkeypatch, drawn):
    write_study(tmp_path, tiny, TRIALS, trainers=[0, 1, 1])
    app = open_page(monkeypatch, tmp_path, "timeline", study="tiny")
    spans = drawn[0].set_index("trial")
    assert spans["trainer"].to_dict() == {0: 0, 1: 1, 2: 1}
    # The last trial was running when its run ended.
    assert spans["state"].to_dict() == {0: "complete", 1: "failed", 2: "interrupted"}
    for fact in ("row of its trainer", "Rate of training"):
        assert_mentions(words(app), fact)
    found = values(app)
    assert (found["failed"], found["interrupted"]) == ("1", "1")


def test_a_study_that_has_not_recorded_trainers_says_so(tmp_path, tiny, monkeypatch):
    write_study(tmp_path, tiny, TRIALS, trainers=[None, None, None])
    assert_mentions(words(open_page(monkeypatch, tmp_path, "timeline", study="tiny")), "has not recorded the trainers")


def test_a_study_without_starts_says_so(tmp_path, tiny, monkeypatch):
    write_study(tmp_path, tiny, [])
    assert_mentions(words(open_page(monkeypatch, tmp_path, "timeline", study="tiny")), "No trial has started yet")
