import json

import pandas as pd
import pytest

from study.charts.comparison import comparison_chart, comparison_data
from study.charts.style import GREY
from study.spec import parse_spec
from tests.study.report.studies import FIDELITY

SPEC = parse_spec({"name": "s", "data": {}, "space": {"a": {"choice": [1]}}, "objectives": {FIDELITY: "min"}}, "spec")
SHARE = "information/timbre/shared"
TRIALS = pd.DataFrame({"trial": [7, 3], FIDELITY: [4.0, 5.0], SHARE: [0.3, 0.4]})
TRIALS = TRIALS.assign(**{f"{FIDELITY}/ci": [0.5, 0.25], f"{FIDELITY}/sd": [1.0, 0.5]})
BASELINES = pd.DataFrame({"baseline": ["untrained"], FIDELITY: [40.0]})


def drawn(data, metric):
    """Return the rows of a chart by name, and the limits of its axis."""
    chart = json.loads(comparison_chart(data, SPEC, metric).to_json())
    (rows,) = chart["datasets"].values()
    scales = [layer["encoding"]["x"]["scale"]["domain"] for layer in chart["layer"]]
    assert all(scale == scales[0] for scale in scales)
    return {row["name"]: row for row in rows}, tuple(scales[0]), chart


def test_trials_keep_their_order_above_the_baselines_with_the_chosen_error_bars():
    data = comparison_data(TRIALS, BASELINES, [FIDELITY])
    assert data["name"].tolist() == ["trial 7", "trial 3", "untrained"]
    assert data["is_baseline"].tolist() == [False, False, True]
    assert data["low"].tolist()[:2] == [3.5, 4.75]
    assert data["high"].tolist()[:2] == [4.5, 5.25]
    assert comparison_data(TRIALS, BASELINES, [FIDELITY], "sd")["low"].tolist()[:2] == [3.0, 4.5]


def test_a_metric_that_a_baseline_lacks_has_no_row_for_it():
    data = comparison_data(TRIALS, BASELINES, [SHARE])
    assert data["name"].tolist() == ["trial 7", "trial 3"]


def test_a_baseline_far_from_all_trials_is_at_the_edge_with_its_value():
    rows, (low, high), _ = drawn(comparison_data(TRIALS, BASELINES, [FIDELITY]), FIDELITY)
    # Error bars reach from 3.5 to 5.25; 6 % are added at each end.
    assert (low, high) == pytest.approx((3.395, 5.355))
    assert rows["untrained"]["at"] == pytest.approx(high)
    assert rows["untrained"]["text"] == "40 ▸"
    assert rows["trial 7"]["text"] == rows["trial 3"]["text"] == ""


def test_a_baseline_near_the_trials_is_a_point_on_the_axis():
    rows, (_, high), _ = drawn(comparison_data(TRIALS, BASELINES.assign(**{FIDELITY: 6.0}), [FIDELITY]), FIDELITY)
    assert rows["untrained"]["at"] == 6.0 < high
    assert rows["untrained"]["text"] == ""


def test_fractions_have_the_axis_from_0_to_1():
    rows, limits, _ = drawn(comparison_data(TRIALS, BASELINES, [SHARE]), SHARE)
    assert limits == (0.0, 1.0)
    assert rows["trial 7"]["at"] == 0.3


def test_trials_have_a_colour_each_and_baselines_are_grey():
    _, _, chart = drawn(comparison_data(TRIALS, BASELINES, [FIDELITY]), FIDELITY)
    scale = chart["layer"][0]["encoding"]["color"]["scale"]
    colours = dict(zip(scale["domain"], scale["range"], strict=True))
    assert colours["untrained"] == GREY
    assert len({*colours.values()}) == 3
