"""The trade-off's data: which trials it has, which are on the front, and what stands at the edge."""

import json

import numpy as np
import pytest

from study.analysis import StudyResults
from study.analysis.trade_off import Axes, trade_off_data
from study.charts.style import CATEGORIES, MAX_POINTS, SHAPES, TEXT
from study.charts.trade_off import is_zoomable, trade_off_chart
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


def drawn_ranges(chart):
    """Return the limits of x and of y."""
    scales = [layer["encoding"][axis]["scale"] for axis in "xy" for layer in chart["layer"][:1]]
    return [tuple(scale["domain"]) for scale in scales]


def zoomed(results, **options):
    return json.loads(trade_off_chart(results, is_zoomed=True, **options).to_json())


def study_of(tmp_path, tiny, points, **changes):
    return StudyResults(write_study(tmp_path, tiny | changes, [trial_of([x], [y]) for x, y in points]))


CLOSE = [(3.0 + 0.1 * step, 0.3 + 0.02 * step) for step in range(9)]
"""Trials on the front: separation grows with the error."""


def test_outliers_make_a_chart_zoomable_and_the_zoom_leaves_them_out_with_a_count(tmp_path, tiny):
    results = study_of(tmp_path, tiny, [*CLOSE, (90.0, 0.1)])
    assert is_zoomable(trade_off_data(results), results.spec, Axes(FIDELITY, SEPARATION))
    chart = zoomed(results)
    (x_low, x_high), (y_low, y_high) = drawn_ranges(chart)
    # The front is 3 to 3.8 and 0.3 to 0.46; 5 % are added at each end.
    assert (x_low, x_high) == pytest.approx((2.96, 3.84))
    assert (y_low, y_high) == pytest.approx((0.292, 0.468))
    (rows,) = chart["datasets"].values()
    assert {row["trial"] for row in rows} == set(range(9))
    assert_mentions(chart["title"]["subtitle"][-1], "1 trial", "outside")


def test_a_chart_without_outliers_or_with_few_trials_is_not_zoomable(tmp_path, tiny):
    even = study_of(tmp_path / "even", tiny, CLOSE)
    assert not is_zoomable(trade_off_data(even), even.spec, Axes(FIDELITY, SEPARATION))
    few = study_of(tmp_path / "few", tiny, [*CLOSE[:6], (90.0, 0.1)])
    assert not is_zoomable(trade_off_data(few), few.spec, Axes(FIDELITY, SEPARATION))


def trial_layer(chart):
    """Return the layer of the complete trials."""
    (layer,) = (one for one in chart["layer"] if any(step["filter"] == "datum.final" for step in one["transform"]))
    return layer["encoding"]


def test_coloured_by_a_parameter_the_front_has_a_ring_and_a_legend_of_its_own(results):
    encoding = trial_layer(json.loads(trade_off_chart(results, Axes(FIDELITY, SEPARATION, "latent.private")).to_json()))
    stroke = encoding["stroke"]
    rings = dict(zip(stroke["scale"]["domain"], stroke["scale"]["range"], strict=True))
    assert (rings["on the front"], rings["complete"]) == (TEXT, "transparent")
    assert stroke["legend"]["values"] == ["on the front"]
    assert encoding["color"]["condition"]["legend"]["type"] == "gradient"
    plain = trial_layer(json.loads(trade_off_chart(results, Axes(FIDELITY, SEPARATION)).to_json()))
    assert plain["stroke"]["legend"] is None
    assert plain["color"]["legend"] is not None


@pytest.mark.parametrize(("count", "has_shapes"), [(6, False), (8, True)])
def test_more_than_six_categories_also_differ_in_shape(tmp_path, tiny, count, has_shapes):
    results = study_of(tmp_path, tiny, [(3.0 + place, 0.2) for place in range(count)])
    axes = Axes(FIDELITY, SEPARATION, "contrast.strategy")
    data = trade_off_data(results, axes)
    data["config/contrast.strategy"] = [f"kind {number}" for number in range(count)]
    encoding = trial_layer(json.loads(trade_off_chart(results, axes, data).to_json()))
    colours = encoding["color"]["scale"]["range"]
    assert ("shape" in encoding) == has_shapes
    shapes = encoding["shape"]["scale"]["range"] if has_shapes else [SHAPES[0]] * count
    assert len(set(zip(colours, shapes, strict=True))) == count
    assert set(colours) == set(CATEGORIES)
