"""Calibration of intervals and probabilities on data with known truth."""

import itertools

import numpy as np
import pandas as pd
import pytest
from scipy import special

from study.analysis.pareto import pareto_front
from study.analysis.statistics import (
    accuracy_standard_error,
    ci_half_width,
    front_probabilities,
    mean_standard_error,
    rmse_standard_error,
)

REPEATS = 4000
NORMAL = 1.6449  # an interval of 90 % in standard errors


def accuracies(mean, sd, shape, random):
    """Between 0 and 1, and skewed where the mean is near one of them."""
    parts = mean * (1 - mean) / sd**2 - 1
    return random.beta(mean * parts, (1 - mean) * parts, size=shape)


def coverage(truth, estimates, half_widths):
    return (np.abs(estimates - truth) <= half_widths).mean()


def coverage_over_seeds(truth, values_KN):
    return coverage(truth, values_KN.mean(axis=1), ci_half_width(values_KN.std(axis=1, ddof=1), values_KN.shape[1]))


@pytest.mark.parametrize("seeds", [2, 3, 5])
def test_intervals_over_seeds_have_their_nominal_coverage_for_a_normal_metric(seeds):
    values = np.random.default_rng(0).normal(3.5, 0.07, size=(REPEATS, seeds))
    assert 0.885 < coverage_over_seeds(3.5, values) < 0.915


@pytest.mark.parametrize("seeds", [3, 5])
@pytest.mark.parametrize("sd", [0.01, 0.02, 0.03])
def test_intervals_over_seeds_have_nearly_their_nominal_coverage_for_an_accuracy_near_one(sd, seeds):
    values = accuracies(0.95, sd, (REPEATS, seeds), np.random.default_rng(0))
    assert 0.86 < coverage_over_seeds(0.95, values) < 0.915


@pytest.mark.parametrize("seeds", [3, 5])
def test_intervals_beyond_the_bound_of_a_metric_cover_less_also_with_a_logit(seeds):
    values = accuracies(0.95, 0.045, (REPEATS, seeds), np.random.default_rng(0))
    assert 0.82 < coverage_over_seeds(0.95, values) < 0.87
    of_many = accuracies(0.95, 0.03, (REPEATS, 10), np.random.default_rng(0))
    logits = special.logit(of_many.clip(1e-3, 1 - 1e-3))
    assert coverage_over_seeds(special.logit(0.95), logits) < 0.84
    assert coverage_over_seeds(0.95, of_many) > 0.86


@pytest.mark.parametrize(("accuracy", "clips"), [(0.5, 200), (0.8, 200), (0.95, 400), (0.98, 1000)])
def test_intervals_of_an_accuracy_over_clips_have_their_nominal_coverage(accuracy, clips):
    measured = np.random.default_rng(0).binomial(clips, accuracy, size=REPEATS) / clips
    assert 0.86 < coverage(accuracy, measured, NORMAL * accuracy_standard_error(measured, clips)) < 0.93


def test_an_accuracy_of_few_wrong_answers_covers_less():
    measured = np.random.default_rng(0).binomial(100, 0.98, size=REPEATS) / 100  # two wrong ones, or none by chance
    assert coverage(0.98, measured, NORMAL * accuracy_standard_error(measured, 100)) < 0.86


@pytest.mark.parametrize("clips", [100, 400])
def test_intervals_of_a_mean_and_a_root_mean_square_over_clips_have_their_nominal_coverage(clips):
    # Clips are of different difficulty: the squared error of one is skewed.
    squared_errors = np.random.default_rng(0).gamma(1.5, 8.0, size=(REPEATS, clips))
    mean = squared_errors.mean(axis=1)
    assert 0.88 < coverage(12.0, mean, NORMAL * mean_standard_error(squared_errors)) < 0.92
    assert 0.88 < coverage(np.sqrt(12.0), np.sqrt(mean), NORMAL * rmse_standard_error(squared_errors)) < 0.92


def simulated(seeds, spread, unlike=0.0, together=0.5, studies=30, trials=40):
    """Probabilities of trials, and whether they are on the front of the true means.

    Args:
        seeds: of each trial.
        spread: over seeds, where the means of trials have one of 1.
        unlike: by how much the logarithm of the spread differs among trials.
        together: how objectives go together over seeds.
    """
    random, names = np.random.default_rng(0), {"a": "min", "b": "max"}
    stated, true = [], []
    for _ in range(studies):
        means_TM = random.multivariate_normal([0, 0], [[1, 0.3], [0.3, 1]], size=trials)
        spread_T11 = spread * np.exp(unlike * random.normal(size=(trials, 1, 1)))
        noise_TRM = random.multivariate_normal([0, 0], [[1, together], [together, 1]], size=(trials, seeds))
        reports = pd.DataFrame((means_TM[:, None] + spread_T11 * noise_TRM).reshape(-1, 2), columns=["a", "b"])
        reports["trial"], reports["seed"] = np.divmod(np.arange(len(reports)), seeds)
        stated.append(front_probabilities(reports, names).to_numpy())
        true.append(pareto_front(pd.DataFrame(means_TM, columns=["a", "b"]), names))
    return np.concatenate(stated), np.concatenate(true)


@pytest.mark.parametrize(("seeds", "unlike"), [(2, 0.4), (3, 0.0), (3, 0.4)])
def test_front_probabilities_are_calibrated(seeds, unlike):
    stated, true = simulated(seeds, 0.3, unlike)
    for low, high in itertools.pairwise([0.0, 0.1, 0.35, 0.65, 0.9, 1.01]):
        chosen = (stated >= low) & (stated < high)
        # Two standard deviations of a proportion, at most.
        assert abs(stated[chosen].mean() - true[chosen].mean()) < 1 / np.sqrt(chosen.sum()), low


def test_low_probabilities_are_too_low_if_trials_differ_by_less_than_their_errors():
    stated, true = simulated(seeds=3, spread=1.0, together=-0.5)
    chosen = (stated >= 0.1) & (stated < 0.4)
    assert 1.2 * stated[chosen].mean() < true[chosen].mean() < 2 * stated[chosen].mean()
