"""The driver follows trainers by their names. Those here only count how often they were asked, and may be held up."""

import asyncio
import time

import pytest
import ray

from study.runs.ray_cluster import LocalRay
from study.training.client import NAMESPACE, Trainers, end_trainers

pytestmark = pytest.mark.slow


class Counting:
    def __init__(self):
        self._asked = 0
        self._goes_on = asyncio.Event()
        self._goes_on.set()

    async def hold(self):
        self._goes_on.clear()

    async def go_on(self):
        self._goes_on.set()

    async def progress(self):
        await self._goes_on.wait()
        self._asked += 1
        return {"asked": self._asked}

    async def drain(self):
        await self._goes_on.wait()
        return "drained"

    async def end(self):
        ray.actor.exit_actor()


@pytest.fixture(scope="module", autouse=True)
def local_ray():
    with LocalRay():
        yield


@pytest.fixture
def start():
    """Starts one by its name, as a trial would."""
    started = []

    def start(name, run=1):
        actor = ray.remote(num_cpus=0)(Counting).options(name=f"trainer/tiny/{run}/{name}", namespace=NAMESPACE)
        started.append(actor.remote())
        ray.get(started[-1].hold.remote())
        ray.get(started[-1].go_on.remote())
        return started[-1]

    yield start
    for actor in started:
        ray.kill(actor)


def wait_until(is_so, within_s=20.0):
    deadline = time.monotonic() + within_s
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_one_that_does_not_answer_holds_nobody_up_and_its_last_answer_counts(start):
    held, _ = start("a"), start("b")
    trainers = Trainers("tiny", 1)
    wait_until(lambda: len(trainers.progress()) == 2)
    ray.get(held.hold.remote())
    wait_until(lambda: [one["asked"] > 20 for one in trainers.progress()].count(True) == 1)
    began = time.monotonic()
    assert len(trainers.progress()) == 2
    assert trainers.ask("drain", within_s=0.5) == ["drained"]
    assert time.monotonic() - began < 5
    ray.get(held.go_on.remote())
    wait_until(lambda: all(one["asked"] > 20 for one in trainers.progress()))
    assert trainers.gone == []


def test_one_that_dies_leaves_its_last_words_and_its_successor_is_followed(start):
    first = start("a")
    trainers = Trainers("tiny", 1)
    wait_until(lambda: trainers.progress() and trainers.progress()[0]["asked"] >= 3)
    ray.kill(first)
    wait_until(lambda: not trainers.progress())
    assert [one["asked"] >= 3 for one in trainers.gone] == [True]

    def has_started_again():
        try:
            start("a")
        except ValueError:  # its predecessor's name is known for a moment
            return False
        return True

    wait_until(has_started_again)
    wait_until(lambda: [one["asked"] for one in trainers.progress()] == [1])
    assert len(trainers.gone) == 1


def test_only_those_of_the_run_are_followed_and_those_of_others_end(start):
    start("a", run=1)
    start("b", run=2)
    assert len(Trainers("tiny", 2).there()) == 1
    end_trainers("tiny", but_those_of=2)
    wait_until(lambda: not Trainers("tiny", 1).there())
    assert len(Trainers("tiny", 2).there()) == 1
