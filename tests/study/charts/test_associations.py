import json
import math

import numpy as np
import pandas as pd
import pytest

from study.charts.associations import correlation_chart, correlation_data

FIRST, SECOND, THIRD = "fidelity/log_mel_rmse_db", "disentanglement/separation", "disentanglement/mig"
COMPLETE = pd.DataFrame(
    {
        FIRST: [1.0, 2.0, 3.0, 4.0, 5.0, 6.0],
        SECOND: [10.0, 20.0, 40.0, 30.0, 60.0, 50.0],
        THIRD: [5.0, 4.0, 3.0, np.nan, np.nan, np.nan],
    }
)


def pairs(metrics=(FIRST, SECOND, THIRD)):
    """Return `correlation_data` by the places of both metrics."""
    data = correlation_data(COMPLETE, metrics)
    places = [(row, column) for row in range(len(metrics)) for column in range(len(metrics))]
    return dict(zip(places, data.to_dict("records"), strict=True))


def test_rank_correlations_and_their_intervals_are_those_computed_by_hand():
    found = pairs()[0, 1]
    # Ranks differ by 0, 0, 1, 1, 1 and 1: 1 - 6 * 4 / (6 * 35).
    rho = 1 - 24 / 210
    assert found["correlation"] == pytest.approx(rho)
    half = 1.6449 * math.sqrt((1 + rho**2 / 2) / 3)
    assert found["low"] == pytest.approx(math.tanh(math.atanh(rho) - half))
    assert found["high"] == pytest.approx(math.tanh(math.atanh(rho) + half))
    assert found["trials"] == 6


def test_pairs_use_the_trials_that_have_both_and_few_have_no_interval():
    found = pairs()[0, 2]
    assert found["correlation"] == pytest.approx(-1)
    assert found["trials"] == 3
    assert np.isnan(found["low"])
    assert np.isnan(found["high"])


def test_the_matrix_is_symmetric_and_a_metric_has_no_interval_with_itself():
    found = pairs()
    assert found[1, 0] | {"first": "", "second": ""} == found[0, 1] | {"first": "", "second": ""}
    assert found[1, 1]["correlation"] == pytest.approx(1)
    assert np.isnan(found[1, 1]["low"])


def test_a_cell_without_an_interval_shows_a_dash():
    chart = json.loads(correlation_chart(correlation_data(COMPLETE, (FIRST, THIRD))).to_json())
    (rows,) = chart["datasets"].values()
    assert [row["interval"] for row in rows] == ["–"] * 4
    assert [row["text"] for row in rows] == ["1.00", "-1.00", "-1.00", "1.00"]
