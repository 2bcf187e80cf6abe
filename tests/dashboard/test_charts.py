"""Charts of pages."""

import altair as alt
import pandas as pd

import dashboard.charts  # noqa: F401  # sets Altair's limit
from study.charts.style import vega_lite


def test_charts_of_pages_have_no_limit_of_rows():
    data = pd.DataFrame({"x": range(20_000)})
    (rows,) = vega_lite(alt.Chart(data).mark_point().encode(x="x:Q"), is_dark=False)["datasets"].values()
    assert len(rows) == 20_000
