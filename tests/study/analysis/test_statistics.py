import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from study.analysis.pareto import pareto_front
from study.analysis.statistics import (
    _front_counts,
    _front_counts_of_two,
    accuracy_standard_error,
    ci_half_width,
    front_probabilities,
    mean_standard_error,
    rmse_standard_error,
    wilson_interval,
)

SHARES = 0.04  # four standard deviations of a share of the draws


def reports_of(values_TRM, names="ab"):
    """Return reports of trials with equal numbers of replicates."""
    rows = [
        {"trial": trial, "seed": seed} | dict(zip(names, values_M, strict=False))
        for trial, values_RM in enumerate(values_TRM)
        for seed, values_M in enumerate(values_RM)
    ]
    return pd.DataFrame(rows)


def lower(names="ab"):
    return dict.fromkeys(names, "min")


def noisy(means_TM, seeds=3, spread=0.3, seed=0):
    means_TM = np.asarray(means_TM, dtype=float)
    noise = np.random.default_rng(seed).normal(size=(len(means_TM), seeds, means_TM.shape[1]))
    return means_TM[:, None] + spread * noise


def test_an_interval_is_that_of_students_t():
    values = [1.0, 2.0, 6.0]
    low, high = stats.t.interval(0.9, 2, np.mean(values), stats.sem(values))
    assert ci_half_width(np.std(values, ddof=1), 3) == pytest.approx((high - low) / 2, rel=1e-12)
    assert ci_half_width(1.0, 3, level=0.99) > ci_half_width(1.0, 3, level=0.9) > ci_half_width(1.0, 4, level=0.9)


def test_intervals_of_a_column_are_a_column_and_one_seed_has_none():
    widths = ci_half_width(
        pd.Series([1.0, 0.0, np.nan, 0.0], index=[4, 5, 6, 7]), pd.Series([3, 3, 1, 1], index=[4, 5, 6, 7])
    )
    assert widths.round(3).to_dict() == pytest.approx({4: 1.686, 5: 0.0, 6: np.nan, 7: np.nan}, nan_ok=True)


def test_known_standard_errors_over_clips():
    right = np.array([1.0, 1.0, 1.0, 0.0])
    assert accuracy_standard_error(0.75, 4) == 0.25
    assert mean_standard_error(right) == 0.25
    assert mean_standard_error(np.stack([right, 2 * right])).tolist() == [0.25, 0.5]
    # The mean is 4, so the root is 2 and its slope a quarter.
    assert rmse_standard_error(np.array([3.0, 5.0])) == pytest.approx(1.0 / 4)


def test_equal_clips_have_no_error_and_one_clip_has_an_unknown_error():
    assert accuracy_standard_error(np.array([0.0, 1.0]), 10).tolist() == [0.0, 0.0]
    assert rmse_standard_error(np.zeros(5)) == 0.0
    assert rmse_standard_error(np.full((2, 5), 4.0)).tolist() == [0.0, 0.0]
    for error in (accuracy_standard_error(0.5, 1), mean_standard_error(np.ones(1)), rmse_standard_error(np.ones(1))):
        assert np.isnan(error)


def test_the_estimated_error_over_clips_has_no_bias():
    draws = np.random.default_rng(0).binomial(10, 0.9, size=200_000) / 10
    assert (accuracy_standard_error(draws, 10) ** 2).mean() == pytest.approx(0.9 * 0.1 / 10, rel=0.01)


@settings(max_examples=50)
@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=15))
def test_without_spread_front_probabilities_are_zero_or_one(points):
    # A tenth is no binary number: a mean of three of them need not be one of them.
    values = np.repeat(np.array(points)[:, None] / 10, 3, axis=1)
    objectives = {"a": "min", "b": "max", "c": "min"}
    front = pareto_front(pd.DataFrame(np.array(points) / 10, columns=list("abc")), objectives)
    assert front_probabilities(reports_of(values, "abc"), objectives).tolist() == list(front)


def test_two_trials_of_many_seeds_are_compared_as_by_a_normal_distribution():
    values = noisy([[0.0], [0.05]], seeds=100)
    means, squares = values.mean(axis=1)[:, 0], values.var(axis=1, ddof=1)[:, 0]
    better = stats.norm.cdf((means[1] - means[0]) / np.sqrt(squares.sum() / 100))
    probability = front_probabilities(reports_of(values, "a"), lower("a"))
    assert probability.tolist() == pytest.approx([better, 1 - better], abs=SHARES)
    assert probability.sum() == pytest.approx(1.0)


@pytest.mark.parametrize(("correlation", "expected"), [(1, 1 / 2), (0, 3 / 4), (-1, 1)])
def test_how_objectives_go_together_over_seeds_counts(correlation, expected):
    first = np.array([-1.0, -1.0, 1.0, 1.0])
    second = {1: first, 0: np.array([-1.0, 1.0, -1.0, 1.0]), -1: -first}[correlation]
    values = np.stack([np.column_stack([first, second])] * 2)
    # Both trials have the same means. A trial is dominated if both of its objectives are worse.
    assert front_probabilities(reports_of(values), lower()).tolist() == pytest.approx([expected] * 2, abs=SHARES)


def test_fewer_seeds_of_the_same_spread_are_less_sure():
    pair = np.array([-0.5, 0.5])
    few, many = (
        front_probabilities(
            reports_of(np.stack([np.tile(pair, r), np.tile(pair, r) + 0.8])[..., None], "a"), lower("a")
        )
        for r in (1, 6)
    )
    assert 0.5 < few[0] < many[0] - 0.1
    assert many[0] > 0.95


def test_a_trial_of_one_seed_has_the_spread_of_the_others():
    reports = reports_of(noisy([[0, 1], [1, 0], [0.5, 0.5], [3, 3]]))
    alone = reports[(reports["trial"] != 2) | (reports["seed"] == 0)]
    probability = front_probabilities(alone, lower())
    assert 0 < probability[2] < 1
    assert probability[3] == 0


def test_the_only_two_seeds_tell_the_spread_with_one_degree_of_freedom():
    # The difference of two Cauchy variables, of scales 1 and the root of 2, is one of the sum of both.
    scale = 1 + np.sqrt(2)
    reports = reports_of([[[-1.0], [1.0]], [[3 * scale], [0.0]]], "a")
    probability = front_probabilities(reports[:3], lower("a"))
    assert probability[0] == pytest.approx(0.5 + np.arctan(3) / np.pi, abs=SHARES / 2)


@pytest.mark.parametrize(("seeds", "deviation"), [(41, 0.1), (5, 0.0)])
def test_many_other_seeds_count_as_four_degrees_of_freedom(seeds, deviation):
    few, many = np.array([-1.0, 1.0]), 0.8 + deviation * np.resize([-1.0, 1.0], seeds)
    reports = reports_of([few[:, None], many[:, None]], "a")
    variance = many.var(ddof=1)
    own = stats.t(df=5, scale=np.sqrt((4 * variance + 2.0) / 5 / 2))
    other = stats.t(df=seeds, loc=many.mean(), scale=np.sqrt((2.0 + (seeds - 1) * variance) / seeds / seeds))
    costs = np.linspace(-20, 20, 40_001)
    better = np.trapezoid(own.cdf(costs) * other.pdf(costs), costs)
    assert front_probabilities(reports, lower("a"))[0] == pytest.approx(better, abs=SHARES / 2)


def test_trials_that_are_alike_in_one_objective_are_compared_by_the_others():
    values = noisy([[0.0], [0.1], [0.2]])
    constant = np.concatenate([np.full_like(values, 0.1), values], axis=-1)
    by_both = front_probabilities(reports_of(constant), lower())
    assert by_both.tolist() == pytest.approx(front_probabilities(reports_of(values, "b"), lower("b")), abs=SHARES)
    assert by_both.sum() == pytest.approx(1.0)


def test_without_any_spread_there_is_no_probability():
    reports = reports_of(noisy([[0, 1], [1, 0]], seeds=1))
    probability = front_probabilities(reports, lower())
    assert probability.index.tolist() == [0, 1]
    assert probability.isna().all()
    assert front_probabilities(reports[:0], lower()).empty


def test_a_trial_alone_is_on_the_front():
    assert front_probabilities(reports_of(noisy([[0, 1]], seeds=2)), lower()).tolist() == [1.0]


def test_two_replicates_do_not_determine_a_correlation_of_objectives():
    # One trial of two seeds lies on a line, as any two points do.
    reports = reports_of([[[0.0, 0.0], [1.0, 1.0]], [[0.5, 0.5], [0.5, 0.5]]])
    probability = front_probabilities(reports[:3], lower())
    assert probability.tolist() == pytest.approx([3 / 4] * 2, abs=SHARES)


def test_rows_that_are_not_finite_do_not_count():
    reports = reports_of(noisy([[0, 1], [1, 0], [-9, -9]]))
    reports.loc[reports["trial"] == 2, "b"] = [np.nan, np.inf, np.nan]
    pd.testing.assert_series_equal(front_probabilities(reports, lower()), front_probabilities(reports[:6], lower()))


@settings(max_examples=20)
@given(st.integers(0, 100), st.randoms(use_true_random=False))
def test_neither_the_order_of_rows_nor_units_nor_directions_change_anything(seed, random):
    reports = reports_of(noisy(np.random.default_rng(seed).normal(size=(6, 2)), seed=seed))
    probability = front_probabilities(reports, lower())
    shuffled = reports.iloc[random.sample(range(len(reports)), len(reports))]
    pd.testing.assert_series_equal(front_probabilities(shuffled, lower()), probability)
    other = reports.assign(a=reports["a"] * 2.0**40, b=-reports["b"])
    pd.testing.assert_series_equal(front_probabilities(other, {"a": "min", "b": "max"}), probability)


@settings(max_examples=20)
@given(st.integers(0, 100), st.integers(2, 4), st.integers(1, 3))
def test_front_probabilities_lie_between_zero_and_one_and_sum_to_at_least_one(seed, seeds, objectives):
    names = "abc"[:objectives]
    reports = reports_of(noisy(np.random.default_rng(seed).normal(size=(8, objectives)), seeds, seed=seed), names)
    probability = front_probabilities(reports, lower(names))
    assert probability.between(0, 1).all()
    assert probability.sum() >= 1 - 1e-9
    assert probability.name == "front_probability"
    assert probability.index.name == "trial"


def test_thousands_of_trials_take_seconds():
    means = np.random.default_rng(0).normal(size=(2000, 2))
    probability = front_probabilities(reports_of(noisy(means)), lower())
    assert len(probability) == 2000
    assert 3 < probability.sum() < 20


@settings(deadline=None)
@given(st.lists(st.lists(st.tuples(*[st.integers(0, 3)] * 2), min_size=5, max_size=5), min_size=1, max_size=4))
def test_in_two_objectives_the_times_on_the_front_are_those_of_each_draw(draws):
    cost_STM = np.array(draws, dtype=float)
    fronts = [pareto_front(pd.DataFrame(cost_TM, columns=list("ab")), lower()) for cost_TM in cost_STM]
    cost_MST = cost_STM.transpose(2, 0, 1)
    for count in (_front_counts, _front_counts_of_two):
        assert count(cost_MST).tolist() == np.sum(fronts, axis=0).tolist()


def test_with_more_seeds_the_same_means_and_spreads_decide_more():
    reports = reports_of(noisy([[0.0], [0.1]], seeds=3, spread=0.2), "a")
    chances = [front_probabilities(reports, lower("a"), seeds).max() for seeds in (3, 10, 100, 10_000)]
    assert chances == sorted(chances)
    assert chances[0] < 0.95
    assert chances[-1] == 1.0


def test_the_present_number_of_seeds_changes_no_probability():
    reports = reports_of(noisy([[0, 3], [1, 2], [2, 1], [1.1, 2.1]]))
    pd.testing.assert_series_equal(front_probabilities(reports, lower(), 3), front_probabilities(reports, lower()))


def test_the_probability_with_more_seeds_is_that_of_as_many_measured_ones():
    values = noisy([[0.0], [0.1]], seeds=3, spread=0.2)
    # Five copies have the same mean; this factor gives 15 values the standard deviation of the three.
    residuals = values - values.mean(axis=1, keepdims=True)
    measured = values.mean(axis=1, keepdims=True) + np.tile(residuals, (1, 5, 1)) * np.sqrt(2 / 3 * 15 / 14) ** -1
    scale = values.std(axis=1, ddof=1) / measured.std(axis=1, ddof=1)
    assert scale == pytest.approx(np.ones((2, 1)))
    expected = front_probabilities(reports_of(measured, "a"), lower("a"))
    assert front_probabilities(reports_of(values, "a"), lower("a"), 15).tolist() == pytest.approx(expected.tolist())


@pytest.mark.parametrize(("successes", "trials"), [(7, 10), (0, 10), (10, 10), (1, 200)])
def test_wilsons_interval_is_that_of_scipy(successes, trials):
    expected = stats.binomtest(successes, trials).proportion_ci(0.9, method="wilson")
    assert wilson_interval(successes, trials) == pytest.approx(tuple(expected))


def test_known_intervals_of_a_probability():
    assert wilson_interval(7, 10) == pytest.approx((0.4417, 0.8731), abs=1e-4)
    assert wilson_interval(0, 0) == (0.0, 1.0)
