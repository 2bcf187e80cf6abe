"""Weights against metrics, learning curves, parallel coordinates, rungs and contours: what they draw."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from study.analysis import StudyResults
from study.analysis.parameter_effects import surface_data
from study.charts.parameter_panels import default_parameters, small_multiple_chart, small_multiples_data
from study.charts.search import ABSENT, MAX_LINES, contour_chart, parallel_data, rungs_data, within_brushes
from study.charts.style import MissingDataError
from study.charts.trial import learning_chart, learning_data
from tests.messages import mentions
from tests.study.report.studies import FIDELITY, PLAIN, SEPARATION, trial_of, write_study

GAMMA = "loss.private.gamma"


def study(tmp_path, tiny, *configurations, **changes):
    trials = [
        trial_of([4.0 + place, 4.2 + place], [0.2, 0.4], config=PLAIN | config)
        for place, config in enumerate(configurations)
    ]
    return StudyResults(write_study(tmp_path, tiny | changes, trials))


def test_the_weights_of_a_space_are_those_of_losses_or_else_all_of_its_numbers(tmp_path, tiny):
    assert default_parameters(study(tmp_path / "a", tiny).spec) == [GAMMA]
    tiny["space"] = {"latent.private": {"choice": [2, 4]}, "contrast.strategy": {"choice": ["none", "infonce"]}}
    assert default_parameters(study(tmp_path / "b", tiny).spec) == ["latent.private"]


def test_trials_that_differ_in_one_parameter_alone_are_drawn_for_it(tmp_path, tiny):
    results = study(tmp_path, tiny, {}, {GAMMA: 5.0}, {"latent.private": 4})
    data = small_multiples_data(results.results(), results.spec, [GAMMA], [FIDELITY, SEPARATION], "contrast.strategy")
    assert data[data["metric"] == FIDELITY]["trial"].tolist() == [0, 1]
    assert data["value"].unique().tolist() == [1.0, 5.0]
    assert set(data["series"]) == {"none"}
    assert (data["high"] > data["low"]).all()
    assert small_multiple_chart(data, results.spec, GAMMA, FIDELITY) is not None
    assert "nmi/timbre/shared" not in set(data["metric"])


def test_without_a_complete_trial_there_are_no_small_multiples(tmp_path, tiny):
    results = StudyResults(write_study(tmp_path, tiny, [trial_of([4.0, 4.0], [0.2, 0.2], "running")]))
    with pytest.raises(MissingDataError, match=mentions("no complete trial")):
        small_multiples_data(results.results(), results.spec, [GAMMA], [FIDELITY], None)


def test_a_learning_curve_has_each_replicate_and_the_mean_with_its_spread(tmp_path, tiny):
    reports = pd.DataFrame(
        {"seed": [0, 1, 0], "step": [10, 10, 20], FIDELITY: [4.0, 6.0, 3.0], SEPARATION: [np.nan, np.nan, 0.5]}
    )
    data = learning_data(reports, [FIDELITY, SEPARATION]).set_index(["metric", "step", "seed"]).sort_index()
    first = data.loc[(FIDELITY, 10, 0)]
    assert first["mean"] == 5.0
    assert first["high"] - first["mean"] == pytest.approx(stats.t.ppf(0.95, df=1))  # sd / sqrt(2) is 1
    deviations = learning_data(reports, [FIDELITY], "sd")
    assert (deviations["high"] - deviations["mean"]).max() == pytest.approx(np.sqrt(2))
    assert np.isnan(data.loc[(FIDELITY, 20, 0), "low"])
    assert len(data) == 4
    chart = learning_chart(data.reset_index(), study(tmp_path, tiny).spec, FIDELITY).to_dict()
    assert [layer["mark"]["type"] for layer in chart["layer"]] == ["area", "line", "line", "point"]


def test_parallel_coordinates_go_from_the_least_to_the_greatest_with_a_place_for_absent_parameters(tmp_path, tiny):
    results = study(tmp_path, tiny, {GAMMA: 0.1}, {GAMMA: 1.0}, {GAMMA: 10.0, "contrast.temperature": 0.2})
    data = parallel_data(results.results(), results.spec, list(results.spec.space), [FIDELITY])
    gamma = data[data["axis"] == GAMMA]
    assert gamma["position"].round(9).tolist() == [0.0, 0.5, 1.0]  # by its logarithm
    assert gamma["value"].tolist() == ["0.1", "1", "10"]
    temperature = data[data["axis"] == "contrast.temperature"].set_index("trial")
    assert temperature["value"].to_dict() == {2: "0.2", 0: "n/a", 1: "n/a"}
    assert temperature["position"].to_dict() == {2: 0.5, 0: ABSENT, 1: ABSENT}
    assert data[data["value"] != "n/a"]["position"].between(0, 1).all()


def test_ranges_on_parallel_axes_keep_the_trials_within_all_of_them(tmp_path, tiny):
    results = study(tmp_path, tiny, {GAMMA: 0.1}, {GAMMA: 1.0}, {GAMMA: 10.0, "contrast.temperature": 0.2})
    data = parallel_data(results.results(), results.spec, list(results.spec.space), [FIDELITY])

    def within(**brushes):
        return set(data["trial"][within_brushes(data, brushes)])

    assert within() == {0, 1, 2}
    assert within(**{GAMMA: (0.4, 1.0)}) == {1, 2}
    assert within(**{GAMMA: (0.4, 1.0), "contrast.temperature": (-1.0, 0.0)}) == {1}
    assert within(**{"contrast.temperature": (0.0, 1.0)}) == {2}


def test_only_a_sample_of_very_many_trials_has_lines(tmp_path, tiny):
    spec = study(tmp_path, tiny).spec
    table = pd.DataFrame({"trial": range(900), f"config/{GAMMA}": np.linspace(0.1, 10, 900), FIDELITY: 1.0})
    assert parallel_data(table, spec, [GAMMA], [FIDELITY])["trial"].nunique() == MAX_LINES


def test_rungs_show_how_many_trials_reached_them_and_were_stopped(tmp_path, tiny):
    tiny["halving"] = {"reduction_factor": 2, "min_steps": 10}
    store = write_study(tmp_path, tiny, [trial_of([4.0, 4.1], [0.2, 0.2])])
    for place, trial in enumerate((1, 2)):
        store.append("reports", 1, 90 + place, [{"trial": trial, "seed": 0, "step": 10, "metric_version": 1}])
    store.append("trials", 1, 92, [{"trial": 1, "state": "pruned", "step": 10, "error": None, "sampler": "{}"}])
    data = rungs_data(StudyResults(store)).set_index("step")
    assert data.loc[10].to_dict() == {"reached": 2, "stopped": 1, "continued": 1}


@pytest.mark.parametrize("second", ["latent.private", "contrast.strategy"])
def test_a_contour_has_cells_and_the_trials_that_it_goes_through(tmp_path, tiny, second):
    values = {"latent.private": (2, 4), "contrast.strategy": ("none", "infonce")}[second]
    configurations = [{GAMMA: gamma, second: value} for gamma in (0.2, 1.0, 5.0) for value in values]
    results = study(tmp_path, tiny, *configurations)
    table = results.results()
    data = surface_data(table, results.spec, GAMMA, second, FIDELITY)
    cells, points = contour_chart(data, table, results.spec, GAMMA, second, FIDELITY).to_dict()["layer"]
    assert cells["mark"]["type"] == "rect"
    assert points["mark"]["type"] == "point"
    assert data["mean"].notna().any()


def test_trials_without_the_distinguishing_parameter_are_a_separate_series(tmp_path, tiny):
    tiny["space"]["contrast.projection"] = {"choice": [True, False], "when": {"contrast.strategy": "infonce"}}
    with_it = {"contrast.strategy": "infonce", "contrast.temperature": 0.2, "contrast.projection": True, GAMMA: 3.0}
    results = study(tmp_path, tiny, {}, with_it, {"latent.private": 4, GAMMA: 2.0})
    data = small_multiples_data(results.results(), results.spec, [GAMMA], [FIDELITY], "contrast.projection")
    assert sorted(data["series"]) == ["absent", "absent", "true"]
    assert small_multiple_chart(data, results.spec, GAMMA, FIDELITY) is not None
