import pytest

import dashboard.views.across
from tests.dashboard.opening import open_page, words
from tests.messages import assert_mentions
from tests.study.report.studies import FIDELITY, SEPARATION, trial_of, write_study

pytestmark = pytest.mark.slow

OBJECTIVES = {FIDELITY: "min", SEPARATION: "max"}


@pytest.fixture
def growth(monkeypatch):
    """Tables of hypervolumes that the page has drawn."""
    tables = []
    chart = dashboard.views.across.hypervolume_chart
    monkeypatch.setattr(dashboard.views.across, "hypervolume_chart", lambda table: tables.append(table) or chart(table))
    return tables


@pytest.fixture
def write(tmp_path, tiny):
    """Function that writes a study of one trial, with metrics of the untrained network."""

    def writing(name, trial, untrained=None, **fields):
        store = write_study(tmp_path, tiny | {"name": name} | fields, [trial])
        if untrained:
            store.write_baselines({"untrained": dict(zip(OBJECTIVES, untrained, strict=True)), "replicates": 2})

    return writing


@pytest.fixture
def opened(tmp_path, monkeypatch):
    """Function that opens the page with values in its address."""
    return lambda **address: open_page(monkeypatch, tmp_path, "across", **address)


ONE, TWO = trial_of([4.0, 4.0], [0.2, 0.2]), trial_of([3.0, 3.0], [0.4, 0.4])


@pytest.mark.parametrize("names", [[FIDELITY, SEPARATION], [SEPARATION, FIDELITY]])
def test_hypervolumes_have_the_worst_untrained_network_as_their_reference(write, opened, growth, names):
    write("one", ONE, (10.0, 0.0))
    write("two", TWO, (12.0, 0.1), objectives={name: OBJECTIVES[name] for name in names})
    opened()
    volumes = growth[0].set_index("study")["hypervolume"].to_dict()
    assert volumes == pytest.approx({"one": (12.0 - 4.0) * 0.2, "two": (12.0 - 3.0) * 0.4})


def test_without_an_untrained_network_there_are_fronts_only(write, opened, growth):
    write("one", ONE)
    write("two", TWO)
    app = opened()
    assert not growth
    assert_mentions(words(app), "on the front of their study")
    assert_mentions(words(app), "differ in their names only")


def test_differences_of_specs_are_listed(write, opened):
    write("one", ONE)
    write("two", TWO, train={"steps": 60, "batch_pairs": 16, "reports": 2})
    table = opened().dataframe[0].value
    assert table.loc["train.steps"].to_dict() == {"one": "30", "two": "60"}
    assert "name" not in table.index
    assert "data.kind" not in table.index


def test_studies_without_shared_objectives_are_named_and_their_specs_compared(write, opened, growth):
    write("one", ONE, (10.0, 0.0))
    write("two", TWO, (12.0, 0.1), objectives={FIDELITY: "min"})
    app = opened()
    (note,) = app.info
    assert_mentions(words(app), "two: other objectives than", "log-mel RMSE", "separation")
    assert "one:" not in note.value
    assert not growth
    assert len(app.dataframe) == 1


def test_one_study_is_no_comparison(write, opened):
    write("one", ONE)
    assert_mentions(words(opened()), "at least two studies")


def test_chosen_studies_are_kept_in_the_address(write, opened):
    for name in ("one", "three", "two"):
        write(name, ONE)
    app = opened(studies="three,two,<b>no</b>")
    assert app.multiselect(key="many studies").value == ["three", "two"]
    (note,) = app.warning
    assert "<b>" not in note.value.replace("\\<", "")
    app.multiselect(key="many studies").set_value(["one", "two"]).run()
    assert app.query_params.get("studies") in (None, "one,two", ["one,two"])


def test_a_damaged_study_is_named_and_others_are_compared(write, opened, tmp_path):
    for name in ("one", "two"):
        write(name, ONE)
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "study.json").write_text("{")
    app = opened(studies="one,two,bad")
    assert_mentions(app.warning[0].value, "bad")
    assert_mentions(words(app), "differ in their names only")
