"""The trade-off's data: which trials it has, which are on the front, and what stands at the edge."""

import json

import numpy as np
import pytest

from study.analysis import StudyResults
from study.charts.style import MAX_POINTS
from study.charts.trade_off import Axes, trade_off_chart, trade_off_data
from tests.messages import assert_mentions
from tests.study.report.studies import FIDELITY, SEPARATION, trial_of, write_study

TRIALS = [
    trial_of([4.0, 4.2], [0.2, 0.4]),
    trial_of([3.0, 3.2], [0.1, 0.2]),
    trial_of([5.0, 5.1], [0.1, 0.1]),
]


@pytest.fixture
def results(tmp_path, tiny):
    store = write_study(tmp_path, tiny, TRIALS)
    far = {FIDELITY: 40.0, SEPARATION: 0.0}
    store.write_baselines({"untrained": far, "replicates": 2})
    return StudyResults(store)


def test_trials_beyond_a_limit_are_left_out_and_baselines_stay(results):
    data = trade_off_data(results, limits={FIDELITY: 4.5})
    assert data["trial"].dropna().tolist() == [0, 1]
    assert data["baseline"].dropna().tolist() == ["untrained"]
    data = trade_off_data(results, limits={SEPARATION: 0.2})
    assert data["trial"].dropna().tolist() == [0]
    assert data["baseline"].dropna().tolist() == ["untrained"]


def test_the_front_is_that_of_the_filtered_trials_and_the_drawn_metrics(results):
    def front(**options):
        data = trade_off_data(results, **options)
        return data["trial"][data["front"]].tolist()

    assert front() == [0, 1]
    assert front(limits={SEPARATION: 0.2}) == [0]
    assert front(axes=Axes(FIDELITY, FIDELITY)) == [1]


def test_a_distant_baseline_is_drawn_at_the_edge_with_its_position_in_the_name(results):
    chart = json.loads(trade_off_chart(results).to_json())
    (rows,) = chart["datasets"].values()
    (baseline,) = (row for row in rows if row["is_baseline"])
    assert_mentions(baseline["label"], "untrained", "40, 0")
    low, high = next(
        layer["encoding"]["x"]["scale"]["domain"]
        for layer in chart["layer"]
        if "scale" in layer["encoding"].get("x", {})
    )
    assert low < 3.0 < 5.1 < high < 10
    assert low < baseline["x"] < high


def test_a_sample_of_very_many_trials_is_drawn_with_the_front_the_selection_and_a_note(tmp_path, tiny):
    random = np.random.default_rng(0)
    trials = [trial_of([fidelity], [separation]) for fidelity, separation in random.random((MAX_POINTS + 100, 2))]
    results = StudyResults(write_study(tmp_path, tiny, trials))
    data = trade_off_data(results, selected=[7])
    chart = json.loads(trade_off_chart(results, data=data).to_json())
    (rows,) = chart["datasets"].values()
    drawn = {row["trial"] for row in rows}
    assert len(drawn) == MAX_POINTS
    assert {7, *data["trial"][data["front"]]} <= drawn
    assert_mentions(chart["title"]["subtitle"][1], "2,000 of 2,100")
