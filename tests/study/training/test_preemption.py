import json
import threading
from datetime import UTC, datetime
from http.server import ThreadingHTTPServer

import pytest

from study.training.preemption import MetadataService
from tests.cluster import metadata_service


@pytest.fixture
def notice(tmp_path, monkeypatch):
    """A machine with EC2's metadata service, and the file with what that will announce."""
    monkeypatch.setattr(metadata_service, "NOTICE", tmp_path / "notice.json")
    with ThreadingHTTPServer(("127.0.0.1", 0), metadata_service.Service) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", f"http://127.0.0.1:{server.server_port}/")
        monkeypatch.delenv("AWS_EC2_METADATA_DISABLED", raising=False)
        yield tmp_path / "notice.json"
        server.shutdown()


def test_an_instance_hears_when_it_will_be_taken_away(notice):
    service = MetadataService()
    assert service.is_there()
    assert service.loss_at() is None
    notice.write_text(json.dumps({"action": "terminate", "time": "2026-11-22T05:06:07Z"}))
    assert service.loss_at() == datetime(2026, 11, 22, 5, 6, 7, tzinfo=UTC)


def test_a_token_that_has_expired_is_renewed(notice, monkeypatch):
    service = MetadataService()
    assert service.is_there()
    notice.write_text(json.dumps({"action": "stop", "time": "2026-11-22T05:06:07Z"}))
    monkeypatch.setattr(metadata_service, "TOKEN", "another")
    assert service.loss_at() is None
    assert service.loss_at() is not None


@pytest.mark.parametrize("answer", ["", "no JSON", "[]", '{"action": "terminate"}', '{"time": "soon"}'])
def test_an_answer_that_says_no_time_announces_nothing(notice, answer):
    service = MetadataService()
    service.is_there()
    notice.write_text(answer)
    assert service.loss_at() is None


def test_elsewhere_there_is_no_such_service(notice, monkeypatch):
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    assert not MetadataService().is_there()
    monkeypatch.delenv("AWS_EC2_METADATA_DISABLED")
    monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", "http://127.0.0.1:1")
    assert not MetadataService().is_there()
