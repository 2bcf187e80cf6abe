import json

import pytest

from study.analysis.parameter_effects import find_sweep
from study.charts.parameter_panels import sweep_panels
from study.charts.style import MissingDataError
from study.report.figures import categorical_figure, numeric_figure
from tests.messages import assert_mentions, mentions
from tests.study.report.studies import FIDELITY, PLAIN, SEPARATION, context_of, trial_of, write_study

GAMMA, PRIVATE, STRATEGY = "loss.private.gamma", "latent.private", "contrast.strategy"
CONTRASTIVE = {STRATEGY: "infonce", "contrast.temperature": 0.2}
STAR = [PLAIN, PLAIN | {GAMMA: 0.1}, PLAIN | {GAMMA: 10.0}, PLAIN | {PRIVATE: 4}, PLAIN | CONTRASTIVE]
SCATTERED = [
    PLAIN,
    PLAIN | {GAMMA: 2.0, PRIVATE: 4} | CONTRASTIVE,
    PLAIN | {GAMMA: 5.0, PRIVATE: 4} | CONTRASTIVE | {"contrast.temperature": 0.5},
]


def study_of(tmp_path, content, configurations, **more):
    trials = [
        trial_of([4.0 + number, 4.2 + number], [0.1 * number, 0.1 * number + 0.04], config=one, **more)
        for number, one in enumerate(configurations)
    ]
    return context_of(write_study(tmp_path, content, trials))


@pytest.fixture
def ablation(tmp_path, tiny):
    tiny["include"] = STAR
    tiny["search"] = {"sampler": "random", "trials": len(STAR)}
    return study_of(tmp_path, tiny, STAR)


def test_error_bars_of_a_curve_are_the_column_of_intervals(ablation):
    panels = sweep_panels(find_sweep(ablation.table, ablation.spec), ablation.spec, numeric=True)
    assert list(panels) == [GAMMA, PRIVATE]
    table = ablation.table.set_index("trial")
    for metric in (FIDELITY, SEPARATION):
        part = panels[GAMMA][metric].set_index("trial")
        assert part["value"].to_dict() == {1: 0.1, 0: 1.0, 2: 10.0}
        for trial, row in part.iterrows():
            assert row["mean"] == table.loc[trial, metric]
            assert row["high"] - row["mean"] == pytest.approx(table.loc[trial, f"{metric}/ci"])
            assert row["mean"] - row["low"] == pytest.approx(table.loc[trial, f"{metric}/ci"])


def marks(panel):
    return [layer["mark"]["type"] for layer in panel["layer"]]


def test_an_ablation_has_a_line_for_each_parameter_and_a_ring_at_the_reference(ablation):
    picture = numeric_figure(ablation)
    columns = json.loads(picture.chart.to_json())["concat"]
    assert [column["title"]["text"] for column in columns] == ["γ private", "private latents"]
    assert [marks(panel) for panel in columns[0]["vconcat"]] == [["line", "rule", "point", "point"]] * 2
    assert_mentions(picture.caption, "one parameter", 4)
    assert_mentions(picture.note, "Reference", "γ private 1", "private latents 2", "contrastive strategy none")


def test_choices_of_an_ablation_are_compared_at_the_reference(ablation):
    picture = categorical_figure(ablation)
    panels = sweep_panels(find_sweep(ablation.table, ablation.spec), ablation.spec, numeric=False)
    assert {name: parts[FIDELITY]["trial"].tolist() for name, parts in panels.items()} == {STRATEGY: [4, 0]}
    assert_mentions(picture.caption, "other parameters", "reference")


def test_a_search_has_points_of_all_complete_trials(tmp_path, tiny):
    context = study_of(tmp_path, tiny, SCATTERED)
    picture = numeric_figure(context)
    columns = json.loads(picture.chart.to_json())["concat"]
    assert [column["title"]["text"] for column in columns] == ["γ private", "private latents", "temperature"]
    assert marks(columns[0]["vconcat"][0]) == ["rule", "point"]
    assert_mentions(picture.caption, "3 complete trials")
    assert picture.note == ""
    panels = sweep_panels(find_sweep(context.table, context.spec), context.spec, numeric=True)
    assert panels["contrast.temperature"][SEPARATION]["trial"].tolist() == [1, 2]


def test_choices_of_a_search_have_a_mean(tmp_path, tiny):
    picture = categorical_figure(study_of(tmp_path, tiny, SCATTERED))
    (row,) = json.loads(picture.chart.to_json())["vconcat"]
    assert [marks(panel) for panel in row["hconcat"]] == [["rule", "tick", "point"]] * 2
    assert_mentions(picture.caption, "other parameters", "differ")


@pytest.mark.parametrize("draw", [numeric_figure, categorical_figure])
def test_one_trial_shows_no_difference(tmp_path, tiny, draw):
    with pytest.raises(MissingDataError, match=mentions("two values", "complete trials")):
        draw(study_of(tmp_path, tiny, [PLAIN]))


@pytest.mark.parametrize("draw", [numeric_figure, categorical_figure])
def test_trials_that_are_not_complete_are_not_compared(tmp_path, tiny, draw):
    with pytest.raises(MissingDataError, match=mentions("two values", "complete trials")):
        draw(study_of(tmp_path, tiny, SCATTERED, state="pruned"))


def test_a_study_without_a_parameter_of_the_kind_says_so(tmp_path, tiny):
    configurations = [{GAMMA: 1.0}, {GAMMA: 2.0}]
    tiny["space"] = {GAMMA: {"log_uniform": [0.1, 10]}}
    with pytest.raises(MissingDataError, match=mentions("every parameter", "number")):
        categorical_figure(study_of(tmp_path / "a", tiny, configurations))
    tiny["space"] = {STRATEGY: {"choice": ["none", "infonce"]}}
    with pytest.raises(MissingDataError, match=mentions("no parameter", "number")):
        numeric_figure(study_of(tmp_path / "b", tiny, [{STRATEGY: "none"}, {STRATEGY: "infonce"}]))
