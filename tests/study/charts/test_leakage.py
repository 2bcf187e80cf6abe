import pandas as pd
import pytest

from study.charts.leakage import leakage_chart, leakage_data, leakage_table, readers_of
from study.charts.style import MissingDataError

CLASSES = {"timbre": 4, "frequency": 40}
HOME = {"timbre": "shared", "frequency": "private"}


def models(**columns):
    """One trial and the untrained network: the strong reader finds all of the timbre in the shared latents."""
    trial = {"model": "trial 3", "trial": 3, "information/timbre/shared": 1.0, "information/timbre/private": 0.25}
    trial |= {"information/timbre/shared/ci": 0.125, "information/timbre/shared/sd": 0.0625}
    # An accuracy of 5 / 8 is halfway from chance (1 / 4) to all.
    trial |= {"probe/timbre/shared": 0.625, "information/frequency/private": 0.5} | columns
    return pd.DataFrame([trial, {"model": "untrained", "information/timbre/shared": 0.0}])


def cells(data):
    return data.set_index(["model", "factor", "subspace", "reader"])


def test_shares_go_from_chance_to_all_for_both_readers():
    share = cells(leakage_data(models(), CLASSES))["share"]
    assert share["trial 3", "timbre", "shared", "strong"] == 1
    assert share["trial 3", "timbre", "private", "strong"] == 0.25
    assert share["trial 3", "timbre", "shared", "lightweight"] == pytest.approx(0.5)
    assert share["untrained", "timbre", "shared", "strong"] == 0
    assert len(share) == 5  # no rows for missing metrics


@pytest.mark.parametrize(("spread", "half_width"), [("ci", 0.125), ("sd", 0.0625)])
def test_error_bars_have_the_chosen_half_width(spread, half_width):
    data = cells(leakage_data(models(), CLASSES, spread))
    trial = data.loc[("trial 3", "timbre", "shared", "strong")]
    assert (trial["low"], trial["high"]) == (1 - half_width, 1 + half_width)
    assert data.loc[("untrained", "timbre", "shared", "strong"), ["low", "high"]].isna().all()


def test_models_without_readings_are_reported():
    with pytest.raises(MissingDataError, match="information"):
        leakage_data(pd.DataFrame([{"model": "trial 3", "trial": 3}]), CLASSES)


def test_each_model_has_a_matrix_with_frames_around_the_wanted_cells():
    chart = leakage_chart(leakage_data(models(), CLASSES), HOME, "strong").to_dict()
    assert [panel["title"] for panel in chart["concat"]] == ["trial 3", "untrained"]
    rows = [row for rows in chart["datasets"].values() for row in rows if row["model"] == "trial 3"]
    assert {(row["factor"], row["subspace"], row["text"]) for row in rows if row["belongs"]} == {
        ("timbre", "shared", "100"),
        ("frequency", "private", "50"),
    }
    assert [(row["subspace"], row["text"]) for row in rows if not row["belongs"]] == [("private", "25")]
    assert {row["interval"] for row in rows} == {"87.5 to 112.5", "none"}


def test_only_readers_with_values_are_offered():
    both = leakage_data(models(), CLASSES)
    assert readers_of(both) == ["strong", "lightweight"]
    assert readers_of(both[both["model"] == "untrained"]) == ["strong"]
    with pytest.raises(MissingDataError, match="lightweight"):
        leakage_chart(both[both["model"] == "untrained"], HOME, "lightweight")


def test_the_table_has_a_column_for_each_model_and_intervals():
    table = leakage_table(leakage_data(models(), CLASSES)).set_index(["factor", "subspace", "reader"])
    assert table.loc[("timbre", "shared", "strong")].to_dict() == {
        "trial 3": "100.0 (87.5 to 112.5)",
        "untrained": "0.0",
    }
    assert table.loc[("timbre", "private", "strong"), "untrained"] == "–"
