import os
from datetime import UTC, datetime, timedelta

import psutil
import pytest

from study import recorder as module
from study.errors import RunError, UserError
from study.objects import Objects
from study.recorder import Recorder, is_live
from study.store import StudyStore


@pytest.fixture
def store(tmp_path):
    return StudyStore(Objects(str(tmp_path)), "tiny")


def heartbeat(age_s: float) -> str:
    return (datetime.now(UTC) - timedelta(seconds=age_s)).isoformat()


def elsewhere(age_s: float) -> dict:
    return {"host": "other/1", "process": 1, "process_started": 1.0, "heartbeat": heartbeat(age_s), "finished": None}


def test_a_launch_of_this_process_is_live_until_it_finishes(store):
    recorder = Recorder(store, trials=3)
    assert is_live(store.launches()[1])
    recorder.finish()
    assert not is_live(store.launches()[1])


def test_a_launch_whose_process_is_gone_or_is_another_by_now_is_dead_at_once(store):
    Recorder(store, trials=3)
    launch = store.launches()[1]
    assert not is_live({**launch, "process": 2**22 + 5})
    assert not is_live({**launch, "process_started": psutil.Process(os.getpid()).create_time() - 100})


@pytest.mark.parametrize(("age_s", "live"), [(1, True), (3600, False)])
def test_on_another_host_the_heartbeat_counts(age_s, live):
    assert is_live(elsewhere(age_s)) is live


@pytest.mark.parametrize("launch", [{}, {"host": "x", "heartbeat": "yesterday"}, {"heartbeat": None}])
def test_a_launch_that_says_nothing_sensible_is_dead(launch):
    assert not is_live(launch)


def test_a_second_launch_is_refused_with_the_name_of_the_first(store):
    store.write_launch(1, elsewhere(1))
    with pytest.raises(UserError, match="is being run by launch 1 on other/1"):
        Recorder(store, trials=3)
    assert list(store.launches()) == [1]


def test_a_dead_launch_is_taken_over_and_writes_no_more_when_it_wakes(store):
    first = Recorder(store, trials=3)
    launch = store.launches()[1]
    store.write_launch(1, {**launch, "process": 2**22 + 5})
    second = Recorder(store, trials=3)
    assert second.launch == 2
    first.add("trials", {"trial": 0, "state": "complete"})
    with pytest.raises(RunError, match="taken over by launch 2"):
        first.flush()
    assert store.read("trials").empty


def test_rows_are_kept_until_they_are_due_and_reports_are_written_before_trials(store, monkeypatch):
    recorder = Recorder(store, trials=3)
    written = []
    monkeypatch.setattr(store.objects, "write", lambda name, content: written.append(name))
    recorder.add("trials", {"trial": 0})
    recorder.add("reports", {"trial": 0})
    recorder.tick()
    assert written == []
    monkeypatch.setattr(module, "_FLUSH_EVERY_S", 0.0)
    recorder.tick()
    assert written == ["tiny/reports/0001-000001.parquet", "tiny/trials/0001-000001.parquet"]


def test_nothing_is_written_when_nothing_happened(store):
    recorder = Recorder(store, trials=3)
    recorder.flush()
    assert store.objects.names("tiny/trials") == []


def test_the_heartbeat_is_renewed(store, monkeypatch):
    recorder = Recorder(store, trials=3)
    before = store.launches()[1]["heartbeat"]
    monkeypatch.setattr(module, "_HEARTBEAT_EVERY_S", 0.0)
    recorder.tick()
    assert store.launches()[1]["heartbeat"] > before


def test_a_launch_says_which_versions_it_ran_and_no_secret(store, monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "do-not-tell")
    Recorder(store, trials=3)
    launch = store.launches()[1]
    assert launch["versions"]["torch"].startswith("2.")
    assert b"do-not-tell" not in store.objects.read("tiny/launches/0001.json")
