import pytest

import dashboard.views.log
from tests.dashboard.opening import open_page, words
from tests.messages import assert_mentions
from tests.study.report.studies import trial_of, write_study

pytestmark = pytest.mark.slow

HOSTILE = "<b>[boom](http://evil)</b> :material_home:"
TRIALS = [
    trial_of([4.0, 4.2], [0.2, 0.4]),
    *[trial_of([5.0, 5.2], [0.1, 0.2], "failed", error=error) for error in ("one", HOSTILE, HOSTILE)],
]
LOG = ["run 1 starts", f"Trial 1 failed: {HOSTILE}", "trial 7 is complete", "\x1b[31mred\x07"]


@pytest.fixture
def opened(tmp_path, tiny, monkeypatch):
    """Function that opens the page with values in its address."""
    write_study(tmp_path, tiny, TRIALS, LOG, trainers=[0, 0, 0, 0])
    return lambda **address: open_page(monkeypatch, tmp_path, "log", study="tiny", **address)


def lines(app):
    return app.code[-1].value.splitlines()


def test_failed_trials_are_grouped_by_their_error_and_the_most_frequent_comes_first(opened):
    app = opened()
    assert [heading.value for heading in app.subheader] == ["Failed trials (3)", "Log"]
    assert [code.value for code in app.code[:2]] == [HOSTILE, "one"]
    assert [frame.value["trial"].tolist() for frame in app.dataframe] == [[2, 3], [1]]
    assert [frame.value["starts"].tolist() for frame in app.dataframe] == [[1, 1], [1]]
    assert {"Open trial 2", "Open trial 1"} <= {link.proto.label for link in app.get("page_link")}


def test_only_the_most_frequent_errors_are_shown(opened, monkeypatch):
    monkeypatch.setattr(dashboard.views.log, "_MAX_ERRORS", 1)
    app = opened()
    assert_mentions(words(app), 1, "most frequent", 2)
    assert app.code[0].value == HOSTILE
    assert len(app.dataframe) == 1


def test_text_of_the_log_is_shown_literally_and_control_characters_are_replaced(opened):
    found = lines(opened())
    assert len(found) == len(LOG)
    assert found[1].endswith(LOG[1])
    assert found[3].endswith("\N{REPLACEMENT CHARACTER}[31mred\N{REPLACEMENT CHARACTER}")
    assert HOSTILE not in "".join(str(text.value) for kind in ("markdown", "caption") for text in opened().get(kind))


@pytest.mark.parametrize(("typed", "numbers"), [("TRIAL", [1, 2]), ("trial 7", [2]), (".*", []), ("<b>[boom](", [1])])
def test_a_filter_in_the_address_keeps_lines_with_these_words(opened, typed, numbers):
    app = opened(words=typed)
    if numbers:
        assert [line[21:] for line in lines(app)] == [LOG[number] for number in numbers]
    else:
        assert_mentions(words(app), "No line of the log matches")


def test_a_typed_filter_goes_into_the_address(opened):
    app = opened()
    app.text_input(key="text words").set_value("trial 7").run()
    assert len(lines(app)) == 1
    assert dict(app.query_params) == {"study": "tiny", "words": "trial 7"}


def test_lines_of_one_run_can_be_chosen(opened):
    app = opened(run=1)
    assert len(lines(app)) == len(LOG)
    app = opened(run=7)
    assert_mentions(words(app), "run=7")
    assert len(lines(app)) == len(LOG)


def test_of_a_long_log_the_last_lines_are_shown(opened, monkeypatch):
    monkeypatch.setattr(dashboard.views.log, "_MAX_LINES", 2)
    app = opened()
    assert lines(app)[0][21:] == LOG[2]
    assert_mentions(words(app), "4 lines", "first 2 are left out")


def test_a_study_without_failures_and_without_a_log_says_so(tmp_path, tiny, monkeypatch):
    write_study(tmp_path, tiny, TRIALS[:1])
    app = open_page(monkeypatch, tmp_path, "log", study="tiny")
    for fact in ("No trial has failed", "has no log"):
        assert_mentions(words(app), fact)
