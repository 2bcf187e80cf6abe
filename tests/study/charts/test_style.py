import json

import altair as alt
import pandas as pd
import pytest

from study.charts import style
from study.charts.style import (
    factor_label,
    metric_lines,
    parameter_description,
    parameter_label,
    styled,
    value_label,
    vega_lite,
)
from study.spec import Parameter, parse_spec


def test_parameters_have_the_names_of_the_field_and_others_those_of_the_spec():
    assert parameter_label("loss.private.beta") == "β private"
    assert "total correlation" in parameter_description("loss.private.beta")
    assert parameter_label("optimiser.warmup_steps") == "optimiser warmup steps"
    assert parameter_description("optimiser.warmup_steps") == " "


def test_factors_and_metrics_have_their_units():
    assert [factor_label(name) for name in ("frequency", "timbre")] == ["frequency (Hz)", "timbre"]
    spec = parse_spec({"name": "s", "data": {}, "space": {"a": {"choice": [1]}}}, "spec")
    assert metric_lines(spec, "fidelity/log_mel_rmse_db") == ["log-mel RMSE (dB)", "lower is better"]
    assert metric_lines(spec, "disentanglement/mig") == ["MIG"]


@pytest.mark.parametrize(
    ("parameter", "value", "label"),
    [
        (Parameter(choice=(4, 8)), 8.0, "8"),
        (Parameter(choice=(0.0, 0.1, 100.0)), 100.0, "100"),
        (Parameter(choice=(True, False)), False, "false"),
        (Parameter(choice=("none", "infonce")), "none", "none"),
        (Parameter(log_uniform=(0.1, 10)), 0.123456789, "0.123457"),
        (Parameter(int=(1, 9)), 3.0, "3"),
    ],
)
def test_values_are_written_as_in_the_spec(parameter, value, label):
    assert value_label(parameter, value) == label


WHITE, DARK_PAGE = "#ffffff", "#12161d"
READ = [*style.CATEGORIES, *style.RAMP, style.ACCENT, style.TEXT, style.GREY]
"""Colours that are points, lines or text on the page."""


def contrast(first, second):
    """Return the contrast of two colours, as the Web Content Accessibility Guidelines define it."""

    def luminance(colour):
        shares = [int(colour[start : start + 2], 16) / 255 for start in (1, 3, 5)]
        linear = [share / 12.92 if share <= 0.04045 else ((share + 0.055) / 1.055) ** 2.4 for share in shares]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    low, high = sorted([luminance(first), luminance(second)])
    return (high + 0.05) / (low + 0.05)


def in_dark(colour):
    """Return the counterpart of a colour on a dark page."""
    chart = alt.Chart(pd.DataFrame({"x": [1]})).mark_point(color=colour).encode(x="x:Q")
    return vega_lite(chart, is_dark=True)["mark"]["color"]


def test_the_contrast_of_black_and_of_a_known_grey_with_white():
    assert contrast("#000000", WHITE) == pytest.approx(21)
    assert contrast("#767676", WHITE) == pytest.approx(4.54, abs=0.01)


@pytest.mark.parametrize("colour", READ)
def test_colours_can_be_read_on_the_light_and_on_the_dark_page(colour):
    assert contrast(colour, WHITE) >= 4.5
    assert in_dark(colour) != colour
    assert contrast(in_dark(colour), DARK_PAGE) >= 4.5


@pytest.mark.parametrize("is_signed", [False, True])
@pytest.mark.parametrize("step", range(5))
def test_the_text_on_each_cell_can_be_read(is_signed, step):
    low = -1 if is_signed else 0
    value = low + (step + 0.5) * (1 - low) / 5  # the middle of a step
    cell = style.cell_colours(is_signed).to_dict()["range"][step]
    is_light = abs(value) >= style.LIGHT_TEXT
    assert contrast(cell, WHITE if is_light else style.TEXT) >= 4.5
    assert contrast(in_dark(cell), DARK_PAGE if is_light else in_dark(style.TEXT)) >= 4.5


def test_the_colour_of_text_changes_at_a_border_between_steps_of_cells():
    assert pytest.approx(round(5 * style.LIGHT_TEXT)) == 5 * style.LIGHT_TEXT
    assert pytest.approx(round(5 * (style.LIGHT_TEXT + 1) / 2)) == 5 * (style.LIGHT_TEXT + 1) / 2


def test_a_dark_chart_has_no_light_colour_and_the_original_stays_as_it_was():
    light = [*READ, *style.SHADES, style.LINES]
    data = pd.DataFrame({"x": range(len(light)), "kind": list(map(str, range(len(light))))})
    scale = alt.Scale(domain=data["kind"].tolist(), range=light)
    points = alt.Chart(data).mark_point(stroke=style.GREY)
    points = points.encode(x="x:Q", color=alt.condition("datum.x > 1", alt.value(style.BLUE), alt.value(style.TEXT)))
    cells = alt.Chart(data).mark_rect().encode(x="x:Q", color=alt.Color("kind:N", scale=scale))
    chart = alt.layer(points, cells).properties(title=alt.Title("all", subtitleColor=style.GREY))
    before = chart.to_json()
    dark = json.dumps(vega_lite(chart, is_dark=True))
    assert [colour for colour in light if f'"{colour}"' in dark] == []
    assert chart.to_json() == before
    for same_page in (styled(chart).to_json(), json.dumps(vega_lite(chart, is_dark=False))):
        assert all(f'"{colour}"' in same_page for colour in light)
