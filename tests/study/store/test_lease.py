"""Exactly one run of a study at a time, which competing runs can name."""

import contextlib
import os
import subprocess
import sys
from datetime import UTC, datetime

import psutil
import pytest

from study.errors import RunError, UserError
from study.storage import ObjectStore
from study.store import StudyStore
from study.store.lease import Lease, is_live
from study.store.writer import StudyWriter
from tests.messages import assert_mentions, mentions
from tests.study.faulty_s3 import faulty_s3
from tests.study.s3_server import s3_server
from tests.study.stores import run_elsewhere

# A driver from its claim to its first rows. It waits for a line, so that all begin at once, and ends at the next.
DRIVER = """
import sys
from study.errors import UserError
from study.storage import ObjectStore
from study.store.writer import StudyWriter
from study.store import StudyStore

for line in sys.stdin:
    store = StudyStore(ObjectStore(sys.argv[1]), line.strip())
    store.runs()
    print("ready", flush=True)
    sys.stdin.readline()
    try:
        writer = StudyWriter(store, trials=1)
    except UserError as error:
        print(f"refused: {error}", flush=True)
    else:
        print(f"began {writer.run}", flush=True)
    sys.stdin.readline()
    if "writer" in globals():
        writer.add("trials", {"trial": 0, "state": "running"})
        writer.finish()
        del writer
    print("ended", flush=True)
"""


def now():
    return datetime.now(UTC)


@pytest.fixture
def store(tmp_path):
    return StudyStore(ObjectStore(str(tmp_path)), "tiny")


def test_a_run_of_this_process_is_live_until_it_finishes(store):
    writer = StudyWriter(store, trials=3)
    assert is_live(store.runs()[1], now)
    writer.finish()
    assert not is_live(store.runs()[1], now)


def test_a_run_whose_process_has_exited_or_was_replaced_is_dead_at_once(store):
    StudyWriter(store, trials=3)
    run = store.runs()[1]
    assert not is_live({**run, "process": 2**22 + 5}, now)
    assert not is_live({**run, "process_started": psutil.Process(os.getpid()).create_time() - 100}, now)


def end_block(lease, error):
    with lease:
        if error:
            raise error


@pytest.mark.parametrize("error", [None, RunError("Ray did not start")])
def test_a_lease_is_released_at_the_end_of_its_block(store, error):
    lease = Lease(store, {"trials": 3})
    assert is_live(store.runs()[1], now)
    with contextlib.suppress(RunError):
        end_block(lease, error)
    assert not is_live(store.runs()[1], now)
    assert Lease(store, {"trials": 3}).run == 2


@pytest.mark.parametrize(("error", "reason"), [(None, "run 2"), (RunError("Ray did not start"), "Ray did not start")])
def test_an_error_of_the_release_is_raised_unless_it_masks_that_of_the_block(store, caplog, error, reason):
    lease = Lease(store, {"trials": 3})
    store.write_run(2, run_elsewhere(1))
    with pytest.raises(RunError, match=reason):
        end_block(lease, error)
    assert ("taken over by run 2" in caplog.text) is bool(error)


@pytest.mark.parametrize(("age_s", "live"), [(1, True), (3600, False)])
def test_on_another_host_the_heartbeat_counts(age_s, live):
    assert is_live(run_elsewhere(age_s), now) is live


@pytest.mark.parametrize("run", [{}, {"host": "x", "heartbeat": "yesterday"}, {"heartbeat": None}])
def test_a_run_with_an_invalid_record_is_dead(run):
    assert not is_live(run, now)


def test_a_second_run_is_refused_with_the_name_of_the_first(store):
    store.write_run(1, run_elsewhere(1))
    with pytest.raises(UserError, match=mentions("'tiny'", "run 1", "other/1")):
        StudyWriter(store, trials=3)
    assert list(store.runs()) == [1]


def test_a_competing_lease_is_awaited_or_named(store):
    rival = run_elsewhere(1)
    store.write_lease(1, rival["token"], rival)
    with pytest.raises(UserError, match=mentions("'tiny'", "run 1", "other/1", "process 1")):
        StudyWriter(store, trials=3)
    assert set(store.leases(1)) == {rival["token"]}


def test_a_process_killed_while_acquiring_the_lease_blocks_no_other_and_leaves_no_object(store):
    for token in ("0" * 16, "f" * 16):
        store.write_lease(1, token, run_elsewhere(3600))
    assert StudyWriter(store, trials=3).run == 1
    assert not store.leases(1)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with s3_server(tmp_path_factory.mktemp("s3") / "buckets") as running:
        yield running


@pytest.mark.slow
@pytest.mark.parametrize(
    ("where", "rounds"),
    [
        ("folder", 15),
        *(pytest.param(f"server {word} conditions", 6, marks=pytest.mark.slow) for word in ("without", "with")),
        *(pytest.param(f"server {word} conditions", 15, marks=pytest.mark.nightly) for word in ("without", "with")),
    ],
)
def test_exactly_one_of_several_concurrent_runs_starts_and_the_others_name_it(where, rounds, server, tmp_path):
    with faulty_s3(server) as proxy:
        proxy.knows_conditions = where == "server with conditions"
        uri = str(tmp_path / "runs") if where == "folder" else f"s3://studies/{tmp_path.name}"
        environment = {**os.environ, **proxy.environment}
        words = [sys.executable, "-c", DRIVER, uri]
        drivers = [
            subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)
            for _ in range(3)
        ]
        try:
            for number in range(rounds):
                assert all_say(drivers, f"study{number}") == ["ready"] * 3
                said = all_say(drivers, "go")
                began = [place for place, line in enumerate(said) if line.startswith("began 1")]
                assert len(began) == 1, said
                refused = [line for line in said if line.startswith("refused")]
                assert len(refused) == 2, said
                for line in refused:
                    assert_mentions(line, f"'study{number}'", "run 1")
                assert_mentions("\n".join(refused), f"process {drivers[began[0]].pid}")
                assert all_say(drivers, "end") == ["ended"] * 3
        finally:
            for driver in drivers:
                driver.kill()
                driver.communicate()


def all_say(drivers, word):
    """Tell all a word, then take the answer of each."""
    for driver in drivers:
        driver.stdin.write(f"{word}\n")
        driver.stdin.flush()
    return [driver.stdout.readline().strip() for driver in drivers]
