import re

import pytest

from dashboard.address import MAX_SELECTED
from study.store.notes import Notes
from tests.dashboard.opening import open_page, unescaped, words
from tests.messages import assert_mentions
from tests.study.report.studies import FIDELITY, PLAIN, SEPARATION, trial_of, write_study

pytestmark = pytest.mark.slow

CONTRAST = PLAIN | {"contrast.strategy": "infonce", "contrast.temperature": 0.2}
TRIALS = [
    trial_of([4.0, 4.2], [0.2, 0.4]),
    trial_of([5.0, 5.2], [0.1, 0.2], "failed", error="<b>boom</b>"),
    trial_of([3.0, 3.2], [0.3, 0.5], config=CONTRAST),
]


@pytest.fixture
def store(tmp_path, tiny):
    return write_study(tmp_path, tiny, TRIALS)


@pytest.fixture
def opened(store, tmp_path, monkeypatch):
    """Function that opens the page with values in its address."""
    return lambda **address: open_page(monkeypatch, tmp_path, "trials", study="tiny", **address)


def table(app):
    return app.dataframe[0].value


def shown(app):
    return table(app)["trial"].tolist()


def labels(app):
    """Return the labels of the buttons, and of the links that look like buttons."""
    return [button.label for button in app.button] + [one.proto.label for one in app.main.get("page_link")]


def test_each_trial_has_its_state_means_intervals_seeds_and_steps(opened):
    rows = table(opened()).set_index("trial")
    assert rows["state"].to_dict() == {0: "complete", 1: "failed", 2: "complete"}
    assert rows[FIDELITY].round(9).to_dict() == {0: 4.1, 1: 5.1, 2: 3.1}
    # The standard error of 4.0 and 4.2 is 0.1; the 95th percentile of Student's t with one degree of freedom is 6.314.
    assert rows.loc[0, f"{FIDELITY}/ci"] == pytest.approx(0.6314, abs=1e-4)
    assert rows["replicates"].tolist() == [2, 2, 2]
    assert rows["step"].to_dict() == {0: 30, 1: 15, 2: 30}


def test_error_bars_follow_the_switch(opened):
    rows = table(opened(spread="sd"))
    assert f"{FIDELITY}/ci" not in rows
    assert rows[f"{FIDELITY}/sd"].tolist() == pytest.approx([0.02**0.5] * 3)


def test_numbers_stay_numbers_so_that_they_sort_by_value(opened):
    rows = table(opened())
    numbers = ("trial", FIDELITY, f"{FIDELITY}/ci", SEPARATION, "front_probability", "step", "contrast.temperature")
    assert [rows[name].dtype.kind for name in numbers] == ["i", "f", "f", "f", "f", "i", "f"]


def test_conditional_parameters_and_the_front_of_failed_trials_are_empty(opened):
    rows = table(opened()).set_index("trial")
    assert rows["contrast.temperature"].isna().to_dict() == {0: True, 1: True, 2: False}
    assert rows["front_probability"].isna().to_dict() == {0: False, 1: True, 2: False}


def test_errors_have_a_column_only_if_a_trial_has_one(opened, tmp_path, tiny, monkeypatch):
    assert table(opened())["error"].tolist()[1] == "<b>boom</b>"
    write_study(tmp_path / "other", tiny, TRIALS[:1])
    app = open_page(monkeypatch, tmp_path / "other", "trials", study="tiny")
    assert "error" not in table(app)


def test_starred_trials_are_marked(opened, store):
    Notes(store).star(2)
    assert table(opened())["starred"].tolist() == ["", "", "★"]


@pytest.mark.parametrize(
    ("text", "trials"),
    [
        ("separation > 0.2, state = complete", [0, 2]),
        (f"{SEPARATION} > 0.35", [2]),
        ("separation (strong reader) < 0.2", [1]),
        ("contrast.strategy = infonce", [2]),
        ("state = failed", [1]),
        ("steps < 30", [1]),
        ("trial >= 7", []),
    ],
)
def test_a_filter_in_the_address_limits_the_rows(opened, text, trials):
    app = opened(filter=text)
    assert not app.warning
    assert shown(app) == trials
    assert_mentions(words(app), len(trials), "of", 3, "trials")


def test_every_heading_can_be_used_in_a_filter(opened):
    app = opened()
    headings = [unescaped(heading) for heading in app.multiselect(key="many columns").options]
    for first in range(0, len(headings), 3):
        filtered = opened(filter=", ".join(f"{heading} != 7" for heading in headings[first : first + 3]))
        assert not filtered.warning, filtered.warning[0].value


def test_a_typed_filter_goes_into_the_address(opened):
    app = opened()
    app.text_input(key="text filter").set_value("separation > 0.35").run()
    assert shown(app) == [2]
    assert dict(app.query_params) == {"study": "tiny", "filter": "separation > 0.35"}
    app.text_input(key="text filter").set_value("").run()
    assert dict(app.query_params) == {"study": "tiny"}


@pytest.mark.parametrize(
    ("text", "quoted"),
    [
        ("sepration > 0.3", "sepration"),
        ("separation above 0.3", "separation above 0.3"),
        ("separation > high", "high"),
        ("<img src=x> = 1", "<img src"),
        ("trial = __import__('os').abort()", "abort"),
    ],
)
def test_a_filter_that_is_wrong_is_explained_and_all_trials_are_shown(opened, text, quoted):
    app = opened(filter=text)
    (warning,) = app.warning
    assert quoted in unescaped(warning.value)
    assert not re.search(r"(?<!\\)<", warning.value), "the text of the filter must be escaped"
    assert shown(app) == [0, 1, 2]


def test_columns_of_the_address_are_shown_with_their_error_bars(opened):
    name = "information/timbre/shared"
    assert name not in table(opened())
    assert list(table(opened(columns=f"{name},state"))) == ["trial", name, f"{name}/ci", "state"]


def test_chosen_columns_go_into_the_address(opened):
    app = opened()
    app.multiselect(key="many columns").set_value(["state", SEPARATION]).run()
    assert app.query_params["columns"] in (f"state,{SEPARATION}", [f"state,{SEPARATION}"])
    assert list(table(app)) == ["trial", "state", SEPARATION, f"{SEPARATION}/ci"]


def test_an_unknown_column_is_ignored_with_a_note(opened):
    app = opened(columns="state,no/such")
    assert_mentions(unescaped(app.warning[0].value), "columns=no/such")
    assert list(table(app)) == ["trial", "state"]


def test_selected_trials_of_the_address_can_be_opened_compared_exported_and_cleared(opened):
    app = opened(trials="2,0")
    assert_mentions(words(app), 3, "trials", 2, "selected")
    assert {"Open trial 2", "Compare", "Export"} <= set(labels(app))
    next(button for button in app.button if button.label == "Clear the selection").click().run()
    assert "trials" not in app.query_params
    assert "Clear the selection" not in labels(app)


def test_without_a_selection_no_trial_is_opened(opened):
    assert not [label for label in labels(opened()) if "Open" in label or "Clear" in label]


def test_a_limit_of_selected_trials_is_named(tmp_path, tiny, monkeypatch):
    write_study(tmp_path, tiny, TRIALS[:1] * (MAX_SELECTED + 3))
    trials = ",".join(map(str, range(MAX_SELECTED + 3)))
    app = open_page(monkeypatch, tmp_path, "trials", study="tiny", trials=trials)
    assert_mentions(words(app), "at most", MAX_SELECTED, "trials")
