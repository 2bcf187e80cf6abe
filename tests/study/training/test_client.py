"""The driver follows trainers by their names. The actors here count calls, and can be blocked."""

import asyncio
import time

import pytest
import ray

from study.training.client import TrainerGroup, end_trainers
from study.training.nodes import NAMESPACE, register_study, registered_studies, study_id
from tests.study.processes import assert_no_actor_is_left, wait_until

pytestmark = pytest.mark.slow

STORE = "/store"


class Counter:
    def __init__(self):
        self._calls = 0
        self._unblocked = asyncio.Event()
        self._unblocked.set()

    async def block(self):
        self._unblocked.clear()

    async def unblock(self):
        self._unblocked.set()

    async def progress(self):
        await self._unblocked.wait()
        self._calls += 1
        return {"calls": self._calls}

    async def drain(self):
        await self._unblocked.wait()
        return "drained"

    async def end(self):
        ray.actor.exit_actor()


@pytest.fixture
def start(ray_of_process):
    """Start an actor with the name of a trainer."""
    started = []

    def start(name, run=1, store=STORE):
        actor_name = f"trainer/{study_id(store, 'tiny')}/{run}/{name}"
        started.append(ray.remote(num_cpus=0)(Counter).options(name=actor_name, namespace=NAMESPACE).remote())
        ray.get(started[-1].unblock.remote())
        return started[-1]

    yield start
    for actor in started:
        ray.kill(actor)
    started.clear()
    assert_no_actor_is_left()


def test_a_blocked_trainer_delays_no_other_and_its_last_progress_counts(start):
    blocked, _ = start("a"), start("b")
    trainers = TrainerGroup(STORE, "tiny", 1)
    wait_until(lambda: len(trainers.progress()) == 2)
    ray.get(blocked.block.remote())
    wait_until(lambda: [progress["calls"] > 20 for progress in trainers.progress()].count(True) == 1)
    began = time.monotonic()
    assert len(trainers.progress()) == 2
    assert trainers.call("drain", timeout_s=5) == ["drained"]
    assert time.monotonic() - began < 30
    ray.get(blocked.unblock.remote())
    wait_until(lambda: all(progress["calls"] > 20 for progress in trainers.progress()))
    assert trainers.ended == []


def test_the_last_progress_of_a_dead_trainer_is_kept_beside_that_of_its_successor(start):
    first = start("a")
    trainers = TrainerGroup(STORE, "tiny", 1)
    wait_until(lambda: trainers.progress() and trainers.progress()[0]["calls"] >= 3)
    ray.kill(first)
    wait_until(lambda: not trainers.progress())
    assert [progress["calls"] >= 3 for progress in trainers.ended] == [True]

    def has_started_again():
        try:
            start("a")
        except ValueError:  # the name of the dead actor is taken for a moment
            return False
        return True

    wait_until(has_started_again)
    wait_until(lambda: [progress["calls"] for progress in trainers.progress()] == [1])
    assert len(trainers.ended) == 1


def test_only_trainers_of_the_run_are_followed_and_those_of_other_runs_end(start):
    start("a", run=1)
    start("b", run=2)
    assert len(TrainerGroup(STORE, "tiny", 2).handles()) == 1
    end_trainers(STORE, "tiny", except_run=2)
    wait_until(lambda: not TrainerGroup(STORE, "tiny", 1).handles())
    assert len(TrainerGroup(STORE, "tiny", 2).handles()) == 1


def test_studies_of_the_same_name_in_two_stores_have_separate_trainers_and_registrations(start):
    start("a", store="/one")
    start("a", store="/two")  # the same node and device
    for store in ("/one", "/two"):
        assert len(TrainerGroup(store, "tiny", 1).handles()) == 1
    end_trainers("/one", "tiny")
    wait_until(lambda: not TrainerGroup("/one", "tiny", 1).handles())
    assert len(TrainerGroup("/two", "tiny", 1).handles()) == 1
    registrations = [register_study(store, "tiny") for store in ("/one", "/two")]
    assert set(registered_studies()) == {study_id("/one", "tiny"), study_id("/two", "tiny")}
    del registrations
