"""A process of a study dies at each kind of write, before or after it; the next run ends as if it had not.

The study runs in this process, without Ray. `test_kills.py` has deaths of real processes.
"""

import pytest

from study.spec import parse_spec
from study.spec.resolve import resolve
from study.storage import ObjectStore
from tests.study.in_process_study import Died, MortalStore, run_study, simulated_processes
from tests.study.stores import assert_same_models, assert_same_values, completed_files, results_of
from tests.study.training.in_process_lanes import kept_stacks
from tests.study.writes import WRITES

pytestmark = pytest.mark.slow

STEPS, TRIALS = 6, 5
# The third reports complete two trials, which the second rows of trials say.
AT_CALL = {"reports": 3, "trials that end": 2}


@pytest.fixture(autouse=True)
def _processes():
    with simulated_processes():
        yield


@pytest.fixture(scope="module", autouse=True)
def _stacks_are_kept():
    with kept_stacks():
        yield


@pytest.fixture(scope="module")
def resolved():
    content = {
        "name": "tiny",
        "data": {"kind": "syntone", "frequencies": 40, "amplitudes": 4},
        "model": {"width": 16, "embedding": 16, "hidden": 32},
        "train": {"steps": STEPS, "batch_pairs": 16, "reports": 3},
        "replicates": 2,
        "space": {"loss.private.gamma": {"log_uniform": [0.1, 10]}, "latent.private": {"choice": [2, 4]}},
        "objectives": {"fidelity/log_mel_rmse_db": "min", "disentanglement/linear_separation": "max"},
        "search": {"sampler": "qmc", "trials": TRIALS},
        "post_training": [],
        "resources": {"lanes": 4, "trainers": 1},
    }
    return resolve(parse_spec(content, "spec"))


@pytest.fixture(scope="module")
def undisturbed(resolved, tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed")
    with simulated_processes():
        run_study(ObjectStore(str(folder)), resolved)
    return results_of(folder)


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("kind", WRITES)
def test_a_study_that_dies_at_a_write_ends_with_the_values_of_an_undisturbed_one(
    kind, when, resolved, undisturbed, tmp_path
):
    method, pattern, call = WRITES[kind]
    mortal = MortalStore(str(tmp_path), (method, pattern, AT_CALL.get(kind, call)), when)
    with pytest.raises(Died):
        run_study(mortal, resolved)
    assert mortal.is_dead
    for (trial, seed), step in mortal.checkpoints.items():
        assert results_of(tmp_path).store.latest_checkpoint(trial, seed).step >= step
    before = completed_files(tmp_path)
    run_study(ObjectStore(str(tmp_path)), resolved)
    after = completed_files(tmp_path)
    assert {name: after.get(name) for name in before} == before
    results = results_of(tmp_path)
    assert list(results.trials()["state"]) == ["complete"] * TRIALS
    assert_same_values(results, undisturbed)
    assert_same_models(results, undisturbed)
