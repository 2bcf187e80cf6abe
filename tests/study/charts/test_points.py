import numpy as np
import pandas as pd
import pytest

from study.charts.parameter_panels import common_domain, panel_chart, panel_data
from study.spec import Parameter

CHOICE = Parameter(choice=(8, 2, 4))
TRIALS = pd.DataFrame(
    {
        "trial": [0, 1, 2, 3],
        "config/a": [8.0, 2.0, 8.0, np.nan],
        "m": [1.0, 2.0, 3.0, 4.0],
        "m/ci": [0.1, 0.2, np.nan, 0.4],
    }
)


def test_points_are_means_with_their_intervals_in_the_order_of_the_values():
    data = panel_data(TRIALS, "a", CHOICE, "m")
    assert data["trial"].tolist() == [1, 0, 2]
    assert data["label"].tolist() == ["2", "8", "8"]
    assert data["low"].tolist()[:2] == [1.8, 0.9]
    assert data["high"].tolist()[:2] == [2.2, 1.1]
    assert np.isnan(data["low"].tolist()[2])


def test_trials_of_one_value_are_spread_around_its_middle():
    data = panel_data(TRIALS, "a", CHOICE, "m")
    assert data["offset"].tolist() == [0.0, pytest.approx(-0.175), pytest.approx(0.175)]


def test_a_metric_or_parameter_that_no_trial_has_gives_no_points():
    assert panel_data(TRIALS, "a", CHOICE, "other").empty
    assert panel_data(TRIALS.assign(m=np.nan), "a", CHOICE, "m").empty
    assert panel_data(TRIALS, "b", CHOICE, "m").empty


def test_limits_hold_all_error_bars_and_a_single_value_has_room():
    data = panel_data(TRIALS, "a", CHOICE, "m")
    low, high = common_domain([data, data.assign(high=9.0)])
    assert low < 0.9 < 9.0 < high
    low, high = common_domain([pd.DataFrame({"mean": [0.5], "low": [np.nan], "high": [np.nan]})])
    assert low < 0.5 < high
    assert common_domain([data.head(0)]) is None


def x_axis(parameter, values):
    trials = pd.DataFrame({"trial": range(len(values)), "config/a": values, "m": 1.0})
    data = panel_data(trials, "a", parameter, "m")
    chart = panel_chart(data, parameter, "a", ["m"], (0.0, 2.0), (200, 100)).to_dict()
    return chart["layer"][-1]["encoding"]["x"]


def test_choices_have_bands_in_order_also_those_without_a_trial():
    assert x_axis(CHOICE, [8, 2])["scale"]["domain"] == ["2", "4", "8"]
    words = Parameter(choice=("none", "infonce"))
    assert x_axis(words, ["infonce"])["scale"]["domain"] == ["none", "infonce"]


def test_ranges_have_an_axis_of_their_own_kind_with_round_numbers():
    axis = x_axis(Parameter(log_uniform=(0.01, 100)), [0.01, 100.0])
    assert axis["scale"]["type"] == "log"
    assert axis["axis"]["values"] == pytest.approx([0.01, 0.1, 1, 10, 100])
    assert "values" not in x_axis(Parameter(log_uniform=(0.01, 100)), [0.11, 0.19])["axis"]
    assert x_axis(Parameter(uniform=(0, 1)), [0.0, 1.0])["scale"]["type"] == "linear"
