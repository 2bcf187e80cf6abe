import pytest

from dashboard.views.overview import question
from tests.dashboard.opening import open_page, unescaped, words
from tests.study.report.studies import trial_of, write_study

pytestmark = pytest.mark.slow

TRIALS = [trial_of([4.0, 4.2], [0.2, 0.4]), trial_of([5.0, 5.2], [0.1, 0.2], "failed", error="boom")]
HOSTILE = "<b>[x](http://evil)</b>"


@pytest.fixture
def opened(tmp_path, tiny, monkeypatch):
    """Function that opens the page of a study of two trials."""
    store = write_study(tmp_path, tiny, TRIALS)
    run = store.runs()[1]

    def opening(**fields):
        store.write_run(1, run | fields)
        return open_page(monkeypatch, tmp_path, "overview", study="tiny")

    return opening


def facts(app):
    return {name: unescaped(value) for name, value in app.table[0].value.itertuples(index=False)}


def test_the_question_names_the_space_and_the_objectives(tmp_path, tiny):
    asked = question(write_study(tmp_path, tiny, []).metadata().spec)
    assert asked.startswith("Which values of γ private, ")
    assert "lower log-mel RMSE (dB) and raise separation" in asked
    assert asked.endswith("The two clips of a pair share their timbre.")


def test_progress_set_up_runs_and_the_spec_are_shown(opened):
    app = opened(trainers=2, trained_steps=90, devices=["AMD EPYC"] * 2)
    values = {unescaped(metric.label): metric.value for metric in app.metric}
    assert values["trials finished"] == "2 of 2"
    assert values["lowest log-mel RMSE (dB)"] == "4.1"
    found = facts(app)
    assert found["data"] == "syntone (frequencies 40, amplitudes 4)"
    assert found["budget"] == "30 steps of 16 pairs"
    assert found["seeds"] == "0, 1"
    (run,) = app.dataframe[0].value.to_dict("records")
    assert (run["run"], run["state"], run["trials"], run["trained_steps"]) == (1, "finished", 2, 90)
    assert (run["trainers"], run["device"]) == (2, "AMD EPYC")
    assert "log_uniform" in words(app)


def test_commands_can_be_copied(opened, tmp_path):
    text = words(opened())
    for command in ("resume tiny", "export tiny", "results tiny"):
        assert f"marl-study {command} --store {tmp_path}" in text


def test_text_of_a_run_is_shown_literally(opened):
    app = opened(machine=HOSTILE, versions={"torch": HOSTILE}, commit=HOSTILE)
    for value in app.table[0].value.iloc[:, 1]:
        assert "[x](" not in value
        assert "<b>" not in value.replace("\\<", "")
    assert facts(app)["machine"] == HOSTILE
