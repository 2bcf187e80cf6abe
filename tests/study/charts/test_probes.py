import json

import numpy as np
import pandas as pd
import pytest

from study.charts.style import MissingDataError
from study.charts.trial import accuracy_chart, accuracy_data
from study.report.figures import accuracy_figure
from tests.messages import assert_mentions, mentions
from tests.study.report.studies import FACTORS, context_of, trial_of, write_study

CLASSES = {"timbre": 4, "frequency": 20, "amplitude": 4}
HOME = {"timbre": "shared", "frequency": "private", "amplitude": "private"}


def test_bars_are_the_means_and_error_bars_one_standard_deviation(tmp_path, tiny):
    trial = trial_of([4.0, 4.0], [0.2, 0.4])
    trial["metrics"]["probe/timbre/shared"] = [0.9, 0.7]
    context = context_of(write_study(tmp_path, tiny, [trial]))
    data = accuracy_data(context.example, CLASSES, {"probe/timbre/shared": 0.3}).set_index(["factor", "subspace"])
    bar = data.loc["timbre", "shared"]
    assert bar["accuracy"] == pytest.approx(0.8)
    spread = np.std([0.9, 0.7], ddof=1)
    assert context.example["probe/timbre/shared/sd"] == pytest.approx(spread)
    assert (bar["low"], bar["high"]) == (pytest.approx(0.8 - spread), pytest.approx(0.8 + spread))
    assert (bar["chance"], bar["untrained"]) == (0.25, 0.3)
    assert data.loc["frequency", "private"]["chance"] == 1 / 20
    assert len(data) == 9


def test_chance_is_that_of_the_data(tmp_path, tiny):
    context = context_of(write_study(tmp_path, tiny, [trial_of([4.0, 4.0], [0.2, 0.4])]))
    assert {factor.name: factor.classes for factor in context.factors} == CLASSES
    assert context.factors == FACTORS
    chart = json.loads(accuracy_figure(context).chart.to_json())
    panels = chart["concat"]
    assert [panel["title"]["text"] for panel in panels] == list(CLASSES)
    assert_mentions(panels[0]["title"]["subtitle"], "shared subspace")


def test_a_single_replicate_has_no_error_bars_and_the_caption_says_so(tmp_path, tiny):
    tiny["replicates"] = 1
    picture = accuracy_figure(context_of(write_study(tmp_path, tiny, [trial_of([4.0], [0.2])])))
    assert_mentions(picture.caption, "no error bars", "replicate")


def test_the_untrained_network_is_shown_if_it_was_evaluated(tmp_path, tiny):
    store = write_study(tmp_path, tiny, [trial_of([4.0, 4.0], [0.2, 0.4])])
    assert "untrained" not in accuracy_figure(context_of(store)).caption
    store.write_baselines({"untrained": {"probe/timbre/shared": 0.3}, "replicates": 2})
    assert_mentions(accuracy_figure(context_of(store)).caption, "red", "untrained")


def test_a_trial_without_probes_is_named():
    with pytest.raises(MissingDataError, match=mentions("trial 3", "probe/")):
        accuracy_data(pd.Series({"trial": 3}), CLASSES, {})


def test_bars_above_one_widen_the_axis():
    row = pd.Series({"trial": 0, "probe/timbre/shared": 0.95, "probe/timbre/shared/sd": 0.15})
    chart = json.loads(accuracy_chart(accuracy_data(row, CLASSES, {}), HOME).to_json())
    scale = chart["concat"][0]["layer"][0]["encoding"]["y"]["scale"]
    assert scale["domain"] == [0, pytest.approx(1.1)]
