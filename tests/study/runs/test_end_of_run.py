"""How a run ends after each kind of error; in this process, without Ray and without training."""

import contextlib
import io
import math
import signal
import subprocess
import sys
import threading
from types import SimpleNamespace

import pytest
from rich.console import Console

from study.analysis import StudyResults
from study.analysis.post_training import missing_post_training, unavailable_post_training
from study.errors import Interrupted, RunError, UserError, command_line
from study.runs import driver
from study.runs.post_training import TrainerLostError
from study.runs.stop_signals import StopSignals, handle_signals
from study.store import StudyStore
from study.training import client
from tests.messages import assert_mentions, mentions
from tests.study.report.studies import trial_of, write_study
from tests.study.stores import new_store

DCI = "disentanglement/dci"


@pytest.fixture
def ended(monkeypatch):
    """The calls that ended trainers: the run that each spared."""
    calls = []
    monkeypatch.setattr(client, "end_trainers", lambda uri, study, except_run=None: calls.append(except_run))
    trainer = SimpleNamespace(update_baselines=SimpleNamespace(remote=lambda: None))
    monkeypatch.setattr(client.TrainerGroup, "handles", lambda group: [trainer])
    monkeypatch.setattr(driver, "results_of", lambda calls, *_: iter(()))
    monkeypatch.setattr(client.TrainerGroup, "progress", lambda group: [])
    monkeypatch.setattr(driver, "ray_session", lambda address: contextlib.nullcontext())
    resources = SimpleNamespace(max_trials=lambda: 1, device="cpu", trainers=1, description="one trainer")
    monkeypatch.setattr(driver, "ResourcePlan", lambda *_, **__: resources)
    monkeypatch.setattr(driver, "_RETRY_PAUSE_S", 0.0)
    monkeypatch.setattr(driver._Driver, "_train", lambda self, scheduler: None)
    monkeypatch.setattr(StudyResults, "has_plain_vae", True)
    return calls


@pytest.fixture
def store(tmp_path, tiny):
    return new_store(tmp_path, tiny)


def run(store, target=1):
    driver.run_study(store, target, Console(file=io.StringIO()))


def fail_training(monkeypatch, error):
    def train(self, scheduler):
        raise error

    monkeypatch.setattr(driver._Driver, "_train", train)


def fail_writing(monkeypatch):
    def append(*_):
        raise UserError("no space left")

    monkeypatch.setattr(StudyStore, "append", append)


def test_if_ray_does_not_start_the_lease_is_released(store, ended, monkeypatch):
    @contextlib.contextmanager
    def session(address):
        raise RunError("Ray could not be started")
        yield

    monkeypatch.setattr(driver, "ray_session", session)
    with pytest.raises(RunError, match="Ray could not be started"):
        run(store)
    assert store.run(1)["finished"]


def test_if_the_past_of_the_study_cannot_be_read_the_lease_is_released(store, ended, monkeypatch):
    def broken(results):
        raise UserError("unreadable")

    monkeypatch.setattr(driver, "past_trials", broken)
    with pytest.raises(UserError, match="unreadable"):
        run(store)
    assert store.run(1)["finished"]


def test_if_the_last_rows_cannot_be_written_trainers_are_ended_and_the_error_is_raised(store, ended, monkeypatch):
    fail_writing(monkeypatch)
    with pytest.raises(RunError, match="no space left"):
        run(store)
    assert ended == [1, None]


def test_the_first_of_two_errors_is_raised(store, ended, monkeypatch):
    fail_training(monkeypatch, ValueError("training failed"))
    fail_writing(monkeypatch)
    with pytest.raises(ValueError, match="training failed"):
        run(store)
    assert ended == [1, None]


def test_trainers_that_cannot_be_ended_hide_no_error_and_keep_no_lease(store, ended, monkeypatch):
    def broken(uri, study, except_run=None):
        if except_run is None:
            raise ConnectionError("the head node is lost")

    monkeypatch.setattr(client, "end_trainers", broken)
    fail_training(monkeypatch, ValueError("training failed"))
    with pytest.raises(ValueError, match="training failed"):
        run(store)
    assert store.run(1)["finished"]


def test_metrics_that_cannot_be_computed_are_tried_once(tmp_path, tiny, ended, monkeypatch, cli):
    tiny["post_training"] = ["dci"]
    trials = [trial_of([4.0, 4.1], [0.2, 0.2]), trial_of([9.0, 9.1], [0.6, 0.6])]
    store = write_study(tmp_path, tiny, trials)
    calls = []

    def evaluate(trainers, replicates, metric_groups, split, tick):
        """Trial 1 has no weights, and the metric of trial 0 is not finite under seed 0."""
        calls.append(replicates)
        for seed, value in ((0, math.nan), (1, 0.5)):
            yield {"trial": 0, "seed": seed, "step": 30, "metric_version": 1, DCI: value}
        if len(calls) == 1:
            raise TrainerLostError("a trainer was lost")

    monkeypatch.setattr(driver, "evaluate_stored", evaluate)
    run(store, target=2)
    assert calls == [[(0, 0), (0, 1), (1, 0), (1, 1)], [(0, 0), (1, 0), (1, 1)]]
    results = StudyResults(store)
    assert results.results().set_index("trial").loc[0, DCI] == 0.5
    assert missing_post_training(results) == {}
    assert unavailable_post_training(results) == {("dci", "not finite"): 1, ("dci", "no weights in the store"): 2}
    resumed = cli("resume", "tiny", "--store", tmp_path)
    assert (resumed.status, len(calls)) == (0, 2)
    assert_mentions(resumed.err, "skipped", "dci of 1 models (not finite)", "dci of 2 models (no weights", "rescore")
    # Measured again by `rescore`, a metric is available.
    store.append("reports", 2, 999, [{"trial": 0, "seed": 0, "step": 30, "metric_version": 1, DCI: 0.5}])
    assert unavailable_post_training(StudyResults(store)) == {("dci", "no weights in the store"): 2}


def test_a_run_that_records_no_such_metrics_properly_is_unreadable(store, ended):
    run(store)
    store.write_run(2, store.run(1) | {"unavailable": [{"group": "dci", "trial": "x", "seed": 0, "reason": ""}]})
    with pytest.warns(match=mentions("runs/0002.json")):
        assert set(store.runs()) == {1}


def test_a_signal_handler_only_sets_a_flag_and_raises_at_the_second_signal(capfd):
    """Printing or logging could interrupt a write to the same stream, or wait for a lock that the main thread holds."""
    stop = StopSignals()  # without a display, a writer or a log
    stop.is_graceful = True
    stop(signal.SIGINT, None)
    assert stop.requested
    with pytest.raises(Interrupted):
        stop(signal.SIGINT, None)
    assert capfd.readouterr() == ("", "")


# A process that ignores exceptions, as one does that waits for a store that fails.
_WAITS_FOREVER = """
import os, signal, time
from study.errors import command_line
from study.runs.stop_signals import StopSignals, handle_signals
with command_line():
    stop = StopSignals("stopped at once; resume it")
stop.is_graceful = True
with handle_signals(stop, signal.SIGINT):
    print("waits", flush=True)
    while True:
        try:
            time.sleep(60)
        except BaseException:
            pass
"""


def test_a_second_ctrl_c_does_not_end_the_process_of_a_notebook(monkeypatch):
    ended = []
    monkeypatch.setattr("study.runs.stop_signals._thread.start_new_thread", lambda *call: ended.append(call))
    for context, count in ((contextlib.nullcontext, 0), (command_line, 1)):
        with context():
            stop = StopSignals()
        for _ in range(2):
            with pytest.raises(Interrupted):
                stop(signal.SIGINT, None)
        assert len(ended) == count


def test_signals_are_left_alone_outside_of_the_main_thread():
    before, seen = signal.getsignal(signal.SIGINT), []

    def run_in_thread():
        with handle_signals(StopSignals(), signal.SIGINT):
            seen.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=run_in_thread)
    thread.start()
    thread.join()
    assert seen == [before]


@pytest.mark.slow
def test_a_second_ctrl_c_ends_the_process_though_the_store_fails():
    command = [sys.executable, "-c", _WAITS_FOREVER]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"waits\n"
        process.send_signal(signal.SIGINT)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(timeout=0.5)
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=30) == 130
        assert process.stderr.read() == b"stopped at once; resume it\n"
