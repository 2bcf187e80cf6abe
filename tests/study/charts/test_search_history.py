import pandas as pd

from study.charts.search import history_chart, history_data
from study.spec import parse_spec
from study.spec.resolve import resolve
from tests.study.report.studies import FIDELITY, SEPARATION


def history(tiny, metric):
    table = pd.DataFrame(
        {
            "trial": [0, 1, 2, 3],
            FIDELITY: [4.0, 3.0, 5.0, None],
            f"{FIDELITY}/ci": 0.1,
            SEPARATION: [0.1, 0.3, 0.2, None],
        }
    )
    times = pd.date_range("2026-01-01", periods=4, freq="min", tz="UTC")
    progress = pd.DataFrame({"trial": [2, 0, 3, 1], "time": times})
    return history_data(table, progress, spec_of(tiny), metric)


def spec_of(tiny):
    return resolve(parse_spec(tiny, "spec")).spec


def test_trials_come_in_the_order_of_their_ends_and_the_best_so_far_goes_with_them(tiny):
    data = history(tiny, FIDELITY)
    assert data["trial"].tolist() == [2, 0, 1]
    assert data["order"].tolist() == [1, 2, 3]
    assert data["best"].tolist() == [5.0, 4.0, 3.0]
    assert (data["high"] - data["mean"]).round(9).tolist() == [0.1] * 3
    assert history(tiny, SEPARATION)["best"].tolist() == [0.2, 0.2, 0.3]


def test_a_metric_without_spread_has_no_bars_and_is_drawn(tiny):
    data = history(tiny, SEPARATION)
    assert data["low"].isna().all()
    assert "layer" in history_chart(data, spec_of(tiny), SEPARATION).to_dict()
