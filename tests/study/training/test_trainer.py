"""The trainer without Ray: it trains in this thread, and trials call it in another one."""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

import study.training.evaluation as evaluation
import study.training.trainer as module
from marl.evaluation import INTERMEDIATE
from study.environment import versions
from study.errors import RunError
from study.training.trainer import Trainer
from tests.messages import assert_mentions
from tests.study.stores import new_store
from tests.study.training.in_process_lanes import CONTRASTIVE, PLAIN, kept_stacks

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", autouse=True)
def _stacks_are_kept():
    with kept_stacks():
        yield


class _NoThread:
    def __init__(self, **_):
        pass

    def start(self):
        pass


@pytest.fixture
def halving(tiny):
    """Rungs at 5 and 10 steps, other reports at 6, 12 and 18; three seeds on one lane."""
    return {
        **tiny,
        "replicates": 3,
        "halving": {"reduction_factor": 2, "min_steps": 5},
        "train": {"steps": 18, "batch_pairs": 16, "reports": 3},
        "resources": {"lanes": 1},
    }


@pytest.fixture
def ask(tmp_path, monkeypatch):
    """Run a coroutine with a new trainer of a spec, drain the trainer, and return the result."""
    monkeypatch.setattr(module.os, "_exit", lambda status: None)
    monkeypatch.setattr(module, "_POLL_S", 200.0)
    monkeypatch.setattr(evaluation, "FINAL", INTERMEDIATE)  # without probes, which take longer than training

    def run_calls(content, talk, driver_versions=None):
        if not (tmp_path / "tiny").exists():
            new_store(tmp_path, content)
        # Recording a step works in only one thread of a process, so this thread trains.
        with monkeypatch.context() as here:
            here.setattr(module.threading, "Thread", _NoThread)
            trainer = Trainer(str(tmp_path), "tiny", "cpu", driver_versions or versions())

        async def talk_and_drain():
            try:
                return await talk(trainer)
            finally:
                await trainer.drain()

        with ThreadPoolExecutor(1) as event_loop_thread:
            outcome = event_loop_thread.submit(asyncio.run, talk_and_drain())
            trainer._run()
            return outcome.result()

    return run_calls


async def climb(trainer, trial=0, parameters=PLAIN, after=0, until=18):
    """Return the results of a trial up to a step."""
    results = []
    while after < until:
        results.append(await trainer.next_report(trial, parameters, after))
        after = results[-1]["step"]
    return results


def keys(result):
    return [(row["seed"], row["step"]) for row in result["rows"]]


def steps(results):
    return [result["step"] for result in results]


async def trained(trainer):
    """Return the steps of all replicates once all have finished."""
    while not (progress := await trainer.progress())["ready"] or progress["replicates"]:
        await asyncio.sleep(0.01)
    return progress["trained_steps"]


def test_without_halving_every_result_has_all_seeds_at_its_own_step(ask, tiny):
    results = ask(tiny, lambda trainer: climb(trainer, until=30))
    assert [(result["step"], keys(result)) for result in results] == [
        (15, [(0, 15), (1, 15)]),
        (30, [(0, 30), (1, 30)]),
    ]


def test_seed_0_trains_alone_up_to_the_last_rung_and_the_others_after_that(ask, halving):
    async def talk(trainer):
        return await climb(trainer), await trained(trainer)

    results, steps_trained = ask(halving, talk)
    assert [(result["step"], keys(result)) for result in results] == [
        (5, [(0, 5)]),
        (6, [(0, 6)]),
        (10, [(0, 10)]),
        # The first result of all seeds includes the earlier reports of seeds 1 and 2.
        (12, [(1, 5), (2, 5), (1, 6), (2, 6), (1, 10), (2, 10), (0, 12), (1, 12), (2, 12)]),
        (18, [(0, 18), (1, 18), (2, 18)]),
    ]
    assert steps_trained == 3 * 18


def test_seed_0_alone_trains_on_until_the_decision_at_the_last_rung(ask, halving):
    async def talk(trainer):
        await climb(trainer, until=10)
        return await trained(trainer)

    assert ask(halving, talk) == 18


def test_with_one_lane_for_several_trials_promising_ones_finish_first(ask, halving):
    trained_by_then = []

    async def train(trainer, trial, parameters):
        results = await climb(trainer, trial, parameters)
        trained_by_then.append((await trainer.progress())["trained_steps"])
        await trainer.detach(trial)
        return results

    async def talk(trainer):
        await climb(trainer, 0, PLAIN, until=5)
        others = [train(trainer, trial, CONTRASTIVE) for trial in (1, 2)]
        return await asyncio.gather(train(trainer, 0, PLAIN), *others)

    for results in ask(halving, talk):
        assert steps(results) == [5, 6, 10, 12, 18]
        assert len(results[-1]["rows"]) == 3
    # The first trial's other seeds did not wait for seed 0 of both other trials, which was queued before them.
    assert trained_by_then[0] < (3 + 2) * 18


def test_a_trial_that_is_stopped_at_a_rung_frees_its_lane(ask, halving):
    async def talk(trainer):
        await climb(trainer, trial=0, until=5)
        await trainer.detach(0)
        results = await climb(trainer, trial=1)
        return results, await trainer.progress()

    results, progress = ask(halving, talk)
    assert results[-1]["step"] == 18
    assert not progress["replicates"]
    assert progress["trained_steps"] < 4 * 18


def test_a_trial_that_restarts_receives_all_reports_again(ask, halving):
    async def talk(trainer):
        await climb(trainer, until=12)  # the client dies without detaching
        return await climb(trainer)

    results = ask(halving, talk)
    assert steps(results) == [5, 6, 10, 12, 18]
    assert {key for result in results for key in keys(result)} == {
        (seed, step) for seed in (0, 1, 2) for step in (5, 6, 10, 12, 18)
    }


def test_a_trial_that_was_taken_for_lost_can_continue(ask, halving, monkeypatch):
    async def talk(trainer):
        await climb(trainer, until=10)
        monkeypatch.setattr(module, "_TRIAL_TIMEOUT_S", -1.0)
        await trained(trainer)
        monkeypatch.setattr(module, "_TRIAL_TIMEOUT_S", 60.0)
        return await climb(trainer, after=10)

    results = ask(halving, talk)
    assert steps(results) == [12, 18]
    assert keys(results[-1]) == [(0, 18), (1, 18), (2, 18)]
    assert {(1, 5), (2, 10)} < set(keys(results[0]))


def test_after_an_interruption_every_seed_resumes_with_the_same_results(ask, halving, tmp_path):
    def rows(results):
        return {(row["seed"], row["step"]): row for result in results for row in result["rows"]}

    expected = rows(ask(halving, climb))
    (tmp_path / "tiny").rename(tmp_path / "undisturbed")
    ask(halving, lambda trainer: climb(trainer, until=12))

    async def talk(trainer):
        results = await climb(trainer)
        return results, (await trainer.progress())["trained_steps"]

    results, trained = ask(halving, talk)
    assert rows(results) == expected
    assert trained <= 3 * 6


def test_a_trial_that_diverges_before_the_last_rung_fails(ask, halving):
    halving["space"]["optimiser.learning_rate"] = {"choice": [0.003, 1e12]}
    parameters = {**PLAIN, "optimiser.learning_rate": 1e12}
    result = ask(halving, lambda trainer: trainer.next_report(0, parameters, 0))
    assert_mentions(result["failed"], "diverged", "loss", "seed 0", "step")


def test_other_package_versions_than_those_of_the_driver_are_refused_and_named(ask, tiny):
    answer = ask(tiny, lambda trainer: trainer.next_report(0, PLAIN, 0), {**versions(), "torch": "1.13.0"})
    assert_mentions(answer["refused"], f"torch {versions()['torch']}", "driver", "1.13.0", "image")


def test_a_suspected_trial_trains_in_isolation_until_its_next_report(ask, tiny):
    async def talk(trainer):
        notice = await trainer.next_report(0, PLAIN, 0, is_suspected=True)
        other = asyncio.create_task(climb(trainer, 1, CONTRASTIVE, until=30))
        await asyncio.sleep(0)
        before = (await trainer.progress())["trained_steps"] if (await trainer.progress())["ready"] else 0
        first = await trainer.next_report(0, PLAIN, 0, is_suspected=True, is_isolation_known=True)
        alone = (await trainer.progress())["trained_steps"]
        await trainer.detach(0)
        return notice, before, first, alone, await other

    notice, before, first, alone, others = ask(tiny, talk)
    assert notice == {"isolated": True}
    assert before == 0
    assert first["step"] == 15
    assert alone <= 2 * 30  # both seeds of this trial, and no step of the other
    assert steps(others) == [15, 30]


@pytest.mark.parametrize("ends", [False, True])
def test_isolation_lasts_until_the_client_has_the_report_so_a_later_crash_is_not_attributed_to_it(ask, tiny, ends):
    async def talk(trainer):
        await trainer.next_report(0, PLAIN, 0, is_suspected=True)
        other = asyncio.create_task(trainer.next_report(1, CONTRASTIVE, 0, is_suspected=True))
        report = await trainer.next_report(0, PLAIN, 15 if ends else 0, is_suspected=True, is_isolation_known=True)
        for _ in range(3):  # the training thread passes its loop between two jobs
            await trainer._run_job(lambda: None)
        early = other.done()
        await (trainer.detach(0) if ends else climb(trainer, after=15))
        return report, early, await other

    report, early, notice = ask(tiny, talk)
    assert report["step"] == (30 if ends else 15)
    assert not early
    assert notice == {"isolated": True}


def test_progress_is_current_when_an_evaluation_returns(ask, tiny):
    async def talk(trainer):
        is_checked = threading.Event()
        evaluation = asyncio.create_task(trainer.evaluate([], ["fidelity"], "validation"))
        await asyncio.sleep(0)
        trainer._commands.put(lambda: is_checked.wait(10))  # keeps the training thread busy during the next call
        await evaluation
        progress = await trainer.progress()
        is_checked.set()
        return progress

    progress = ask(tiny, talk)
    assert progress["ready"]
    assert progress["trained_steps"] == 0
    assert set(progress["seconds"]) == {"training", "evaluation", "idle"}


def test_a_trial_is_told_that_its_trainer_is_drained_so_that_it_starts_no_other(ask, tiny):
    async def talk(trainer):
        await trainer.drain()
        return await trainer.next_report(0, PLAIN, 0)

    assert ask(tiny, talk) == {"drained": "the run is stopped"}


@pytest.mark.parametrize("refused", [False, True])
def test_drain_returns_and_a_drained_trainer_evaluates_nothing(ask, tiny, refused):
    async def talk(trainer):
        await trainer.drain()
        await trainer.drain()
        with pytest.raises(RunError):
            await trainer.evaluate([], ["fidelity"], "validation")

    ask(tiny, talk, {**versions(), "torch": "1.13.0"} if refused else None)
