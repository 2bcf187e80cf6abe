"""The front is trained again under seeds that it was not chosen by."""

import pandas as pd
import pytest

from study.analysis import StudyResults
from study.errors import UserError
from study.runs.create import confirmation_spec
from study.spec import Spec, parse_spec
from study.spec.resolve import resolve
from tests.messages import mentions
from tests.study.report.studies import trial_of, write_study
from tests.study.stores import results_of


def test_a_confirmation_has_the_front_and_the_seeds_that_come_next(tmp_path, tiny):
    results = StudyResults(
        write_study(tmp_path, tiny, [trial_of([4.0, 4.2], [0.2, 0.4]), trial_of([9.0, 9.1], [0, 0])])
    )
    spec = confirmation_spec(results, 3).spec
    assert spec.name == "tiny-confirmed"
    assert list(spec.seeds) == [2, 3, 4]
    assert len(spec.include) == spec.search.trials == 1
    assert Spec.model_validate_json(spec.model_dump_json(exclude_none=True)) == spec
    assert resolve(spec).spec == spec


def test_without_a_front_a_confirmation_fails(tmp_path, tiny):
    results = StudyResults(write_study(tmp_path, tiny, [trial_of([4.0, 4.2], [0.2, 0.4], "running")]))
    with pytest.raises(UserError, match=mentions("complete trial", "front")):
        confirmation_spec(results, 3)


def test_halving_follows_seed_0_and_refuses_others(tiny):
    tiny |= {"halving": {"reduction_factor": 2, "min_steps": 10}, "first_seed": 4}
    with pytest.raises(UserError, match=mentions("first_seed", 0, "halving", 4)):
        parse_spec(tiny, "spec")


@pytest.mark.slow
def test_fresh_seeds_give_other_values_of_the_same_configurations(cli_on_ray, finished_store, finished):
    outcome = cli_on_ray("resume", "tiny", "--confirm", 1, "--store", finished_store)
    assert outcome.status == 0, outcome.err
    again = results_of(finished_store, "tiny-confirmed")
    front, confirmed = finished.front(), again.results()
    assert confirmed["state"].tolist() == ["complete"] * len(front)
    assert set(again.reports()["seed"]) == {2}
    parameters = [name for name in front if name.startswith("config/")]
    # A parameter whose condition never holds is absent in one way or another.
    told = [table[parameters].dropna(axis=1, how="all") for table in (confirmed, front)]
    pd.testing.assert_frame_equal(*told, check_dtype=False)
    metric = "fidelity/log_mel_rmse_db"
    assert not (confirmed[metric] == front[metric]).any()
    assert (confirmed[metric] / front[metric]).between(0.8, 1.2).all()


def test_a_name_that_is_too_long_is_refused_before_anything_is_written(tmp_path, tiny):
    tiny["name"] = "x" * 60
    results = StudyResults(write_study(tmp_path, tiny, [trial_of([4.0, 4.2], [0.2, 0.4])]))
    with pytest.raises(UserError, match=mentions("--confirm", "name", 64)):
        confirmation_spec(results, 3)
