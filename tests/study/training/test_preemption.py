import json
import logging
import threading
from datetime import UTC, datetime
from http.server import ThreadingHTTPServer

import pytest

from study.training import preemption
from study.training.preemption import MetadataService, wait_for_preemption
from tests.cluster import metadata_service


@pytest.fixture
def notice(tmp_path, monkeypatch):
    """A machine with EC2's metadata service, and the file with what that will announce."""
    monkeypatch.setattr(metadata_service, "NOTICE", tmp_path / "notice.json")
    with ThreadingHTTPServer(("127.0.0.1", 0), metadata_service.Service) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", f"http://127.0.0.1:{server.server_port}/")
        monkeypatch.delenv("AWS_EC2_METADATA_DISABLED", raising=False)
        yield tmp_path / "notice.json"
        server.shutdown()


def test_an_instance_reads_when_it_will_be_reclaimed(notice):
    service = MetadataService()
    assert service.is_available()
    assert service.preemption_time() is None
    notice.write_text(json.dumps({"action": "terminate", "time": "2026-11-22T05:06:07Z"}))
    assert service.preemption_time() == datetime(2026, 11, 22, 5, 6, 7, tzinfo=UTC)


def test_a_token_that_has_expired_is_renewed(notice, monkeypatch):
    service = MetadataService()
    assert service.is_available()
    notice.write_text(json.dumps({"action": "stop", "time": "2026-11-22T05:06:07Z"}))
    monkeypatch.setattr(metadata_service, "TOKEN", "another")
    assert service.preemption_time() is None
    assert service.preemption_time() is not None


@pytest.mark.parametrize("answer", ["", "no JSON", "[]", '{"action": "terminate"}', '{"time": "soon"}'])
def test_a_response_without_a_time_announces_nothing(notice, answer):
    service = MetadataService()
    service.is_available()
    notice.write_text(answer)
    assert service.preemption_time() is None


def test_the_service_is_not_available_outside_of_ec2(notice, monkeypatch):
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    assert not MetadataService().is_available()
    monkeypatch.delenv("AWS_EC2_METADATA_DISABLED")
    monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", "http://127.0.0.1:1")
    assert not MetadataService().is_available()


@pytest.fixture
def pauses(monkeypatch):
    """The pauses of the watch, none of which is made."""
    pauses = []
    monkeypatch.setattr(preemption.time, "sleep", pauses.append)
    return pauses


def test_an_error_of_ray_is_logged_and_the_watch_continues(monkeypatch, pauses, caplog):
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    responses = iter([AttributeError("renamed"), OSError("head lost"), {}, {"other": 0}, {"this": 0}])

    def draining_nodes():
        if isinstance(response := next(responses), Exception):
            raise response
        return response

    monkeypatch.setattr(preemption, "_draining_nodes", draining_nodes)
    wait_for_preemption("this")
    assert len(pauses) == 4
    assert [record.levelno for record in caplog.records] == [logging.ERROR, logging.WARNING]


@pytest.mark.parametrize("rejection", [(False, "busy"), RuntimeError("no such method")])
def test_a_rejected_drain_is_requested_again_after_growing_pauses_and_then_given_up(
    notice, monkeypatch, pauses, caplog, rejection
):
    requests = []

    def request_drain(node_id, deadline):
        requests.append((node_id, deadline))
        if isinstance(rejection, Exception):
            raise rejection
        return rejection

    monkeypatch.setattr(preemption, "_draining_nodes", dict)
    monkeypatch.setattr(preemption, "_request_drain", request_drain)
    notice.write_text(json.dumps({"action": "terminate", "time": "2026-11-22T05:06:07Z"}))
    wait_for_preemption("this")  # the trainer writes its checkpoints all the same
    assert requests == [("this", datetime(2026, 11, 22, 5, 6, 7, tzinfo=UTC))] * 4
    assert pauses == [1.0, 2.0, 4.0]
    assert all("this" in record.getMessage() for record in caplog.records)
