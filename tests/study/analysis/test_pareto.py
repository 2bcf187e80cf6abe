import itertools
import time

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from study.analysis.pareto import hypervolume, is_dominated, is_in_top, nondominated_order, pareto_front

SIDE = 6


def points_of(objectives, most=12):
    """Points on a small grid: ties and duplicates are frequent, and volumes are exact."""
    return st.lists(st.tuples(*[st.integers(0, SIDE)] * objectives), min_size=1, max_size=most)


def front_of(costs):
    names = [str(column) for column in range(len(costs[0]))]
    return pareto_front(pd.DataFrame(costs, columns=names), dict.fromkeys(names, "min"))


def cells_dominated(costs, reference):
    """The oracle of the hypervolume: unit cells of the grid, counted one by one."""
    cells = itertools.product(*(range(side) for side in reference))
    return sum(any(all(c <= x for c, x in zip(cost, cell, strict=True)) for cost in costs) for cell in cells)


def test_a_known_front():
    values = pd.DataFrame({"error": [1.0, 2.0, 2.0, 3.0, 1.0], "score": [0.1, 0.5, 0.4, 0.4, 0.1]})
    assert pareto_front(values, {"error": "min", "score": "max"}) == [True, True, False, False, True]
    assert pareto_front(values, {"error": "max", "score": "max"}) == [False, True, False, True, False]
    assert pareto_front(values, {"score": "max"}) == [False, True, False, False, False]


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=20))
def test_the_front_is_nondominated_and_dominates_all_other_points(points):
    values = pd.DataFrame(points, columns=["a", "b"])
    on_front = pareto_front(values, {"a": "min", "b": "min"})
    front = [point for point, is_on in zip(points, on_front, strict=True) if is_on]

    def beats(one, other):
        return one[0] <= other[0] and one[1] <= other[1] and one != other

    assert front
    for point, is_on in zip(points, on_front, strict=True):
        assert is_on != any(beats(other, point) for other in front)


odd = st.sampled_from([0.0, 1.0, 2.0, 3.0, np.inf, -np.inf, np.nan])


@given(st.integers(1, 4).flatmap(lambda n: st.tuples(*[st.lists(st.tuples(*[odd] * n), min_size=1, max_size=9)] * 2)))
def test_a_point_is_dominated_by_points_at_least_as_good_in_all_and_better_in_one(clouds):
    costs, others = map(np.array, clouds)
    expected = [any((other <= cost).all() and (other < cost).any() for other in others) for cost in costs]
    assert is_dominated(costs, others).tolist() == expected
    assert not is_dominated(costs, others[:0]).any()


@pytest.mark.parametrize("objectives", [1, 2, 3])
def test_the_front_of_ten_thousand_points_takes_no_time(objectives):
    costs = np.random.default_rng(0).normal(size=(10_000, objectives))
    began = time.process_time()
    dominated_N = is_dominated(costs, costs)
    assert time.process_time() - began < 1
    front = costs[~dominated_N]
    assert 1 <= len(front) < 500
    assert not is_dominated(front, front).any()


def test_an_empty_table_has_an_empty_front():
    assert list(pareto_front(pd.DataFrame({"a": [], "b": []}), {"a": "min", "b": "max"})) == []


def test_a_known_order():
    first, second = [[0, 10], [10, 0], [4, 4], [1, 9]], [[5, 5], [11, 1]]
    # Within a front the extremes come first, then the point farthest from them.
    assert nondominated_order(np.array(second + first)) == [2, 3, 4, 5, 0, 1]


def test_within_a_front_each_next_point_is_the_farthest_from_those_before_it_in_scaled_units():
    # In the second objective alone, whose numbers are larger, index 1 would be the farthest from the extremes.
    costs = np.array([[0.0, 1000.0], [0.1, 500.0], [0.5, 300.0], [0.52, 295.0], [1.0, 0.0]])
    assert nondominated_order(costs) == [0, 4, 2, 1, 3]


def test_with_one_objective_the_order_is_a_stable_sort():
    assert nondominated_order(np.array([[3.0], [1.0], [2.0], [1.0]])) == [1, 3, 2, 0]


def test_points_that_are_not_finite_rank_last():
    costs = np.array([[np.nan, 0.0], [2.0, 2.0], [-np.inf, 0.0], [1.0, 1.0]])
    assert nondominated_order(costs) == [3, 1, 0, 2]
    assert nondominated_order(costs[:, :1]) == [3, 1, 0, 2]


def test_no_points_have_an_empty_order():
    assert nondominated_order(np.empty((0, 2))) == []


@given(st.integers(1, 3).flatmap(points_of))
def test_an_order_peels_front_after_front(costs):
    order = nondominated_order(np.array(costs))
    assert sorted(order) == list(range(len(costs)))
    while order:
        front = [index for index, is_on in zip(order, front_of([costs[i] for i in order]), strict=True) if is_on]
        assert set(order[: len(front)]) == set(front)
        order = order[len(front) :]


@given(st.integers(1, 3).flatmap(points_of), st.data())
def test_membership_of_the_first_points_equals_that_of_the_full_order(costs, data):
    costs = np.array(costs, dtype=float)
    costs[data.draw(st.lists(st.integers(0, len(costs) - 1), max_size=2))] = np.nan
    count = data.draw(st.integers(0, len(costs)))
    first = nondominated_order(costs)[:count]
    assert [is_in_top(costs, index, count) for index in range(len(costs))] == [
        index in first for index in range(len(costs))
    ]


@given(points_of(2))
def test_an_order_begins_with_the_best_of_each_objective(costs):
    order = nondominated_order(np.array(costs))
    on_front = sum(front_of(costs))
    values = np.array(costs)[order[: min(2, on_front)]]
    assert (values.min(axis=0) == np.array(costs).min(axis=0)).all() or on_front == 1


def test_thousands_of_points_are_ordered_in_seconds():
    costs = np.random.default_rng(0).normal(size=(4000, 2))
    on_a_line = np.column_stack([np.arange(2000.0), -np.arange(2000.0)])
    for points in (costs, on_a_line):
        assert len(nondominated_order(points)) == len(points)


def test_known_hypervolumes():
    assert hypervolume(np.array([[3.0], [5.0], [9.0]]), [8.0]) == 5.0
    assert hypervolume(np.array([[1.0, 2.0], [2.0, 1.0], [2.0, 2.0]]), [3.0, 3.0]) == 3.0
    assert hypervolume(np.array([[0.0, 0.0, 0.0], [1.0, 1.0, 1.0]]), [2.0, 3.0, 4.0]) == 24.0
    assert hypervolume(np.array([[0.0, 1.0, 1.0], [1.0, 0.0, 1.0], [1.0, 1.0, 0.0]]), [2.0, 2.0, 2.0]) == 4.0


def test_points_not_better_than_the_reference_in_all_objectives_add_no_hypervolume():
    reference = [3.0, 3.0]
    nothing = np.array([[0.0, 3.0], [3.0, 0.0], [-5.0, 4.0], [np.nan, 0.0], [-np.inf, 0.0]])
    assert hypervolume(nothing, reference) == 0.0
    assert hypervolume(np.vstack([nothing, [[1.0, 1.0]]]), reference) == 4.0
    assert hypervolume(np.empty((0, 2)), reference) == 0.0


@given(st.integers(1, 4).flatmap(lambda objectives: points_of(objectives, most=6)))
def test_a_hypervolume_counts_each_cell_that_is_dominated_once(costs):
    reference = (SIDE - 1,) * len(costs[0])
    assert hypervolume(np.array(costs), reference) == cells_dominated(costs, reference)


@given(st.integers(1, 4).flatmap(points_of), st.randoms(use_true_random=False))
def test_a_hypervolume_does_not_depend_on_the_order_and_another_point_never_lowers_it(costs, random):
    reference = (SIDE,) * len(costs[0])
    all_of_them = hypervolume(np.array(costs), reference)
    shuffled = random.sample(costs, len(costs))
    assert hypervolume(np.array(shuffled), reference) == all_of_them
    assert hypervolume(np.array(shuffled[1:]).reshape(-1, len(reference)), reference) <= all_of_them


@pytest.mark.parametrize("objectives", [2, 3, 4])
def test_hypervolumes_agree_with_optuna(objectives):
    theirs = pytest.importorskip("optuna._hypervolume").compute_hypervolume
    reference = np.ones(objectives)
    for seed in range(5):
        costs = np.random.default_rng(seed).uniform(size=(30, objectives))
        assert hypervolume(costs, reference) == pytest.approx(theirs(costs, reference), rel=1e-12)
