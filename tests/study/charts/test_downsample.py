import numpy as np
import pandas as pd

from study.charts.style import MOST_POINTS, sample_of, sample_sentence
from tests.messages import assert_mentions


def test_few_rows_are_all_drawn_and_nothing_is_said():
    rows = pd.DataFrame({"x": range(MOST_POINTS)})
    pd.testing.assert_frame_equal(sample_of(rows), rows)
    assert sample_sentence(len(rows)) == ""


def test_of_many_those_to_keep_and_a_fixed_sample_of_the_others_are_drawn_in_their_order():
    rows = pd.DataFrame({"x": np.arange(3 * MOST_POINTS)})
    keep = rows["x"] % 1000 == 7
    drawn = sample_of(rows, keep)
    assert len(drawn) == MOST_POINTS
    assert set(rows["x"][keep]) <= set(drawn["x"])
    assert drawn["x"].is_monotonic_increasing
    pd.testing.assert_frame_equal(drawn, sample_of(rows, keep))
    assert_mentions(sample_sentence(len(rows)), "2,000 of 6,000", "sample")
