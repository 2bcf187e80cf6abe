"""A study whose command is killed by `kill -9`, at chosen writes or at random times, loses nothing and repeats nothing.

`test_deaths_at_writes.py` has a death at each kind of write, in one process.
"""

import random
import time
from itertools import cycle

import pytest
import yaml

from tests.study.commands import TINY, Running, run_on_ray
from tests.study.processes import environment
from tests.study.stores import assert_same_models, assert_same_values, completed_files, results_of
from tests.study.writes import WRITES

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

# In a study of seconds, what is done every minute is done every half second.
HURRY = {
    "study.training.lanes": {"_CHECKPOINT_EVERY_S": 0.5},
    "study.store.writer": {"_HEARTBEAT_EVERY_S": 0.5, "_FLUSH_EVERY_S": 0.5},
}
# Trials enough for many deaths: some are complete after most, and some are left for the last.
LONG = {
    **TINY,
    "train": {"steps": 90, "batch_pairs": 16, "reports": 3},
    "search": {"sampler": "qmc", "trials": 20},
}
SEED = 20261121


@pytest.fixture
def spec_path(tmp_path):
    return tmp_path / "tiny.yaml"


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, ray_of_process):
    """The long study, which nothing disturbed."""
    folder = tmp_path_factory.mktemp("undisturbed")
    (folder / "tiny.yaml").write_text(yaml.safe_dump(LONG))
    outcome = run_on_ray("run", folder / "tiny.yaml", "--store", folder / "runs")
    assert outcome.status == 0, outcome.err
    return results_of(folder / "runs")


def go_on(store, spec_path):
    """`resume`, or `run` while there is nothing to resume."""
    words = ("resume", "tiny") if (store / "tiny" / "study.json").exists() else ("run", spec_path)
    return (*words, "--store", store)


def die_at(kind, when, store, spec_path):
    """Run the study until a write kills its command; trials that were complete stay as they are."""
    method, pattern, count = WRITES[kind]
    crash = {"when": when, "method": method, "pattern": pattern, "count": count}
    before = completed_files(store)
    with Running(*go_on(store, spec_path), env=environment(HURRY, crash, without_plain_vae=True)) as running:
        status = running.wait(timeout_s=120)
    assert status == -9, f"{when} {kind}: {''.join(running.lines)}"
    after = completed_files(store)
    assert {name: after.get(name) for name in before} == before, f"{when} {kind}"


def test_killed_at_three_writes_a_study_ends_with_the_values_of_an_undisturbed_one(
    cli_on_ray, finished, spec_path, tmp_path
):
    """When it begins, while it trains, and when a trial has come to its end."""
    spec_path.write_text(yaml.safe_dump(TINY))
    store = tmp_path / "disturbed"
    die_at("a run's record", "before", store, spec_path)
    die_at("an optimiser's state", "after", store, spec_path)
    die_at("a checkpoint's record", "before", store, spec_path)
    outcome = cli_on_ray(*go_on(store, spec_path), with_plain_vae=True)
    assert outcome.status == 0, outcome.err
    assert list(results_of(store).runs) == [1, 2, 3]
    assert_same_values(results_of(store), finished)
    assert_same_models(results_of(store), finished)


def end(cli_on_ray, store, spec_path, undisturbed):
    outcome = cli_on_ray(*go_on(store, spec_path))
    assert outcome.status == 0, outcome.err
    results = results_of(store).results()
    assert list(results["trial"]) == list(range(LONG["search"]["trials"]))
    assert not results[[column for column in results if column.startswith("config/")]].duplicated().any()
    assert_same_values(results_of(store), undisturbed)
    assert_same_models(results_of(store), undisturbed)


@pytest.mark.nightly
@pytest.mark.parametrize("turns", [("before", "after"), ("after", "before")], ids=lambda turns: turns[0])
def test_killed_at_each_kind_of_write_in_turn(turns, cli_on_ray, tmp_path, spec_path, undisturbed):
    spec_path.write_text(yaml.safe_dump(LONG))
    store = tmp_path / "disturbed"
    for kind, when in zip(WRITES, cycle(turns), strict=False):
        die_at(kind, when, store, spec_path)
    end(cli_on_ray, store, spec_path, undisturbed)


@pytest.mark.nightly
def test_killed_at_random_times(cli_on_ray, tmp_path, spec_path, undisturbed):
    """Half of them in the seconds in which a run begins, half while it trains."""
    spec_path.write_text(yaml.safe_dump(LONG))
    store = tmp_path / "disturbed"
    times = random.Random(SEED)
    for death in range(20):
        before = completed_files(store)
        with Running(*go_on(store, spec_path), env=environment(HURRY, without_plain_vae=True)) as running:
            if death % 2:
                running.wait_for_line(" started: ")
            time.sleep(times.uniform(0, 2) if death % 2 else times.uniform(0.5, 10))
            running.kill()
        after = completed_files(store)
        assert {name: after.get(name) for name in before} == before
    end(cli_on_ray, store, spec_path, undisturbed)
