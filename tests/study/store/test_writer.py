import threading
import time

import pyarrow as pa
import pytest

import study.store.writer as module
from study.errors import RunError, UserError
from study.storage import ObjectStore
from study.store import StudyStore
from study.store.writer import StudyWriter
from tests.messages import mentions
from tests.study.stores import run_elsewhere


@pytest.fixture
def store(tmp_path):
    return StudyStore(ObjectStore(str(tmp_path)), "tiny")


def wait_until(is_so, within_s=10.0):
    deadline = time.monotonic() + within_s
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def trial(number, state="running"):
    return {"trial": number, "state": state}


def report(number):
    return {"trial": number, "seed": 0, "step": 10}


class HeldObjects(ObjectStore):
    """A store that takes nothing while it is told so."""

    def __init__(self, uri):
        super().__init__(uri)
        self.takes = threading.Event()
        self.takes.set()
        self.written = []

    def write(self, name, content):
        self.takes.wait()
        super().write(name, content)
        self.written.append(name)


def test_a_dead_run_is_taken_over_and_writes_no_more_when_it_wakes(store):
    first = StudyWriter(store, trials=3)
    run = store.runs()[1]
    store.write_run(1, {**run, "process": 2**22 + 5})
    second = StudyWriter(store, trials=3)
    assert second.run == 2
    first.add("trials", trial(0, "complete"))
    for _ in range(2):
        with pytest.raises(RunError, match=mentions("run 2")):
            first.flush()
    with pytest.raises(RunError, match=mentions("run 2")):
        first.finish()
    assert store.read("trials").empty


@pytest.mark.parametrize("fate", ["another's", "deleted"])
def test_a_run_whose_claim_is_not_its_own_any_more_writes_no_more(store, fate):
    writer = StudyWriter(store, trials=3)
    if fate == "deleted":
        store.delete()
    else:
        store.write_run(1, {**store.runs()[1], "token": "f" * 16})
    writer.add("trials", trial(0))
    with pytest.raises(RunError, match=mentions("run 1", "'tiny'", "deleted")):
        writer.flush()
    assert store.read("trials").empty


def test_rows_are_kept_until_they_are_due_and_reports_are_written_before_trials(tmp_path, monkeypatch):
    objects = HeldObjects(str(tmp_path))
    writer = StudyWriter(StudyStore(objects, "tiny"), trials=3)
    before = len(objects.written)
    writer.add("trials", trial(0))
    writer.add("reports", report(0))
    writer.check()
    time.sleep(2 * module._POLL_S)
    assert objects.written[before:] == []
    monkeypatch.setattr(module, "_FLUSH_EVERY_S", 0.0)
    wait_until(lambda: len(objects.written) == before + 2)
    assert objects.written[before:] == ["tiny/reports/0001-000001.parquet", "tiny/trials/0001-000001.parquet"]


def test_an_outage_of_the_store_does_not_block_and_all_rows_are_written_later_in_order(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_FLUSH_EVERY_S", 0.05)
    objects = HeldObjects(str(tmp_path))
    store = StudyStore(objects, "tiny")
    writer = StudyWriter(store, trials=3)
    objects.takes.clear()
    began = time.monotonic()
    for number in range(100):
        writer.add("trials", trial(number))
        writer.log(f"trial {number}")
        writer.check()
        time.sleep(0.01)
    assert time.monotonic() - began < 5.0
    assert store.read("trials").empty
    objects.takes.set()
    writer.finish()
    assert store.read("trials")["trial"].tolist() == list(range(100))
    assert store.read("log")["line"].tolist() == [f"trial {number}" for number in range(100)]


def test_flushed_rows_are_stored(store):
    writer = StudyWriter(store, trials=3)
    for number in range(70):
        writer.add("reports", report(number))
        writer.flush()
        if number % 8 == 0 or number > 60:  # a compaction follows the 64th segment
            assert len(store.read("reports")) == number + 1


def test_a_wait_that_is_interrupted_loses_no_row(tmp_path):
    objects = HeldObjects(str(tmp_path))
    store = StudyStore(objects, "tiny")
    said = []

    def log(line):
        said.append(line)

    writer = StudyWriter(store, trials=3, on_outage=log)
    writer.add("trials", trial(0))
    objects.takes.clear()

    def interrupt(_):
        raise KeyboardInterrupt

    waiting = writer._changed.wait
    writer._changed.wait = interrupt  # as a signal does to the main thread
    with pytest.raises(KeyboardInterrupt):
        writer.flush()
    writer._changed.wait = waiting
    writer.add("trials", trial(1))
    objects.takes.set()
    writer.finish()
    assert store.read("trials")["trial"].tolist() == [0, 1]


def write_in_a_block(store, row, error=None):
    with StudyWriter(store, trials=3) as writer:
        writer.add("trials", row)
        if error:
            raise error


def test_the_lease_is_released_after_an_error_in_the_block(store):
    with pytest.raises(RunError, match="Ray did not start"):
        write_in_a_block(store, trial(0), RunError("Ray did not start"))
    assert store.read("trials")["trial"].tolist() == [0]
    assert StudyWriter(store, trials=3).run == 2


def test_rows_that_cannot_be_written_neither_mask_the_first_error_nor_keep_the_lease(store, caplog):
    with pytest.raises(RunError, match="a trainer was lost"):
        write_in_a_block(store, trial(object()), RunError("a trainer was lost"))
    assert "object" in caplog.text
    with pytest.raises(pa.ArrowInvalid):
        write_in_a_block(store, trial(object()))
    assert StudyWriter(store, trials=3).run == 3


def test_after_an_error_of_writing_the_lease_is_held_until_the_writer_finishes(store):
    writer = StudyWriter(store, trials=3)
    writer.add("trials", trial(object()))
    with pytest.raises(pa.ArrowInvalid):
        writer.flush()
    with pytest.raises(UserError, match=mentions("run 1")):
        StudyWriter(store, trials=3)
    with pytest.raises(pa.ArrowInvalid):
        writer.finish()
    assert StudyWriter(store, trials=3).run == 2


def test_an_error_of_the_block_that_finishing_repeats_is_not_logged(store, caplog):
    writer = StudyWriter(store, trials=3)
    store.write_run(2, run_elsewhere(1))
    writer.add("trials", trial(0))
    with pytest.raises(RunError, match=mentions("run 2")), writer:
        writer.flush()
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


def test_without_rows_nothing_is_written(store):
    writer = StudyWriter(store, trials=3)
    writer.flush()
    assert store.objects.names("tiny/trials") == []


@pytest.mark.slow
def test_the_heartbeat_is_renewed_while_the_driver_calls_and_stops_when_it_hangs(store, monkeypatch):
    def heartbeat():
        return store.runs()[1]["heartbeat"]

    writer = StudyWriter(store, trials=3)
    before = heartbeat()
    monkeypatch.setattr(module, "_HEARTBEAT_EVERY_S", 0.0)
    wait_until(lambda: heartbeat() > before)
    monkeypatch.setattr(module, "_HANGS_AFTER_S", 0.0)
    time.sleep(3 * module._POLL_S)
    last = heartbeat()
    time.sleep(3 * module._POLL_S)
    assert heartbeat() == last
    monkeypatch.setattr(module, "_HANGS_AFTER_S", 5.0)
    writer.check()
    wait_until(lambda: heartbeat() > last)


def test_a_stop_request_is_noticed(store, monkeypatch):
    writer = StudyWriter(store, trials=3)
    assert not writer.stop_requested
    store.request_stop(writer.run)
    monkeypatch.setattr(module, "_HEARTBEAT_EVERY_S", 0.1)
    wait_until(lambda: writer.stop_requested)
    writer.finish()
    assert not StudyWriter(store, trials=3).stop_requested


def test_a_run_records_its_versions_and_no_secret(store, monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "do-not-tell")
    StudyWriter(store, trials=3)
    run = store.runs()[1]
    assert run["versions"]["torch"].startswith("2.")
    assert b"do-not-tell" not in store.objects.read("tiny/runs/0001.json")


def test_a_run_adds_the_work_of_lost_trainers_and_names_live_ones(store):
    def said(steps):
        seconds = {"training": steps / 10, "idle": 1.0}
        return {"device": f"d{steps}", "lanes": 4, "trained_steps": steps, "lane_steps": 2 * steps, "seconds": seconds}

    writer = StudyWriter(store, trials=3)
    writer.record_trainers([said(10), said(20)])
    writer.record_trainers([said(30)], ended=[said(10)])
    writer.finish()
    run = store.runs()[writer.run]
    assert run["trainers"] == 2
    assert run["devices"] == ["d30"]
    assert (run["trained_steps"], run["lane_steps"]) == (40, 80)
    assert run["seconds"] == {"training": 4.0, "idle": 2.0}
