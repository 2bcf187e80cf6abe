"""Commands for a study that runs elsewhere, from its store alone."""

import json
import threading
import time
from datetime import datetime, timedelta

import pytest

import study.store.writer as module
from study.cli import manage
from study.store.writer import StudyWriter
from tests.messages import assert_mentions
from tests.study.stores import new_store, run_elsewhere


@pytest.fixture
def store(tmp_path, tiny):
    return new_store(tmp_path / "runs", tiny, tiny["name"])


@pytest.fixture(autouse=True)
def _hurry(monkeypatch):
    monkeypatch.setattr(module, "_FLUSH_EVERY_S", 0.2)
    monkeypatch.setattr(module, "_HEARTBEAT_EVERY_S", 0.2)
    monkeypatch.setattr(manage, "_POLL_S", 0.1)


def driver(writer, until_stopped):
    """Says something until it is asked to stop, or a while has passed."""
    deadline = time.monotonic() + (60.0 if until_stopped else 2.0)
    number = 0
    while time.monotonic() < deadline and not writer.stop_requested:
        writer.log(f"line {number}")
        writer.check()
        number += 1
        time.sleep(0.1)
    writer.log("the last line")
    writer.finish()


def test_logs_are_the_lines_of_all_runs_with_their_time(cli, store):
    for word in ("one", "two"):
        writer = StudyWriter(store, trials=1)
        writer.log(f"run {word}\x1b[2J <b>")
        writer.finish()
    outcome = cli("logs", "tiny", "--store", store.objects.uri)
    assert outcome.status == 0
    first, second = outcome.out.splitlines()
    year = store.runs()[1]["started"][:4]
    assert first.startswith(year)
    assert first.endswith("  run one\N{REPLACEMENT CHARACTER}[2J <b>")
    assert "run two" in second


def test_logs_are_printed_as_json_lines(cli, store):
    writer = StudyWriter(store, trials=1)
    writer.log("first … \x1b")
    writer.log("second")
    writer.finish()
    rows = [json.loads(line) for line in cli("logs", "tiny", "--store", store.objects.uri, "--json").out.splitlines()]
    assert [row["line"] for row in rows] == ["first … \x1b", "second"]
    assert datetime.fromisoformat(rows[0]["time"]).utcoffset() == timedelta(0)


@pytest.mark.slow
def test_logs_that_are_followed_end_with_the_study_and_miss_no_line(cli, store):
    running = threading.Thread(target=driver, args=(StudyWriter(store, trials=1), False))
    running.start()
    outcome = cli("logs", "tiny", "--store", store.objects.uri, "--follow")
    running.join()
    lines = [line.partition("  ")[2] for line in outcome.out.splitlines()]
    assert lines == [*(f"line {number}" for number in range(len(lines) - 1)), "the last line"]
    assert len(lines) > 5


def test_stop_ends_the_run_and_waits_for_it(cli, store):
    running = threading.Thread(target=driver, args=(StudyWriter(store, trials=1), True))
    running.start()
    outcome = cli("stop", "tiny", "--store", store.objects.uri)
    running.join(timeout=30)
    assert not running.is_alive()
    assert outcome.status == 0
    assert_mentions(outcome.err, "run 1", "tiny")
    assert_mentions(outcome.err, f"marl-study resume tiny --store {store.objects.uri}")
    assert store.runs()[1]["finished"]


@pytest.mark.parametrize("age_s", [None, 3600])
def test_stop_without_a_live_run_fails(cli, store, age_s):
    if age_s is not None:
        store.write_run(1, run_elsewhere(age_s))
    outcome = cli("stop", "tiny", "--store", store.objects.uri)
    assert outcome.status == 2
    assert_mentions(outcome.err, "'tiny'", "not running", *([] if age_s is None else ["heartbeat", "run 1"]))


def test_a_run_that_does_not_stop_is_reported(cli, store, monkeypatch):
    monkeypatch.setattr(manage, "_STOP_TIMEOUT_S", 0.5)
    store.write_run(1, run_elsewhere(1))
    outcome = cli("stop", "tiny", "--store", store.objects.uri)
    assert outcome.status == 1
    assert_mentions(outcome.err, "run 1", "'tiny'", "not stopped", "marl-study status tiny")


@pytest.mark.parametrize("command", ["logs", "stop"])
def test_a_missing_study_is_reported(cli, store, command):
    outcome = cli(command, "nothing", "--store", store.objects.uri)
    assert outcome.status == 2
    assert_mentions(outcome.err, "'nothing'")
