import json
from pathlib import Path

import pytest

from study.analysis import StudyResults
from study.analysis.trade_off import trade_off_data
from study.charts.style import save_chart
from study.charts.trade_off import trade_off_chart
from study.errors import UserError
from tests.messages import mentions

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("spread", ["ci", "sd"])
def test_a_point_is_the_mean_with_its_interval_or_standard_deviation(finished, spread):
    data = trade_off_data(finished, spread=spread).set_index("trial")
    results = finished.results().set_index("trial")
    for trial in range(4):
        point, row = data.loc[trial], results.loc[trial]
        assert point["x"] == row["fidelity/log_mel_rmse_db"]
        assert point["y_high"] - point["y"] == pytest.approx(row[f"disentanglement/separation/{spread}"])
        assert point["x"] - point["x_low"] == pytest.approx(row[f"fidelity/log_mel_rmse_db/{spread}"])
    assert set(data.index[data["front"]]) == set(finished.front()["trial"])
    assert data["final"][data.index >= 0].all()


def test_a_trial_without_both_objectives_is_not_drawn(finished):
    row = finished.reports().drop(columns=["run"]).iloc[0].to_dict()
    row |= {"trial": 9, "step": 15, "disentanglement/separation": None}
    finished.store.append("reports", 1, 99, [row, {**row, "seed": 1}])
    trial = finished.trials().drop(columns=["run"]).iloc[0].to_dict() | {"trial": 9, "state": "running"}
    finished.store.append("trials", 1, 99, [trial])
    assert 9 not in trade_off_data(StudyResults(finished.store))["trial"].dropna().tolist()


@pytest.mark.parametrize(
    ("name", "begins"), [("a.png", b"\x89PNG"), ("b.SVG", b"<svg"), ("c.html", b"<!DOCTYPE html>")]
)
def test_plots_are_written_in_three_formats(finished, tmp_path, name, begins):
    path = tmp_path / "new folder" / name
    save_chart(trade_off_chart(finished), path)
    content = path.read_bytes()
    assert content.startswith(begins)
    assert len(content) > 10_000


def test_the_page_needs_no_network(finished, tmp_path):
    save_chart(trade_off_chart(finished), tmp_path / "plot.html")
    page = (tmp_path / "plot.html").read_text()
    assert "<script src=" not in page
    assert "@import" not in page


def test_error_bars_front_and_configuration_are_in_the_chart(finished):
    chart = json.loads(trade_off_chart(finished).to_json())
    marks = [layer["mark"]["type"] for layer in chart["layer"]]
    assert marks.count("rule") == 2
    assert {"line", "point", "text"} <= set(marks)
    (points,) = (layer for layer in chart["layer"] if layer.get("transform") == [{"filter": "datum.final"}])
    tooltips = {tip["field"] for tip in points["encoding"]["tooltip"]}
    assert {"name", "state", "x_text", "y_text", "configuration"} <= tooltips
    (rows,) = chart["datasets"].values()
    assert all("γ private" in row["configuration"] for row in rows if not row["is_baseline"])


@pytest.mark.parametrize("name", ["plot.pdf", "plot"])
def test_other_formats_are_refused(finished, tmp_path, name):
    with pytest.raises(UserError, match=mentions(".html", ".png", ".svg", name)):
        save_chart(trade_off_chart(finished), tmp_path / name)


def test_a_place_that_cannot_be_written_is_named(finished):
    with pytest.raises(UserError, match=mentions("/proc/nowhere/plot.svg")):
        save_chart(trade_off_chart(finished), Path("/proc/nowhere/plot.svg"))
