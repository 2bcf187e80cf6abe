import pandas as pd
import pytest

from study.analysis.parameter_effects import find_sweep, is_numeric
from study.spec import Parameter, parse_spec

NUMBERS = {"choice": [0.1, 1.0, 10.0]}


def spec_of(space, include=()):
    return parse_spec({"name": "s", "data": {}, "space": space, "include": list(include)}, "spec")


def table_of(configurations, states=None):
    rows = [{f"config/{name}": value for name, value in one.items()} for one in configurations]
    table = pd.DataFrame(rows).assign(trial=range(len(rows)), state="complete")
    for trial, state in (states or {}).items():
        table.loc[trial, "state"] = state
    return table


def drawn(sweep):
    return {name: trials["trial"].tolist() for name, trials in sweep.trials.items()}


STAR = [{"a": 1.0, "b": 1.0}, {"a": 0.1, "b": 1.0}, {"a": 10.0, "b": 1.0}, {"a": 1.0, "b": 10.0}]


def test_an_ablation_is_drawn_from_the_trials_that_differ_in_one_parameter_and_the_reference():
    spec = spec_of({"a": NUMBERS, "b": NUMBERS}, STAR)
    sweep = find_sweep(table_of(STAR), spec)
    assert sweep.reference == {"a": 1.0, "b": 1.0}
    assert drawn(sweep) == {"a": [0, 1, 2], "b": [0, 3]}


def test_trials_that_the_sampler_added_to_an_ablation_are_not_drawn():
    added = [{"a": 10.0, "b": 10.0}, {"a": 1.0, "b": 0.1}]
    spec = spec_of({"a": NUMBERS, "b": NUMBERS}, STAR)
    assert drawn(find_sweep(table_of([*STAR, *added]), spec)) == {"a": [0, 1, 2], "b": [0, 3]}


def test_a_few_included_trials_of_a_search_are_no_ablation():
    sampled = [{"a": 10.0, "b": 10.0}, {"a": 0.1, "b": 0.1}, {"a": 0.1, "b": 10.0}]
    spec = spec_of({"a": NUMBERS, "b": NUMBERS}, STAR[:2])
    sweep = find_sweep(table_of([*STAR[:2], *sampled]), spec)
    assert sweep.reference is None
    assert drawn(sweep) == {"a": [0, 1, 2, 3, 4], "b": [0, 1, 2, 3, 4]}


def test_a_reference_need_not_be_a_trial():
    star = [{"a": 0.1, "b": 1.0}, {"a": 10.0, "b": 1.0}, {"a": 1.0, "b": 0.1}, {"a": 1.0, "b": 10.0}]
    sweep = find_sweep(table_of(star), spec_of({"a": NUMBERS, "b": NUMBERS}, star))
    assert sweep.reference == {"a": 1.0, "b": 1.0}
    assert drawn(sweep) == {"a": [0, 1], "b": [2, 3]}


def test_a_grid_of_two_parameters_has_no_reference_and_draws_all_trials():
    cells = [{"a": a, "b": b} for a in (0.1, 1.0) for b in (0.1, 1.0)]
    sweep = find_sweep(table_of(cells), spec_of({"a": NUMBERS, "b": NUMBERS}))
    assert sweep.reference is None
    assert drawn(sweep) == {"a": [0, 1, 2, 3], "b": [0, 1, 2, 3]}


def test_the_only_varying_parameter_is_no_part_of_the_reference():
    sweep = find_sweep(table_of([{"a": value} for value in (0.1, 1.0, 10.0)]), spec_of({"a": NUMBERS}))
    assert sweep.reference == {}
    assert drawn(sweep) == {"a": [0, 1, 2]}


def test_trials_that_are_not_complete_are_not_drawn_but_tell_the_reference():
    table = table_of(STAR, {0: "failed", 2: "pruned"})
    sweep = find_sweep(table, spec_of({"a": NUMBERS, "b": NUMBERS}, STAR))
    assert sweep.reference == {"a": 1.0, "b": 1.0}
    assert drawn(sweep) == {"a": [1], "b": [3]}


def test_a_parameter_that_exists_for_one_of_two_trials_is_no_difference():
    space = {"s": {"choice": ["none", "x"]}, "t": {"uniform": [0, 1], "when": {"s": "x"}}, "a": NUMBERS}
    star = [{"s": "none", "a": 1.0}, {"s": "x", "t": 0.5, "a": 1.0}, {"s": "none", "a": 10.0}]
    sweep = find_sweep(table_of(star), spec_of(space))
    assert sweep.reference == {"s": "none", "a": 1.0}
    assert drawn(sweep) == {"s": [0, 1], "t": [], "a": [0, 2]}


@pytest.mark.parametrize("count", [0, 1])
def test_no_trial_and_one_trial_show_no_sweep(count):
    table = table_of(STAR[:count]) if count else pd.DataFrame({"trial": [], "state": []})
    sweep = find_sweep(table, spec_of({"a": NUMBERS, "b": NUMBERS}))
    assert sweep.reference is None
    assert drawn(sweep) == {"a": list(range(count)), "b": list(range(count))}


@pytest.mark.parametrize(
    ("parameter", "numeric"),
    [
        ({"choice": [1, 2.5]}, True),
        ({"uniform": [0, 1]}, True),
        ({"int": [0, 3]}, True),
        ({"choice": [True, False]}, False),
        ({"choice": ["none", 1]}, False),
    ],
)
def test_numeric_choices_differ_from_other_choices(parameter, numeric):
    assert is_numeric(Parameter(**parameter)) is numeric
