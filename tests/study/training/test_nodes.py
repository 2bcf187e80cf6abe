import json
import logging
import threading
from datetime import UTC, datetime
from http.server import ThreadingHTTPServer

import pytest

from study.spec import parse_spec
from study.spec.resolve import resolve
from study.training import nodes
from study.training.nodes import Devices, MetadataService, cluster_devices, trials_per_device, wait_for_preemption
from tests.cluster import metadata_service

HEAD = {"Alive": True, "Resources": {"node:1": 1.0}}
CLUSTER_FILE = {
    "max_workers": 6,
    "head_node_type": "head",
    "available_node_types": {
        "head": {"resources": {"CPU": 0}, "max_workers": 0},
        "small": {"resources": {"CPU": 4, "GPU": 1}, "max_workers": 4},
        "large": {"resources": {"CPU": 48, "GPU": 4}, "max_workers": 1},
    },
}


def node(**resources):
    return {"Alive": True, "Resources": resources}


def test_a_head_without_cpus_is_no_device():
    assert cluster_devices([HEAD, node(CPU=8.0), node(CPU=2.0)], {}) == Devices("cpu", 2, 2.0)


def test_gpus_are_the_devices_of_a_cluster_that_has_any():
    assert cluster_devices([HEAD, node(CPU=8.0, GPU=4.0), node(CPU=4.0)], {}) == Devices("cuda", 4, 4.0)


def test_dead_nodes_do_not_count():
    assert cluster_devices([node(CPU=2.0), {"Alive": False, "Resources": {"CPU": 8.0, "GPU": 1.0}}], {}).count == 1


def test_nodes_that_the_autoscaler_can_add_count():
    assert cluster_devices([HEAD], CLUSTER_FILE) == Devices("cuda", 8, 1)


def test_the_maximum_number_of_workers_is_a_limit():
    assert cluster_devices([HEAD], {**CLUSTER_FILE, "max_workers": 1}).count == 2 * 1 * 2


def test_hosts_on_premises_count_before_they_join():
    file = {
        "max_workers": 2,
        "head_node_type": "local.cluster.node",
        "available_node_types": {"local.cluster.node": {"resources": {}, "max_workers": 2}},
    }
    assert cluster_devices([HEAD], file) == Devices("cpu", 2, 1)


@pytest.mark.parametrize(("lanes", "halved", "all_at_once"), [(64, 72, 36), (8, 9, 5), (3, 4, 3), (1, 2, 2)])
def test_trials_fill_the_lanes_and_some_queue(tiny, lanes, halved, all_at_once):
    halving = {**tiny, "halving": {"reduction_factor": 2, "min_steps": 5}}
    assert trials_per_device(resolve(parse_spec(halving, "test")).spec, lanes) == halved
    assert trials_per_device(resolve(parse_spec(tiny, "test")).spec, lanes) == all_at_once


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
    monkeypatch.setattr(nodes.time, "sleep", pauses.append)
    return pauses


def test_an_error_of_ray_is_logged_and_the_watch_continues(monkeypatch, pauses, caplog):
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    responses = iter([AttributeError("renamed"), OSError("head lost"), {}, {"other": 0}, {"this": 0}])

    def draining_nodes():
        if isinstance(response := next(responses), Exception):
            raise response
        return response

    monkeypatch.setattr(nodes, "_draining_nodes", draining_nodes)
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

    monkeypatch.setattr(nodes, "_draining_nodes", dict)
    monkeypatch.setattr(nodes, "_request_drain", request_drain)
    notice.write_text(json.dumps({"action": "terminate", "time": "2026-11-22T05:06:07Z"}))
    wait_for_preemption("this")  # the trainer writes its checkpoints all the same
    assert requests == [("this", datetime(2026, 11, 22, 5, 6, 7, tzinfo=UTC))] * 4
    assert pauses == [1.0, 2.0, 4.0]
    assert all("this" in record.getMessage() for record in caplog.records)
