"""The searcher and the callback in a real run of Tune under a scheduler that stops trials early."""

import copy
import json

import pytest
from ray import tune
from ray.tune.schedulers import ASHAScheduler

from study.analysis import StudyResults
from study.environment import versions
from study.runs.lifecycle import create_study
from study.search.sampler import PastTrial
from study.search.tune import StudyCallback, StudySearcher
from study.spec import parse_spec
from study.spec.resolve import resolve
from study.spec.resolved_spec import ResolvedSpec
from study.storage import ObjectStore
from study.store import StudyStore
from study.store.writer import StudyWriter
from study.training.client import StudyTrial, end_trainers
from tests.messages import assert_mentions
from tests.study.commands import TINY
from tests.study.processes import use_ray_of_this_process

pytestmark = pytest.mark.slow

TRIALS, DIVERGING, BREAKING = 10, 2, 5
FIDELITY = "fidelity/log_mel_rmse_db"


class ScoredTrial(StudyTrial):
    """Gives the scheduler one number to compare; one trial breaks."""

    def step(self):
        report = super().step()
        if report["trial"] == BREAKING:
            raise ValueError("broke on purpose")
        return {**report, "score": sum(row[FIDELITY] for row in report.get("rows", []))}


@pytest.fixture(scope="module")
def spec():
    tiny = copy.deepcopy(TINY)
    tiny["train"]["reports"] = 3
    tiny["space"] = {"loss.private.gamma": {"log_uniform": [0.1, 1e300]}}
    tiny["include"] = [{"loss.private.gamma": gamma} for gamma in (0.1, 0.2, 1e300, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)]
    tiny["search"] = {"sampler": "random", "trials": TRIALS}
    return resolve(parse_spec(tiny, "test")).spec


@pytest.fixture(scope="module")
def ran(spec, tmp_path_factory, ray_of_process):
    """A study of ten trials, of which one was complete before and one was interrupted; and its searcher."""
    folder = tmp_path_factory.mktemp("tuning")
    store = StudyStore(ObjectStore(str(folder / "runs")), "tiny")
    create_study(store, ResolvedSpec(spec))
    writer = StudyWriter(store, TRIALS)
    done = PastTrial(0, "complete", dict(spec.include[0]), [13.0, 0.33], {})
    interrupted = PastTrial(1, "interrupted", dict(spec.include[1]), None, {})
    searcher = StudySearcher(spec, [done, interrupted], TRIALS, with_plain_vae=False, writer=writer)
    searcher.max_running, searcher.trainers = (lambda: 2), 2
    ended = {}

    def changed(number, state, error):
        if state != "running":
            ended[number] = (state, error)

    with use_ray_of_this_process():
        tune.Tuner(
            tune.with_resources(ScoredTrial, {"cpu": 1}),
            param_space={
                "store": store.objects.uri,
                "study": "tiny",
                "run": writer.run,
                "steps": 30,
                "versions": versions(),
            },
            tune_config=tune.TuneConfig(
                search_alg=searcher,
                num_samples=-1,
                reuse_actors=True,
                scheduler=ASHAScheduler(metric="score", mode="min", grace_period=1, reduction_factor=2, max_t=3),
            ),
            run_config=tune.RunConfig(
                storage_path=str(folder / "tune"),
                callbacks=[StudyCallback(searcher, writer, 30, changed, writer.check)],
                verbose=0,
            ),
        ).fit()
        end_trainers(store.objects.uri, "tiny")
    writer.finish()
    return StudyResults(store), searcher, ended


def test_trials_are_pruned_or_failed_and_only_final_values_reach_the_sampler(ran):
    results, searcher, ended = ran
    trials = results.trials().set_index("trial")["state"].to_dict()
    assert set(trials) == set(range(1, TRIALS))  # the one that was complete is not run again
    assert trials == {number: state for number, (state, _) in ended.items()}
    assert trials[DIVERGING] == trials[BREAKING] == "failed"
    assert_mentions(ended[DIVERGING][1], "diverged", "loss", "seed")
    assert "ValueError: broke on purpose" in ended[BREAKING][1]
    told = {trial.number: trial for trial in searcher._search.trials()}
    assert {number: trial.state.name for number, trial in told.items()} == {0: "COMPLETE"} | {
        number: {"complete": "COMPLETE", "pruned": "PRUNED", "failed": "FAIL"}[state]
        for number, state in trials.items()
    }
    pruned = {number for number, state in trials.items() if state == "pruned"}
    assert pruned
    assert all(told[number].values is None for number in pruned)
    assert all(results.trials().set_index("trial")["step"][list(pruned)] < 30)
    assert not set(results.front()["trial"]) & pruned


def test_interrupted_trials_continue_first_with_their_parameters(ran):
    results, searcher, _ = ran
    assert searcher.parameters[1] == {"loss.private.gamma": 0.2}
    assert next(iter(searcher.trials.values())) == 1
    assert results.results()["config/loss.private.gamma"].nunique() == TRIALS - 1


def test_every_trial_has_a_row_for_each_change_of_state_and_its_reports(ran):
    results, _, ended = ran
    rows = results.store.read("trials")
    assert (rows.groupby("trial").size() == 2).all()
    assert (rows.groupby("trial")["state"].first() == "running").all()
    assert all(isinstance(json.loads(text), dict) for text in rows["sampler"])
    complete = [number for number, (state, _) in ended.items() if state == "complete"]
    reports = results.reports()
    assert (reports[reports["trial"].isin(complete)].groupby("trial").size() == 3 * 2).all()


def test_both_rows_of_a_trial_have_the_trainer_that_trained_it(ran):
    results, searcher, _ = ran
    events = results.trial_events()
    assert (events.groupby("trial")["trainer"].nunique() == 1).all()
    assert events.groupby("trial")["trainer"].first().to_dict() == searcher._trainer_of
    assert set(events["trainer"]) == {0, 1}
