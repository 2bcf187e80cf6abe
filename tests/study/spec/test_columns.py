"""The reference of columns names every metric and every column that results have."""

import pytest

from marl.evaluation import metric_names
from marl.evaluation.metric_groups import METRIC_GROUPS
from study.spec import parse_spec
from study.spec.columns import COLUMNS, METRICS, ColumnReference
from study.spec.resolve import resolve

FACTORS = ["timbre", "frequency"]
BETTER = {"lower": "min", "higher": "max"}


def test_the_metrics_are_those_that_may_be_objectives():
    names = [name for metric in METRICS for name in metric.names(FACTORS)]
    assert sorted(names) == sorted(metric_names(FACTORS))


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.pattern)
def test_a_metric_is_in_the_reports_that_have_its_group(metric):
    when = {True: "every report", False: "last report"}
    (name, *_) = metric.names(["timbre"])
    (group,) = (group for key, group in METRIC_GROUPS.items() if name in metric_names(["timbre"], [key]))
    assert metric.when == when[group.is_intermediate]


@pytest.mark.parametrize("column", [column for column in COLUMNS if column.better], ids=lambda column: column.pattern)
def test_a_direction_is_the_one_that_a_study_uses(tiny, column):
    spec = resolve(parse_spec(tiny, "spec")).spec  # views share the timbre
    for name in column.names(FACTORS):
        belongs = {"timbre": "shared", "frequency": "private"}
        if column.better == "by subspace":
            _, factor, subspace = name.split("/")
            assert spec.usual_direction(name) == ("max" if subspace in (belongs[factor], "both") else "min")
        else:
            assert spec.usual_direction(name) == BETTER[column.better]


def test_every_column_has_a_meaning_in_sentences():
    assert [column.pattern for column in COLUMNS if not column.meaning.endswith(".")] == []


def test_a_pattern_gives_its_names():
    column = ColumnReference("probe/<factor>/{private,both}", "")
    assert column.names(["a", "b"]) == ["probe/a/private", "probe/b/private", "probe/a/both", "probe/b/both"]
    assert column.matches("probe/a/both")
    assert not column.matches("probe/a/shared")


@pytest.mark.slow
def test_every_column_of_a_study_is_described(finished):
    table = finished.results().merge(finished.front_probability(), on="trial", how="left")
    columns = {*table, *finished.baselines()}
    assert [name for name in columns if not any(column.matches(name) for column in COLUMNS)] == []
