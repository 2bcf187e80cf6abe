"""What an S3 server may do to a study: fail, hang, be slow, refuse keys, lose what it took, be full, know no time."""

import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest

import study.storage.object_store as module
from study.errors import RunError, UserError
from study.storage import ObjectStore
from study.store import StudyStore
from study.store.writer import StudyWriter
from tests.messages import assert_mentions, mentions
from tests.study.faulty_s3 import faulty_s3
from tests.study.s3_server import s3_server

pytestmark = pytest.mark.slow

# More than the patience of a command: what refuses now may not do so later.
RUN_RETRY_TIMEOUT_S = 30.0


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with s3_server(tmp_path_factory.mktemp("s3") / "buckets") as running:
        yield running


@pytest.fixture
def faults(server, monkeypatch):
    with faulty_s3(server) as proxy:
        for name, value in proxy.environment.items():
            monkeypatch.setenv(name, value)
        yield proxy


@pytest.fixture
def uri(tmp_path):
    return f"s3://studies/{tmp_path.name}"


@pytest.mark.parametrize("status", [500, 503])
def test_a_command_outlives_seconds_of_server_errors(faults, uri, status):
    objects = ObjectStore(uri)
    faults.fails_for(2.0, status)
    objects.write("a", b"content")
    assert objects.read("a") == b"content"
    assert objects.read_all(["a", "b"]) == {"a": b"content"}


def test_a_command_reports_persistent_errors(faults, uri, monkeypatch):
    monkeypatch.setattr(module, "_COMMAND_RETRY_TIMEOUT_S", 1.0)
    faults.status = 500
    with pytest.raises(UserError, match=mentions(uri, "InternalError", "by intention")):
        ObjectStore(uri, 1.0).read("a")


def test_a_request_is_sent_once_a_try(faults, uri):
    faults.status = 500
    with pytest.raises(UserError):
        ObjectStore(uri, 0.0).read("a")
    assert len(faults.asked) == 1


@pytest.mark.parametrize("status", [403, 507])
def test_permanent_errors_end_a_command_at_once_while_a_study_retries(faults, uri, status):
    facts = {403: ("denied", "keys"), 507: ("full",)}[status]
    hasty = ObjectStore(uri)
    hasty.names("")  # connects
    faults.only = {"PUT"}
    faults.status = status
    began = time.monotonic()
    with pytest.raises(UserError, match=mentions(uri, *facts)):
        hasty.write("a", b"content")
    assert time.monotonic() - began < 1.0
    patient = ObjectStore(uri, RUN_RETRY_TIMEOUT_S)
    faults.fails_for(3.0, status)
    patient.write("a", b"content")
    assert patient.read("a") == b"content"


def test_a_retrying_study_states_the_start_and_the_cause_of_the_outage(faults, uri, monkeypatch):
    monkeypatch.setattr(module, "_OUTAGE_AFTER", timedelta(seconds=0.5))
    objects = ObjectStore(uri, RUN_RETRY_TIMEOUT_S)
    assert objects.outage is None
    faults.status = 500
    writing = threading.Thread(target=objects.write, args=("a", b"content"))
    writing.start()
    deadline = time.monotonic() + 10
    while objects.outage is None:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert_mentions(objects.outage, uri, f"{datetime.now(UTC):%H:}", "InternalError")
    faults.status = None
    writing.join()
    assert objects.outage is None


def test_keys_that_were_renewed_in_their_file_are_taken_up(faults, uri, monkeypatch, tmp_path):
    good = {name: faults.environment[name] for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")}
    file = tmp_path / "credentials"

    def write_keys(secret):
        key = good["AWS_ACCESS_KEY_ID"]
        file.write_text(f"[default]\naws_access_key_id = {key}\naws_secret_access_key = {secret}\n")

    for name in good:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(file))
    write_keys("expired")
    threading.Timer(2.0, write_keys, [good["AWS_SECRET_ACCESS_KEY"]]).start()
    ObjectStore(uri, RUN_RETRY_TIMEOUT_S).write("a", b"content")


def test_requests_to_a_hanging_server_time_out(faults, uri, monkeypatch):
    monkeypatch.setenv("MARL_STORAGE_OPTIONS", json.dumps({"config_kwargs": {"read_timeout": 1}}))
    faults.hangs = True
    threading.Timer(2.5, lambda: setattr(faults, "hangs", False)).start()
    began = time.monotonic()
    ObjectStore(uri).write("a", b"content")
    assert time.monotonic() - began < 8.0


def test_a_slow_server_only_takes_its_time(faults, uri):
    faults.delay_s = 1.0
    objects = ObjectStore(uri)
    objects.write("a", b"content")
    assert objects.read("a") == b"content"
    assert objects.names("") == ["a"]
    began = time.monotonic()
    assert len(objects.read_all(["a"] * 16)) == 1
    assert time.monotonic() - began < 8.0  # side by side


def test_an_acknowledged_write_that_the_server_lost_is_repeated(faults, uri):
    objects = ObjectStore(uri)
    for content in (b"first", b"other"):  # of the same size
        faults.loses = "/a"
        objects.write("a", content)
        assert faults.loses is None
        assert objects.read("a") == content
    faults.loses = "/b"
    assert objects.create("b", b"content")
    assert objects.read("b") == b"content"


@pytest.mark.parametrize("knows_conditions", [False, True])
def test_an_object_is_created_once_and_by_the_one_whose_content_it_has(faults, uri, knows_conditions):
    faults.knows_conditions = knows_conditions
    objects = ObjectStore(uri)
    assert objects.create("a", b"first")
    assert objects.create("a", b"first")
    assert not objects.create("a", b"second")
    assert objects.read("a") == b"first"
    faults.loses_answer = "/b"  # written, but not acknowledged
    assert objects.create("b", b"first")


def test_only_one_of_many_creates_an_object_if_the_server_supports_conditions(faults, uri):
    faults.knows_conditions = True
    contents = [str(place).encode() for place in range(8)]
    with ThreadPoolExecutor(len(contents)) as threads:
        for number in range(5):
            created = list(threads.map(lambda one, name=f"{number}": ObjectStore(uri).create(name, one), contents))
            assert sorted(created) == [False] * 7 + [True]
            assert ObjectStore(uri).read(f"{number}") == contents[created.index(True)]


@pytest.mark.parametrize("hours", [-1, 1])
def test_a_machine_whose_clock_is_an_hour_off_is_refused_with_the_reason_and_knows_the_time_of_the_store(
    faults, uri, hours
):
    faults.clock_ahead = timedelta(hours=hours)
    objects = ObjectStore(uri)
    with pytest.raises(UserError, match=mentions(uri, "clock", "NTP")):
        objects.write("a", b"content")
    assert abs(objects.now() - datetime.now(UTC) - faults.clock_ahead) < timedelta(seconds=5)


@pytest.mark.parametrize("minutes", [-10, 10])
def test_a_machine_whose_clock_is_minutes_off_is_served_and_knows_the_time_of_the_store(faults, uri, minutes):
    faults.clock_ahead = timedelta(minutes=minutes)
    objects = ObjectStore(uri)
    objects.write("a", b"content")
    assert objects.read("a") == b"content"
    assert abs(objects.now() - datetime.now(UTC) - faults.clock_ahead) < timedelta(seconds=5)


def test_equal_clocks_cost_no_request_and_change_no_time(faults, uri):
    objects = ObjectStore(uri)
    objects.write("a", b"")
    before = len(faults.asked)
    assert abs(objects.now() - datetime.now(UTC)) < timedelta(milliseconds=100)
    assert len(faults.asked) == before


def rows_of(store):
    return store.read("trials")["trial"].tolist()


def test_a_writer_retries_without_losing_rows_or_blocking(faults, uri, monkeypatch):
    monkeypatch.setattr("study.store.writer._FLUSH_EVERY_S", 0.5)
    monkeypatch.setattr(module, "_OUTAGE_AFTER", timedelta(seconds=1))
    store = StudyStore(ObjectStore(uri, RUN_RETRY_TIMEOUT_S), "tiny")
    said = []
    writer = StudyWriter(store, trials=40, on_outage=said.append)
    faults.fails_for(6.0, 500)
    for trial in range(40):
        began = time.monotonic()
        writer.add("trials", {"trial": trial, "state": "running"})
        writer.log(f"trial {trial} started")
        writer.check()
        assert time.monotonic() - began < 0.1
        time.sleep(0.2)
    writer.finish()
    assert rows_of(store) == list(range(40))
    assert store.read("log")["line"].tolist() == [f"trial {trial} started" for trial in range(40)]
    assert_mentions(said[0], uri, "InternalError")
    assert_mentions(said[-1], uri, "again")


def test_a_writer_raises_after_its_retry_timeout(faults, uri):
    writer = StudyWriter(StudyStore(ObjectStore(uri, 1.0), "tiny"), trials=1)
    writer.add("trials", {"trial": 0, "state": "running"})
    faults.status = 500
    with pytest.raises(RunError, match=mentions("InternalError", "written")):
        writer.flush()
    with pytest.raises(RunError, match="InternalError"):
        writer.check()


def test_a_run_of_a_machine_whose_clock_is_off_is_neither_taken_over_nor_kept_alive(faults, uri):
    """Heartbeats are written and judged by the server's clock."""
    faults.clock_ahead = timedelta(minutes=10)
    store = StudyStore(ObjectStore(uri), "tiny")
    writer = StudyWriter(store, trials=1)
    heartbeat = datetime.fromisoformat(store.runs()[1]["heartbeat"])
    assert abs(heartbeat - datetime.now(UTC) - faults.clock_ahead) < timedelta(seconds=5)
    store.write_run(1, {**store.runs()[1], "host": "another/1"})
    with pytest.raises(UserError, match=mentions("'tiny'", "run 1", "another/1")):
        StudyWriter(StudyStore(ObjectStore(uri), "tiny"), trials=1)
    old = (heartbeat - timedelta(minutes=2)).isoformat()
    store.write_run(1, {**store.runs()[1], "heartbeat": old})
    assert StudyWriter(StudyStore(ObjectStore(uri), "tiny"), trials=1).run == 2
    with pytest.raises(RunError, match=mentions("run 2")):
        writer.finish()
