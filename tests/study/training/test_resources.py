import pytest

from study.spec import parse_spec
from study.spec.resolve import resolve
from study.training.resources import Devices, cluster_devices, trials_per_device

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
