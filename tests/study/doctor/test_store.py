"""What doctor says of a store."""

import json
import os
import threading
from datetime import timedelta
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest

from study.doctor.store import Speed, check_clock, check_room, check_speed, check_store, store_error_here
from study.runs.dry_run import StorageEstimate
from tests.messages import assert_mentions
from tests.study.faulty_s3 import faulty_s3
from tests.study.s3_server import s3_server

SMALL = StorageEstimate(models=1_000_000, latents=100_000, tables=10_000, training=600_000)
_NOBODY = 65534


def verdicts(findings):
    return {finding.check: finding.verdict for finding in findings}


@pytest.fixture
def s3(tmp_path, monkeypatch):
    with s3_server(tmp_path / "s3") as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        yield server


def test_a_folder_passes_and_is_left_as_it_was(tmp_path):
    found = list(check_store(str(tmp_path / "runs"), SMALL))
    assert verdicts(found) == {"store": "pass", "throughput": "pass", "room": "pass"}
    assert_mentions(found[0].value, tmp_path / "runs", "write")
    assert not list((tmp_path / "runs").rglob("*"))


def test_a_folder_that_cannot_be_created_fails_with_its_reason_and_ends_the_check(tmp_path):
    (tmp_path / "file").write_text("")
    (found,) = check_store(str(tmp_path / "file" / "runs"), SMALL)
    assert (found.check, found.verdict) == ("store", "fail")
    assert_mentions(found.value, tmp_path / "file" / "runs", "Not a directory")
    assert found.advice


def test_a_folder_that_is_not_writable_fails(tmp_path):
    assert verdicts(check_store(str(tmp_path), None))["store"] == "pass"  # which imports all that it needs
    tmp_path.chmod(0o500)
    user = os.geteuid()
    if user == 0:  # root may write everywhere
        os.seteuid(_NOBODY)
    try:
        (found,) = check_store(str(tmp_path), None)
    finally:
        os.seteuid(user)
    assert found.verdict == "fail"
    assert "Permission denied" in found.value


@pytest.mark.slow
def test_a_bucket_passes_and_its_endpoint_clock_and_conditions_are_reported(s3):
    found = {finding.check: finding for finding in check_store("s3://studies/here", SMALL)}
    assert {finding.verdict for finding in found.values()} == {"pass"}
    assert list(found) == ["store", "clock", "endpoint", "condition", "throughput", "room"]
    assert found["endpoint"].value.startswith(s3.endpoint)
    assert_mentions(found["condition"].value, "ignored")  # this server does
    assert not [path for path in (s3.folder / "studies").rglob("*") if path.is_file()]


@pytest.mark.slow
def test_a_clock_that_is_an_hour_off_is_stated_beside_the_refusal_of_s3(s3, monkeypatch):
    with faulty_s3(s3) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.environment["AWS_ENDPOINT_URL"])
        proxy.clock_ahead = timedelta(hours=1)
        found = {finding.check: finding for finding in check_store("s3://studies/here", None)}
    assert {check: finding.verdict for check, finding in found.items()} == {"clock": "warn", "store": "fail"}
    assert_mentions(found["clock"].value, "ahead")
    assert_mentions(found["store"].value, "clock", "NTP")


@pytest.mark.slow
def test_a_wrong_key_fails_and_neither_key_is_shown(cli, stack_passes, s3, monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "a-secret-that-is-wrong")
    outcome = cli("doctor", "--store", "s3://studies", "--json")
    assert outcome.status == 1
    (store,) = [one for one in json.loads(outcome.out) if one["check"] == "store"]
    assert store["verdict"] == "fail"
    assert_mentions(store["value"], "denied")
    keys = [s3.environment[name] for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")]
    for secret in (*keys, "a-secret-that-is-wrong"):
        assert secret not in outcome.out + outcome.err


@pytest.mark.slow
def test_a_missing_bucket_fails(s3):
    (found,) = check_store("s3://elsewhere", None)
    assert found.verdict == "fail"
    assert_mentions(found.value, "s3://elsewhere", "no such bucket")


def test_a_server_of_something_else_fails(tmp_path, monkeypatch):
    handler = partial(SimpleHTTPRequestHandler, directory=str(tmp_path))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.server_port}")
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
        monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        monkeypatch.setattr("study.storage.object_store._COMMAND_RETRY_TIMEOUT_S", 0.1)
        (found,) = check_store("s3://studies", None)
        server.shutdown()
    assert (found.check, found.verdict) == ("store", "fail")


def test_a_clock_may_be_some_seconds_off_and_an_hour_is_a_warning():
    assert_mentions(check_clock(-1.5, "its clock").value, "its clock", "1.5 s behind")
    assert check_clock(-1.5, "its clock").verdict == "pass"
    late = check_clock(3600.0, "its clock")
    assert late.verdict == "warn"
    assert_mentions(late.value, "its clock", "3600.0 s ahead")
    assert "NTP" in late.advice


def test_a_store_that_is_slower_than_checkpoints_come_is_a_warning():
    assert check_speed(Speed(up=10_001, down=1e6), SMALL).verdict == "pass"
    slow = check_speed(Speed(up=9_999, down=1e6), SMALL)  # 600 kB a minute are 10 kB/s
    assert slow.verdict == "warn"
    assert_mentions(slow.value, "10 kB/s")
    assert check_speed(Speed(up=9_999, down=1e6), None).verdict == "pass"


def test_a_study_that_has_no_room_fails():
    assert check_room(SMALL, "runs", 1_710_000).verdict == "pass"
    full = check_room(SMALL, "runs", 1_709_999)
    assert (full.verdict, bool(full.advice)) == ("fail", True)
    assert "1.71 MB" in full.value
    assert check_room(SMALL, "s3://studies", None).verdict == "pass"


def test_a_folder_passes_only_on_machines_that_see_files_of_other_machines(tmp_path):
    (tmp_path / "witness").write_bytes(b"")
    assert store_error_here(str(tmp_path), "witness") == ""
    assert store_error_here(str(tmp_path / "own"), "witness")
    (tmp_path / "file").write_text("")
    assert "Not a directory" in store_error_here(str(tmp_path / "file" / "runs"), "witness")
    assert {path.name for path in tmp_path.rglob("*") if path.is_file()} == {"file", "witness"}
