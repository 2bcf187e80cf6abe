"""A study whose command is killed at random times loses nothing and does nothing twice.

Half of the deaths are in the seconds in which a launch begins, half while it trains. `make cluster-test` has more.
"""

import random
import time

import pytest

from tests.study.commands import Running
from tests.study.crashes.mortal import assert_is_as_if_nothing_had_happened, complete_trials, environment, go_on

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

SEED = 20261121


@pytest.mark.parametrize("deaths", [8, pytest.param(20, marks=pytest.mark.fault)])
def test_killed_at_random_times(deaths, tmp_path, spec_path, undisturbed):
    store = tmp_path / "runs"
    times = random.Random(SEED)
    for death in range(deaths):
        before = complete_trials(store)
        with Running(*go_on(store, spec_path), env=environment()) as running:
            if death % 2:
                running.wait_for_line("training")
            time.sleep(times.uniform(0, 2) if death % 2 else times.uniform(0.5, 10))
            running.kill()
        after = complete_trials(store)
        assert {name: after.get(name) for name in before} == before
    assert_is_as_if_nothing_had_happened(store, spec_path, undisturbed)
