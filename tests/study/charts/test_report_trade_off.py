import json

import pytest

from study.charts.style import MissingDataError
from study.charts.trade_off import trade_off_chart
from study.report.figures import trade_off_figure
from tests.messages import mentions
from tests.study.report.studies import context_of, trial_of, write_study


def layers(context):
    chart = json.loads(trade_off_chart(context.results).to_json())
    (data,) = chart["datasets"].values()
    return chart["layer"], data


def test_intermediate_trials_are_circles_and_complete_ones_are_filled(tmp_path, tiny):
    trials = [trial_of([4.0, 4.2], [0.2, 0.4]), trial_of([3.0, 3.2], [0.3, 0.5], state="pruned")]
    found, data = layers(context_of(write_study(tmp_path, tiny, trials)))
    marks = {one["transform"][0]["filter"]: one["mark"] for one in found if one["mark"]["type"] == "point"}
    assert not marks["!datum.final && !datum.is_baseline"].get("filled")
    assert marks["datum.final"]["filled"]
    assert [row["kind"] for row in data] == ["on the front", "not complete"]


def test_before_any_trial_is_complete_there_is_no_front_and_the_rest_is_drawn(tmp_path, tiny):
    context = context_of(write_study(tmp_path, tiny, [trial_of([3.0, 3.2], [0.3, 0.5], state="pruned")]))
    _, data = layers(context)
    assert [row["kind"] for row in data] == ["not complete"]
    assert trade_off_figure(context).title == "Trade-off"


def test_a_study_without_values_has_no_trade_off(tmp_path, tiny):
    with pytest.raises(MissingDataError, match=mentions("no trial", "both objectives")):
        trade_off_figure(context_of(write_study(tmp_path, tiny, [])))


def test_a_single_value_has_a_margin(tmp_path, tiny):
    tiny["replicates"] = 1
    found, _ = layers(context_of(write_study(tmp_path, tiny, [trial_of([4.0], [0.5])])))
    (points,) = (one for one in found if one.get("transform") == [{"filter": "datum.final"}])
    low, high = points["encoding"]["x"]["scale"]["domain"]
    assert low < 4.0 < high
