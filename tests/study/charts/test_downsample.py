import numpy as np
import pandas as pd

from study.charts.style import MAX_POINTS, downsample, downsample_note
from tests.messages import assert_mentions


def test_few_rows_are_all_drawn_without_a_note():
    rows = pd.DataFrame({"x": range(MAX_POINTS)})
    pd.testing.assert_frame_equal(downsample(rows), rows)
    assert downsample_note(len(rows)) == ""


def test_of_many_rows_the_kept_ones_and_a_fixed_sample_are_drawn_in_order():
    rows = pd.DataFrame({"x": np.arange(3 * MAX_POINTS)})
    keep = rows["x"] % 1000 == 7
    drawn = downsample(rows, keep)
    assert len(drawn) == MAX_POINTS
    assert set(rows["x"][keep]) <= set(drawn["x"])
    assert drawn["x"].is_monotonic_increasing
    pd.testing.assert_frame_equal(drawn, downsample(rows, keep))
    assert_mentions(downsample_note(len(rows)), "2,000 of 6,000", "sample")
