"""One contract for every kind of storage, and what each says when it refuses."""

import os
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from http.server import ThreadingHTTPServer
from pathlib import Path

import pytest
from gcp_storage_emulator.server import create_server

from study.errors import TooLargeError, UserError
from study.local_files import ObjectFolder, atomic_path
from study.storage import RUN_RETRY_TIMEOUT_S, ObjectStore
from tests.messages import assert_mentions, mentions
from tests.study.s3_server import s3_server


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with s3_server(tmp_path_factory.mktemp("s3") / "buckets") as running:
        yield running


@pytest.fixture
def s3_keys(server, monkeypatch):
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    return server


@pytest.fixture(scope="module")
def gcs_server():
    """An emulator of Google Cloud Storage."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with pytest.MonkeyPatch.context() as patch:
        # By default the emulator serves one connection at a time.
        patch.setattr("http.server.HTTPServer", ThreadingHTTPServer)
        patch.setattr(ThreadingHTTPServer, "request_queue_size", 128)
        server = create_server("127.0.0.1", port, in_memory=True, default_bucket="studies")
        server.start()
        yield f"http://127.0.0.1:{port}"
        server.stop()


@pytest.fixture(
    params=[
        "folder",
        "memory",
        pytest.param("s3", marks=pytest.mark.slow),
        pytest.param("gs", marks=pytest.mark.nightly),
    ]
)
def objects(request, tmp_path, monkeypatch):
    if request.param == "folder":
        return ObjectStore(str(tmp_path / "store"))
    if request.param == "memory":
        return ObjectStore(f"memory://studies/{tmp_path.name}")
    if request.param == "gs":
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", request.getfixturevalue("gcs_server"))
        # gcsfs otherwise asks for the type of the bucket by gRPC, which the emulator does not speak.
        monkeypatch.setenv("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")
        monkeypatch.setenv("MARL_STORAGE_OPTIONS", '{"token": "anon"}')
        return ObjectStore(f"gs://studies/{tmp_path.name}")
    request.getfixturevalue("s3_keys")
    return ObjectStore(f"s3://studies/{tmp_path.name}")


def test_written_objects_are_read(objects):
    objects.write("a/b/c.bin", b"\x00\xffcontent")
    assert objects.read("a/b/c.bin") == b"\x00\xffcontent"


def test_many_objects_are_read_at_once_without_missing_ones(objects):
    # No content ends in a carriage return, which the emulator of Google Cloud Storage drops.
    written = {f"folder/{number}": (b"\x00\xff" * number)[:number] for number in range(70)} | {"a [b]*?": b"no pattern"}
    for name, content in written.items():
        objects.write(name, content)
    assert objects.read_all([*written, "absent", "folder/absent"]) == written
    assert objects.read_all([]) == {}


def test_a_stamp_is_another_one_when_an_object_was_written_again(objects):
    objects.write("x/a", b"one")
    objects.write("x/b", b"one")
    before = objects.entries("x")
    assert objects.entries("x") == before
    objects.write("x/a", b"two")
    after = objects.entries("x")
    assert list(after) == ["x/a", "x/b"]
    assert after["x/a"].etag != before["x/a"].etag
    assert after["x/b"] == before["x/b"]
    assert objects.entries("nothing") == {}


def test_large_objects_are_written_whole(objects):
    content = os.urandom(1 << 20) * 12 + b"."
    objects.write("large", content)
    assert objects.read("large") == content


def test_writing_again_replaces(objects):
    objects.write("a", b"longer content")
    objects.write("a", b"short")
    assert objects.read("a") == b"short"


def test_names_are_all_objects_under_a_prefix_sorted(objects):
    for name in ("x/2", "x/10/deep", "x/1", "xy", "z"):
        objects.write(name, b"")
    assert objects.names("x") == ["x/1", "x/10/deep", "x/2"]
    assert objects.names("x/1") == ["x/1"]
    assert objects.names("nothing") == []
    assert objects.folders() == ["x"]


def test_sizes_are_bytes_by_name_sorted(objects):
    for name, size in (("x/2", 5), ("x/10/deep", 0), ("xy", 1)):
        objects.write(name, b"." * size)
    assert [(name, entry.size) for name, entry in objects.entries("x").items()] == [("x/10/deep", 0), ("x/2", 5)]


def test_names_see_what_another_process_just_wrote(objects):
    assert objects.names("x") == []
    ObjectStore(objects.uri).write("x/new", b"")
    assert objects.names("x") == ["x/new"]
    assert objects.folders() == ["x"]


def test_a_missing_object_is_not_found(objects):
    objects.write("present", b"")
    with pytest.raises(FileNotFoundError):
        objects.read("absent")


def test_deleting_takes_everything_under_a_prefix_and_nothing_else(objects):
    for name in ("a/1", "a/2/3", "ab"):
        objects.write(name, b"")
    objects.delete("a")
    objects.delete("never/there")
    assert objects.names("a") == []
    assert objects.read("ab") == b""


def test_a_store_that_can_be_written_is_left_as_it_was(objects):
    objects.write("kept", b"")
    objects.check_writable()
    assert objects.names("") == ["kept"]


def test_an_object_of_the_size_limit_is_read_and_a_larger_one_is_refused(objects):
    for content in (b"", b"12345"):
        objects.write("a", content)
        assert objects.read("a", limit=len(content)) == content
    with pytest.raises(TooLargeError, match="4"):
        objects.read("a", limit=4)


def test_no_part_of_an_object_above_the_limit_is_read_with_others(objects, monkeypatch):
    for name, content in (("a", b"1234"), ("b", b"12345")):
        objects.write(name, content)
    monkeypatch.setattr("study.storage.object_store._MAX_BYTES", 4)
    assert objects.read_all(["a"]) == {"a": b"1234"}
    with pytest.raises(TooLargeError, match=mentions("4", "5")):
        objects.read_all(["a", "b"])


def test_an_object_is_created_once_and_by_the_process_whose_content_it_has(objects):
    assert objects.create("a", b"first")
    assert objects.create("a", b"first")
    assert not objects.create("a", b"other")
    assert not objects.create("a", b"longer")
    assert objects.read("a") == b"first"


def test_an_empty_store_has_no_folders(objects):
    assert objects.folders() == []


def test_a_folder_is_never_seen_half_written(tmp_path, monkeypatch):
    objects = ObjectStore(str(tmp_path))
    objects.write("a", b"old")
    monkeypatch.setattr(Path, "replace", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(UserError, match=mentions(tmp_path, "No space left on device")):
        objects.write("a", b"new")
    assert objects.read("a") == b"old"
    assert objects.names("") == ["a"]
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_unfinished_files_of_a_killed_writer_are_not_listed(tmp_path):
    objects = ObjectStore(str(tmp_path))
    objects.write("a", b"")
    (tmp_path / ".unfinished-0123").write_bytes(b"half")
    assert objects.names("") == ["a"]


def test_an_object_deleted_during_a_listing_is_listed(tmp_path, monkeypatch):
    """A compaction may have moved the rows of a deleted object. The reader notices a missing object and lists again."""
    objects = ObjectStore(str(tmp_path))
    for name in ("x/part", "x/other"):
        objects.write(name, b"rows")
    stat = Path.stat

    def deleting_stat(path, **options):
        if path.name == "part":
            path.unlink(missing_ok=True)
        return stat(path, **options)

    monkeypatch.setattr(Path, "stat", deleting_stat)
    assert objects.names("x") == ["x/other", "x/part"]
    assert objects.read_all(["x/other", "x/part"]) == {"x/other": b"rows"}


def test_a_call_that_succeeds_does_not_end_the_outage_of_another(tmp_path, monkeypatch):
    monkeypatch.setattr("study.storage.object_store._OUTAGE_AFTER", timedelta(seconds=0.1))
    objects = ObjectStore(str(tmp_path), RUN_RETRY_TIMEOUT_S)
    is_full, write = threading.Event(), ObjectFolder.pipe_file
    is_full.set()

    def pipe_file(self, path, value):
        if is_full.is_set():
            raise OSError(28, "disk full")
        write(self, path, value)

    monkeypatch.setattr(ObjectFolder, "pipe_file", pipe_file)
    with ThreadPoolExecutor(1) as threads:
        call = threads.submit(objects.write, "a", b"content")
        deadline = time.monotonic() + 20
        while objects.outage is None:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert objects.names("") == []
        assert_mentions(objects.outage, tmp_path, "disk full")
        is_full.clear()
        call.result()
    assert objects.outage is None
    assert objects.names("") == ["a"]


def test_a_folder_below_a_file_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=mentions(tmp_path / "file" / "store")):
        ObjectStore(str(tmp_path / "file" / "store")).check_writable()


def test_a_read_only_place_is_refused():
    with pytest.raises(UserError, match=mentions("/proc/store")):
        ObjectStore("/proc/store").check_writable()


@pytest.mark.slow
def test_reading_many_objects_raises_the_cause(s3_keys, monkeypatch):

    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    with pytest.raises(UserError, match=mentions("s3://studies/x", "denied", "keys")):
        ObjectStore("s3://studies/x").read_all(["a", "b"])


def test_storage_options_of_the_user_add_to_those_that_other_servers_than_aws_need(monkeypatch):
    monkeypatch.setenv("MARL_STORAGE_OPTIONS", '{"anon": true, "config_kwargs": {"read_timeout": 1}}')
    filesystem = ObjectStore("s3://studies/x").filesystem
    assert filesystem.anon
    assert filesystem.config_kwargs["read_timeout"] == 1
    assert filesystem.config_kwargs["request_checksum_calculation"] == "when_required"


def test_an_unknown_kind_of_store_is_refused():
    with pytest.raises(UserError, match=mentions("folder", "s3://", "ftpx://somewhere")):
        ObjectStore("ftpx://somewhere")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changed", "uri", "facts"),
    [
        ({"AWS_SECRET_ACCESS_KEY": "wrong"}, "s3://studies/x", ["denied", "keys"]),
        ({"AWS_ACCESS_KEY_ID": "nobody"}, "s3://studies/x", ["denied", "keys"]),
        ({"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""}, "s3://studies/x", ["keys", "AWS_ACCESS_KEY_ID"]),
        ({}, "s3://nowhere/x", ["no such bucket"]),
        ({"AWS_ENDPOINT_URL": "nonsense"}, "s3://studies/x", ["endpoint", "nonsense"]),
        ({"MARL_STORAGE_OPTIONS": "anon"}, "s3://studies/x", ["MARL_STORAGE_OPTIONS", "JSON"]),
        ({"MARL_STORAGE_OPTIONS": '["anon"]'}, "s3://studies/x", ["MARL_STORAGE_OPTIONS", "JSON"]),
        ({"AWS_ENDPOINT_URL": "http://127.0.0.1:1"}, "s3://studies/x", ["Could not connect", "http://127.0.0.1:1"]),
    ],
)
def test_errors_of_s3_state_the_cause_without_keys(s3_keys, monkeypatch, changed, uri, facts):
    for name, value in changed.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent")

    with pytest.raises(UserError, match=mentions(uri, *facts)) as refusal:
        ObjectStore(uri, 1.0).check_writable()
    assert s3_keys.environment["AWS_SECRET_ACCESS_KEY"] not in str(refusal.value)


def test_a_draft_replaces_its_file_or_folder_whole_or_not_at_all(tmp_path):
    file, folder = tmp_path / "new" / "file.txt", tmp_path / "folder"
    with atomic_path(file) as draft:
        assert draft.suffix == ".txt"
        draft.write_text("first")
        assert not file.exists()
    assert file.read_text() == "first"
    with pytest.raises(UnicodeEncodeError), atomic_path(file) as draft:
        draft.write_text("\ud800")
    assert [path.read_text() for path in file.parent.iterdir()] == ["first"]
    for content in ("first", "second"):
        with atomic_path(folder) as draft:
            draft.mkdir()
            (draft / content).write_text(content)
        assert [path.name for path in folder.iterdir()] == [content]
    with atomic_path(file):
        pass
    assert file.read_text() == "first"
