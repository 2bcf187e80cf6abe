"""What a run finds of the trials before it."""

from datetime import UTC, datetime

import pytest

from study.analysis import StudyResults
from study.search.sampler import past_trials
from study.spec import parse_spec
from study.spec.resolve import resolve
from study.storage import ObjectStore
from study.store import StudyMetadata, StudyStore

FIDELITY = "fidelity/log_mel_rmse_db"
PARAMETERS = {"loss.private.gamma": 1.0, "latent.private": 4, "contrast.strategy": "none", "contrast.temperature": None}


@pytest.fixture
def known(tmp_path, tiny):
    """Writes trials, as (state, [(seed, step, value)]), to a store; gives them back as a search knows them."""
    resolved = resolve(parse_spec({**tiny, "objectives": {FIDELITY: "min"}}, "spec"))
    store = StudyStore(ObjectStore(str(tmp_path)), "tiny")
    plan = resolved.stack_plan(lanes=4).model_dump(mode="json")
    store.create(
        StudyMetadata(spec=resolved.spec, stack=plan, factors=resolved.factors, created=datetime.now(UTC), writer="1.0")
    )

    def write(*trials):
        reports = [
            {"trial": trial, "seed": seed, "step": step, "metric_version": 1, FIDELITY: value}
            for trial, (_, rows) in enumerate(trials)
            for seed, step, value in rows
        ]
        store.append("reports", 1, 1, reports)
        changes = [
            {
                "trial": trial,
                "state": state,
                "error": None,
                "step": 0,
                "sampler": "{}",
                **{f"config/{name}": value for name, value in PARAMETERS.items()},
            }
            for trial, (state, _) in enumerate(trials)
        ]
        store.append("trials", 1, 1, changes)
        return past_trials(StudyResults(store))

    return write


def test_a_complete_trial_has_the_mean_of_its_replicates_at_the_full_budget_and_its_parameters(known):
    (trial,) = known(("complete", [(0, 15, 9.0), (1, 15, 9.0), (0, 30, 2.0), (1, 30, 4.0)]))
    assert (trial.number, trial.state, trial.values) == (0, "complete", [3.0])
    assert trial.parameters == {name: value for name, value in PARAMETERS.items() if value is not None}
    assert isinstance(trial.parameters["latent.private"], int)


def test_a_trial_that_was_stopped_has_no_values_although_its_reports_do(known):
    pruned, interrupted = known(("pruned", [(0, 15, 1.0)]), ("running", [(0, 15, 1.0), (1, 15, 1.0)]))
    assert (pruned.state, pruned.values) == ("pruned", None)
    assert (interrupted.state, interrupted.values) == ("interrupted", None)


@pytest.mark.parametrize(
    "left",
    [
        [(0, 15, 1.0), (1, 15, 1.0), (0, 30, 2.0)],
        [(0, 30, 2.0)],
        [(0, 15, 1.0), (1, 15, 1.0)],
    ],
)
def test_a_complete_trial_whose_last_reports_are_lost_is_to_be_finished_again(known, left):
    complete, damaged = known(("complete", [(0, 30, 2.0), (1, 30, 4.0)]), ("complete", left))
    assert complete.values == [3.0]
    assert (damaged.state, damaged.values) == ("interrupted", None)
