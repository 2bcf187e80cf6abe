"""Cluster files: the checks of Ray, and checks of cost and secrets that Ray does not make."""

import copy
import re
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import pytest
import yaml
from jsonschema import ValidationError
from ray.autoscaler._private.util import prepare_config, validate_config

from tests.study.commands import ROOT

File = dict[str, Any]
AWS, ONPREM, KUBERAY = "cluster.yaml", "clusters/onprem.yaml", "clusters/kuberay.yaml"


def load(name: str) -> File:
    file: File = next(yaml.safe_load_all((ROOT / name).read_text()))
    return file


def check_ray_up(file: File) -> None:
    """Check a file for `ray up`.

    Raises:
        AssertionError: when one of our checks fails; Ray raises others.
    """
    validate_config(prepare_config(copy.deepcopy(file)))
    setup = " ".join(file["setup_commands"])
    assert "export RAY_AUTH_MODE=token'" in setup
    assert file["file_mounts"]["~/.ray/auth_token"] == "~/.ray/auth_token"
    assert "chmod 600 ~/.ray/auth_token" in setup
    assert re.search(r"make \S+ ~/marl-study .* \$HOME/venv/.installed", setup), "the lock is what make installs"
    assert file["file_mounts"]["~/marl-study"] == "."
    assert "export RAY_worker_niceness=0'" in setup
    assert "RAY_enable_metrics_collection=0 AUTOSCALER_METRIC_PORT=-1 DASHBOARD_METRIC_PORT=-1'" in setup
    assert {".git/config", ".git/hooks"} <= set(file["rsync_exclude"])
    assert file["rsync_filter"] == [".gitignore"]
    assert any("marl-study compile" in command for command in file["worker_setup_commands"])
    head, worker = file["head_start_ray_commands"], file["worker_start_ray_commands"]
    for commands in (head, worker):
        assert commands[0] == "ray stop"
        (start,) = (command for command in commands if "ray start" in command)
        assert "unset OMP_NUM_THREADS" in start
        for option in ("node-manager", "object-manager", "runtime-env-agent", "dashboard-agent-grpc"):
            assert f"--{option}-port=638" in start
        assert "--dashboard-agent-listen-port=6384" in start
        assert "--include-log-monitor=false" in start
    assert "--dashboard-host=127.0.0.1" in head[1]
    assert "--autoscaling-config=~/ray_bootstrap_config.yaml" in head[1]
    assert not re.search(r"(?i)secret|password|access_key|auth_token=", yaml.safe_dump(file))


def check_aws(file: File) -> None:
    """Check what is specific to AWS."""
    types = file["available_node_types"]
    head = types[file["head_node_type"]]
    workers = [one for one in types.values() if one is not head]
    assert (head["max_workers"], head["resources"]) == (0, {"CPU": 0})
    assert "InstanceMarketOptions" not in head["node_config"]
    assert len({one["node_config"]["InstanceType"] for one in workers}) >= 3
    for worker in workers:
        assert worker["resources"]["GPU"] >= 1
        assert worker["min_workers"] == 0
        assert 0 < worker["max_workers"] <= file["max_workers"]
        assert worker["node_config"]["InstanceMarketOptions"] == {"MarketType": "spot"}
        assert worker["node_config"]["InstanceInitiatedShutdownBehavior"] == "terminate"
        assert worker["node_config"]["IamInstanceProfile"] == {"Name": "marl-study-worker"}
    assert head["node_config"]["IamInstanceProfile"] == {"Name": "marl-study-head"}
    for node in (one["node_config"] for one in types.values()):
        assert set(node) <= KEYS_OF_AN_INSTANCE
        assert re.fullmatch(r"[a-z0-9]+\.\w+", node["InstanceType"])
        assert node["ImageId"] == head["node_config"]["ImageId"]
        assert re.fullmatch(r"ami-[0-9a-f]{17}", node["ImageId"])
        # Ray would make a group that lets SSH in from anywhere for a machine without one.
        assert node["SecurityGroupIds"] == ["sg-00000000000000000"]
        assert node["MetadataOptions"] == {"HttpTokens": "required"}
        assert all(disk["Ebs"]["DeleteOnTermination"] for disk in node["BlockDeviceMappings"])
    assert "clusters/off_without_ray.sh" in file["worker_start_ray_commands"][-1]
    assert 0 < file["idle_timeout_minutes"] <= 5
    provider = file["provider"]
    assert set(provider) == {"type", "region", "availability_zone", "cache_stopped_nodes"}
    assert provider["cache_stopped_nodes"] is False
    assert all(zone.startswith(provider["region"]) for zone in provider["availability_zone"].split(","))


KEYS_OF_AN_INSTANCE = {
    *("InstanceType", "ImageId", "SecurityGroupIds", "IamInstanceProfile", "MetadataOptions"),
    *("InstanceMarketOptions", "InstanceInitiatedShutdownBehavior", "BlockDeviceMappings"),
}


def check_onprem(file: File) -> None:
    """Check what is specific to on-premise machines."""
    assert file["file_mounts"]["~/.aws/credentials"].startswith("~/")
    assert "chmod 600 ~/.ray/auth_token ~/.aws/credentials" in file["setup_commands"]
    assert file["head_start_ray_commands"][-1].startswith("export RAY_enable_autoscaler_v2=0;")
    assert "--num-cpus=0 --num-gpus=0" in file["head_start_ray_commands"][-1]
    assert set(file["provider"]) == {"type", "head_ip", "worker_ips"}


def check_kuberay(file: File) -> None:
    """Check the custom resource for KubeRay."""
    assert (file["apiVersion"], file["kind"]) == ("ray.io/v1", "RayCluster")
    spec = file["spec"]
    assert set(spec) == {
        *("rayVersion", "authOptions", "enableInTreeAutoscaling", "autoscalerOptions"),
        *("headGroupSpec", "workerGroupSpecs"),
    }
    assert spec["rayVersion"] == version("ray")
    assert spec["authOptions"] == {"mode": "token"}
    assert spec["enableInTreeAutoscaling"] is True
    assert spec["autoscalerOptions"]["version"] == "v2"
    assert 0 < spec["autoscalerOptions"]["idleTimeoutSeconds"] <= 300
    head, (worker,) = spec["headGroupSpec"], spec["workerGroupSpecs"]
    assert head["serviceType"] == "ClusterIP"
    assert head["rayStartParams"]["num-cpus"] == "0"
    assert head["rayStartParams"]["dashboard-host"] == "127.0.0.1"
    assert worker["minReplicas"] == 0 < worker["maxReplicas"]
    pods = [group["template"]["spec"] for group in (head, worker)]
    containers = [pod["containers"][0] for pod in pods]
    assert all(pod["restartPolicy"] == "Never" for pod in pods), "of autoscaler v2"
    assert containers[0]["image"] == containers[1]["image"]
    assert containers[1]["resources"]["limits"]["nvidia.com/gpu"] == 1
    assert "ray drain-node" in " ".join(containers[1]["lifecycle"]["preStop"]["exec"]["command"])
    assert any("marl-study compile" in " ".join(one["command"]) for one in pods[1]["initContainers"])
    for group, container in zip((head, worker), containers, strict=True):
        assert all(isinstance(value, str) for value in group["rayStartParams"].values())
        environment = {one["name"]: one for one in container["env"]}
        assert environment["RAY_worker_niceness"]["value"] == "0"
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            assert set(environment[name]["valueFrom"]) == {"secretKeyRef"}


@pytest.mark.parametrize("name", [AWS, ONPREM])
def test_cluster_files_pass_the_checks_of_ray_and_ours(name):
    check_ray_up(load(name))


def test_the_aws_file_starts_the_documented_machines_and_opens_only_ssh():
    check_aws(load(AWS))


def test_the_on_premise_file_reads_keys_from_files():
    check_onprem(load(ONPREM))


def test_the_kuberay_resource_requires_tokens_and_announces_preemption():
    check_kuberay(load(KUBERAY))


def replace_in(commands: str, old: str, new: str) -> Callable[[File], None]:
    def change(file: File) -> None:
        assert any(old in command for command in file[commands])
        file[commands] = [command.replace(old, new) for command in file[commands]]

    return change


def change_worker(**fields: Any) -> Callable[[File], None]:
    return lambda file: file["available_node_types"]["a10g"].update(fields)


def change_instance(kind: str, **fields: Any) -> Callable[[File], None]:
    def change(file: File) -> None:
        node = dict(file["available_node_types"][kind]["node_config"], **fields)
        file["available_node_types"][kind]["node_config"] = {key: value for key, value in node.items() if value}

    return change


COMMON_MISTAKES: dict[str, Callable[[File], None]] = {
    "a field that Ray does not know": lambda file: file.update(min_workers_=1),
    "no token": replace_in("setup_commands", "RAY_AUTH_MODE=token", "RAY_AUTH_MODE=disabled"),
    "no token file": lambda file: file["file_mounts"].pop("~/.ray/auth_token"),
    "a token that others may read": replace_in("setup_commands", "chmod 600", "chmod 644"),
    "not the lock": replace_in("setup_commands", "make -C", "pip install -e"),
    "other code": lambda file: file["file_mounts"].update({"~/marl-study": "../other"}),
    "passwords of a git remote": lambda file: file.update(rsync_exclude=[]),
    "the environment and all studies": lambda file: file.update(rsync_filter=[]),
    "workers of low priority": replace_in("setup_commands", "niceness=0", "niceness=15"),
    "metrics open to all": replace_in("setup_commands", "DASHBOARD_METRIC_PORT=-1", "DASHBOARD_METRIC_PORT=44227"),
    "a dashboard open to all": replace_in("head_start_ray_commands", "127.0.0.1", "0.0.0.0"),
    "no autoscaler": replace_in("head_start_ray_commands", "--autoscaling-config", "--x"),
    "one thread for a whole worker": replace_in("worker_start_ray_commands", "unset OMP_NUM_THREADS;", ""),
    "a port by chance": replace_in("worker_start_ray_commands", "--node-manager-port=6380", ""),
    "a process that outlives the head": replace_in("worker_start_ray_commands", "--include-log-monitor=false", ""),
    "cold workers": lambda file: file.update(worker_setup_commands=[]),
    "a key in a command": lambda file: file["setup_commands"].append("export AWS_SECRET_ACCESS_KEY=abc"),
}
AWS_MISTAKES: dict[str, Callable[[File], None]] = {
    "workers of the head's type": lambda file: file["available_node_types"]["head"].update(max_workers=1),
    "trials on the head": lambda file: file["available_node_types"]["head"].update(resources={}),
    "a head that may be reclaimed": change_instance("head", InstanceMarketOptions={"MarketType": "spot"}),
    "spot spelled wrong": change_instance("a10g", InstanceMarketOptions={"MarketType": "sport"}),
    "not spot": change_instance("a10g", InstanceMarketOptions=None),
    "an unknown key": change_instance("a10g", SpotPrice="1"),
    "no instance type": change_instance("a10g", InstanceType=""),
    "no image": change_instance("a10g", ImageId=""),
    "another image": change_instance("a10g", ImageId="ami-11111111111111111"),
    "no role": change_instance("a10g", IamInstanceProfile=None),
    "the head's role": change_instance("a10g", IamInstanceProfile={"Name": "marl-study-head"}),
    "metadata for any web request": change_instance("a10g", MetadataOptions=None),
    "disks that stay": change_instance("l4", BlockDeviceMappings=[{"Ebs": {"DeleteOnTermination": False}}]),
    "a worker without a GPU": change_worker(resources={"CPU": 4}),
    "a worker that always runs": change_worker(min_workers=1),
    "more workers than allowed": change_worker(max_workers=9),
    "one instance type": lambda file: [file["available_node_types"].pop(kind) for kind in ("l4", "l40s")],
    "workers that stay when the head is lost": replace_in("worker_start_ray_commands", "off_without_ray", "x"),
    "a shutdown that is none": change_instance("l4", InstanceInitiatedShutdownBehavior="stop"),
    "idle for long": lambda file: file.update(idle_timeout_minutes=60),
    "stopped, not terminated": lambda file: file["provider"].update(cache_stopped_nodes=True),
    "SSH from anywhere": change_instance("a10g", SecurityGroupIds=None),
    "a group that Ray makes": lambda file: file["provider"].update(security_group={"GroupName": "marl-study"}),
    "an unknown key of the provider": lambda file: file["provider"].update(zone="a"),
    "zones of another region": lambda file: file["provider"].update(region="eu-west-1"),
}
ONPREM_MISTAKES: dict[str, Callable[[File], None]] = {
    "keys elsewhere": lambda file: file["file_mounts"].pop("~/.aws/credentials"),
    "keys that others may read": replace_in("setup_commands", " ~/.aws/credentials", ""),
    "the autoscaler that starts one too few": replace_in("head_start_ray_commands", "v2=0", "v2=1"),
    "trials on the head": replace_in("head_start_ray_commands", "--num-cpus=0", ""),
}
KUBERAY_MISTAKES: dict[str, Callable[[File], None]] = {
    "no token": lambda file: file["spec"].pop("authOptions"),
    "another version of Ray": lambda file: file["spec"].update(rayVersion="2.10.0"),
    "no autoscaler": lambda file: file["spec"].update(enableInTreeAutoscaling=False),
    "a dashboard for all": lambda file: file["spec"]["headGroupSpec"]["rayStartParams"].pop("dashboard-host"),
    "open to the world": lambda file: file["spec"]["headGroupSpec"].update(serviceType="LoadBalancer"),
    "no warning": lambda file: _container(file).pop("lifecycle"),
    "a key as it is": lambda file: _container(file)["env"].append({"name": "AWS_ACCESS_KEY_ID", "value": "abc"}),
    "no GPU": lambda file: _container(file)["resources"]["limits"].pop("nvidia.com/gpu"),
    "pods that come back": lambda file: _pod(file).update(restartPolicy="Always"),
    "cold workers": lambda file: _pod(file).update(initContainers=[]),
}


def _pod(file: File) -> File:
    pod: File = file["spec"]["workerGroupSpecs"][0]["template"]["spec"]
    return pod


def _container(file: File) -> File:
    container: File = _pod(file)["containers"][0]
    return container


MISTAKES = [
    *((name, what, check_ray_up) for name in (AWS, ONPREM) for what in COMMON_MISTAKES.items()),
    *((AWS, what, check_aws) for what in AWS_MISTAKES.items()),
    *((ONPREM, what, check_onprem) for what in ONPREM_MISTAKES.items()),
    *((KUBERAY, what, check_kuberay) for what in KUBERAY_MISTAKES.items()),
]


@pytest.mark.parametrize(
    ("name", "mistake", "check"),
    [pytest.param(name, change, check, id=f"{name}: {what}") for name, (what, change), check in MISTAKES],
)
def test_mistakes_in_cluster_files_are_detected(name, mistake, check):
    file = load(name)
    mistake(file)
    with pytest.raises((AssertionError, KeyError, ValidationError)):
        check(file)
