import copy
import math
import pickle

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from study.runs.lifecycle import create_study
from study.search.halving import HalvingScheduler, Rungs, rungs_so_far
from study.search.tune import StudySearcher
from study.spec import parse_spec
from study.spec.resolve import resolve
from study.spec.resolved_spec import ResolvedSpec
from study.storage import ObjectStore
from study.store import StudyStore
from study.store.writer import StudyWriter
from tests.study.commands import TINY

FIDELITY, SEPARATION = "fidelity/log_mel_rmse_db", "disentanglement/separation"
ONE = {FIDELITY: "min"}
TWO = {FIDELITY: "min", SEPARATION: "max"}


def climbed(values, reduction=3, objectives=TWO):
    """Which of the trials go on that come to a rung in this order with these values of the objectives."""
    rungs = Rungs([10], reduction, objectives)
    return [rungs.continues(trial, 10, dict(zip(objectives, row, strict=True))) for trial, row in enumerate(values)]


def dominated_by(values, point):
    """How many others are better in fidelity and separation, or as good in one of them."""
    return sum(a <= point[0] and b >= point[1] and (a, b) != tuple(point) for a, b in values)


def test_a_known_climb_with_one_objective():
    # The first trial continues; later ones if they are among the best third so far, rounded up.
    assert climbed([[5], [6], [4], [4.5], [7], [9], [1]], 3, ONE) == [True, False, True, True, False, False, True]


def test_a_known_climb_with_two_objectives():
    values = [(5, 0.5), (4, 0.6), (9, 0.9), (4.5, 0.55), (3, 0.1), (8, 0.3), (4.1, 0.7)]
    # 1 of 1; 1 of 2, which beats the other; 1 of 3, where the best in fidelity comes first; 2 of 4, where the extremes
    # of the front come first; 2 of 5; 2 of 6; 3 of 7, where the last is what lies between the extremes.
    assert climbed(values, 3, TWO) == [True, True, False, False, True, False, True]


def test_a_maximised_objective_is_compared_the_other_way_round():
    assert climbed([[0.5], [0.4], [0.6]], 2, {SEPARATION: "max"}) == [True, False, True]


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, None])
def test_values_that_are_not_finite_never_continue_and_never_stop_others(bad):
    assert climbed([(bad, 0.9), (5.0, 0.1), (1.0, bad), (4.0, 0.2)], 2, TWO) == [False, True, False, True]


def test_a_report_that_lacks_an_objective_loses():
    assert not Rungs([10], 2, TWO).continues(0, 10, {FIDELITY: 1.0})


def test_rungs_are_compared_each_for_itself():
    rungs = Rungs([10, 20], 2, ONE)
    assert rungs.continues(0, 10, {FIDELITY: 5.0})
    assert rungs.continues(1, 20, {FIDELITY: 9.0})
    assert not rungs.continues(0, 20, {FIDELITY: 9.5})


def test_a_repeated_report_gets_the_same_decision_and_counts_once():
    rungs = Rungs([10], 2, ONE)
    assert [rungs.continues(trial, 10, {FIDELITY: value}) for trial, value in enumerate([5.0, 6.0])] == [True, False]
    assert not rungs.continues(1, 10, {FIDELITY: 0.0})
    assert rungs.continues(0, 10, {FIDELITY: 99.0})
    assert rungs.continues(2, 10, {FIDELITY: 5.5})  # second of three, of which two go on


POINTS = st.lists(st.tuples(st.integers(0, 9).map(float), st.integers(0, 9).map(float)), min_size=1, max_size=30)


@settings(deadline=None)
@given(POINTS, st.integers(2, 4))
def test_a_trial_dominated_by_as_many_as_may_continue_is_stopped(points, reduction):
    for count, (point, goes_on) in enumerate(zip(points, climbed(points, reduction), strict=True), 1):
        so_far = points[:count]
        if dominated_by(so_far, point) >= math.ceil(count / reduction):
            assert not goes_on


@settings(deadline=None)
@given(POINTS, st.integers(2, 4))
def test_the_best_of_each_objective_continues_if_two_may_continue(points, reduction):
    for count, (point, goes_on) in enumerate(zip(points, climbed(points, reduction), strict=True), 1):
        others = points[: count - 1]
        is_alone_best = any(
            all((point[index] - other[index]) * sign > 0 for other in others) for index, sign in ((0, -1), (1, 1))
        )
        if is_alone_best and math.ceil(count / reduction) >= 2:
            assert goes_on


@settings(deadline=None)
@given(st.lists(st.integers(0, 50).map(float), min_size=1, max_size=40), st.integers(2, 5))
def test_one_objective_is_a_plain_best_k(values, reduction):
    for index, goes_on in enumerate(climbed([[value] for value in values], reduction, ONE)):
        room = math.ceil((index + 1) / reduction)
        # Among equal values, earlier trials rank first.
        before = sum(value <= values[index] for value in values[:index])
        assert goes_on == (before < room)


@settings(deadline=None)
@given(st.lists(st.tuples(st.floats(), st.floats()), min_size=1, max_size=30))
def test_a_finite_trial_always_continues_and_the_order_decides(points):
    verdicts = climbed(points)
    assert verdicts == climbed(points)
    finite = [index for index, point in enumerate(points) if np.isfinite(point).all()]
    assert not any(goes_on for index, goes_on in enumerate(verdicts) if index not in finite)
    if finite and finite[0] == 0:
        assert verdicts[0]


@pytest.fixture
def spec(tiny):
    return resolve(parse_spec({**tiny, "halving": {"reduction_factor": 2, "min_steps": 5}}, "test")).spec


def reports_of(rows):
    """Rows as the store gives them back: trial, seed, step, fidelity, separation."""
    return pd.DataFrame(rows, columns=["trial", "seed", "step", FIDELITY, SEPARATION])


def test_without_halving_no_rungs_are_rebuilt(tiny):
    assert rungs_so_far(resolve(parse_spec(tiny, "test")).spec, reports_of([])) is None


def test_a_new_study_has_empty_rungs(spec):
    rungs = rungs_so_far(spec, pd.DataFrame())
    assert rungs.steps == spec.rungs() == (5, 10, 20)
    assert rungs.continues(0, 5, {FIDELITY: 9.0, SEPARATION: 0.0})


def test_reports_of_older_code_that_lack_an_objective_are_not_at_the_rungs(spec):
    rungs = rungs_so_far(spec, reports_of([(0, 0, 5, 1.0, math.nan), (1, 0, 5, 2.0, math.nan)]))
    assert rungs.continues(2, 5, {FIDELITY: 9.0, SEPARATION: 0.0})  # as the first trial


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(
            st.integers(0, 8), st.integers(0, 1), st.sampled_from([5, 7, 10, 20, 30]), st.floats(0, 9), st.floats(0, 1)
        ),
        max_size=40,
    )
)
def test_rungs_rebuilt_from_the_store_are_those_that_were(rows):
    content = {**copy.deepcopy(TINY), "halving": {"reduction_factor": 2, "min_steps": 5}}
    spec = parse_spec(content, "test")
    before = Rungs(spec.rungs(), 2, spec.objectives)
    verdicts = {}
    for trial, seed, step, fidelity, separation in rows:
        if seed == 0 and step in before.steps:
            verdicts[trial, step] = before.continues(trial, step, {FIDELITY: fidelity, SEPARATION: separation})
    after = rungs_so_far(spec, reports_of(rows))
    assert all(after.continues(*key, {FIDELITY: math.nan}) == verdict for key, verdict in verdicts.items())
    for step in before.steps:  # both decide the same for a new trial
        newcomer = {FIDELITY: 4.5, SEPARATION: 0.5}
        assert after.continues(99, step, newcomer) == before.continues(99, step, newcomer)


def result(trial, step, fidelity, **more):
    rows = [{"seed": 0, "step": step, FIDELITY: fidelity, SEPARATION: 0.5}, {"seed": 1, "step": step, FIDELITY: 0.0}]
    return {"trial": trial, "step": step, "rows": rows, **more}


def test_the_scheduler_decides_only_about_seed_0_and_only_at_rungs(spec):
    scheduler = HalvingScheduler(rungs_so_far(spec, pd.DataFrame()))
    assert scheduler.set_search_properties(None, None)
    told = [
        scheduler.on_trial_result(None, None, one)
        for one in (
            result(0, 5, 2.0),
            {"trial": 1, "failed": "diverged"},
            {"trial": 1, "failed": "diverged", "step": 5},
            result(2, 7, 9.0),
            result(2, 5, 3.0),
            result(3, 5, 2.5),
            result(4, 5, 2.7),
            result(2, 30, 9.0),
        )
    ]
    # At 5 steps: first of one; second of two, stopped; second of three, on; third of four, stopped.
    assert told == ["CONTINUE"] * 4 + ["STOP", "CONTINUE", "STOP", "CONTINUE"]


def test_the_scheduler_survives_being_pickled_with_all_that_tune_was_given(spec):
    scheduler = HalvingScheduler(rungs_so_far(spec, pd.DataFrame()))
    assert isinstance(pickle.loads(pickle.dumps(scheduler)), HalvingScheduler)


def test_a_new_trial_is_trained_by_the_trainer_with_the_fewest_trials(spec, tmp_path):
    store = StudyStore(ObjectStore(str(tmp_path)), "tiny")
    create_study(store, ResolvedSpec(spec))
    searcher = StudySearcher(spec, [], 6, with_plain_vae=False, writer=StudyWriter(store, 6))
    searcher.trainers, searcher.max_running = 2, lambda: 4
    assert [searcher.suggest(name)["trainer"] for name in "abcd"] == [0, 1, 0, 1]
    for ended in "bd":
        searcher.on_trial_complete(ended)
    assert [searcher.suggest(name)["trainer"] for name in "ef"] == [1, 1]


def test_values_of_fewer_replicates_are_no_values(spec):
    searcher = StudySearcher(spec, [], 1, with_plain_vae=False, writer=None)
    rows = [
        {"seed": seed, "step": step, "metric_version": 1, FIDELITY: 2.0 * seed, SEPARATION: 0.5}
        for seed, step in ((0, 20), (1, 20), (0, 30), (1, 30))
    ]
    assert searcher.values({"rows": rows}) == [1.0, 0.5]
    assert searcher.values({"rows": rows[:1]}) is None
