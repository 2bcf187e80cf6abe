"""One cluster with the shipped cluster file, from `ray up` over SSH to `ray down`: access control, and a study."""

import re
import time

import pytest

from study.analysis import StudyResults
from tests.cluster.hosts import hosts
from tests.cluster.onprem import Cluster, wait_until
from tests.cluster.studies import StudyOnCluster, grid, run_alone
from tests.study.commands import ROOT
from tests.study.stores import assert_same_values

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

OF_EVERY_NODE = {22, 6380, 6381, 6382, 6383, 6384}
OF_THE_HEAD = {6379, 6385}
OF_WORKER_PROCESSES = range(10002, 20000)
"""docs/cluster.md says what each is for."""

_ASK_THE_HEAD = """
import sys
from ray._raylet import GcsClient
from ray.exceptions import AuthenticationError
try:
    GcsClient(address=sys.argv[1]).internal_kv_keys(b"", None, timeout=10)
    print("answered")
except AuthenticationError:
    print("refused")
"""
_A_PROCESS_ON_EVERY_NODE = """
import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy
ray.init("auto", namespace="scan", logging_level="ERROR", log_to_driver=False)

@ray.remote(num_cpus=0)
class Process:
    def here(self):
        return ray.util.get_node_ip_address()

for node in ray.nodes():
    where = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
    process = Process.options(lifetime="detached", name=node["NodeID"], scheduling_strategy=where).remote()
    print(ray.get(process.here.remote()))
"""


@pytest.fixture(scope="module")
def alone(tmp_path_factory) -> StudyResults:
    return run_alone(tmp_path_factory.mktemp("alone"), grid())


def test_a_cluster_starts_over_ssh_with_the_files_of_a_study(cluster: Cluster):
    everywhere = range(cluster.hosts.count)
    assert cluster.nodes() == set(everywhere)
    for host in everywhere:
        mounted = cluster.hosts.shell(host, "cd ~/marl-study && find . -type f").split()
        assert set(mounted) == {"./tradeoff.yaml", "./.gitignore"}


def test_ports_are_those_that_the_documents_name_and_only_the_token_lets_in(cluster: Cluster):
    everywhere = range(cluster.hosts.count)
    on = cluster.python(0, _A_PROCESS_ON_EVERY_NODE).split()
    assert sorted(on) == [cluster.hosts.address(host) for host in everywhere]
    for host in everywhere:
        meant = OF_EVERY_NODE | (OF_THE_HEAD if host == 0 else set())
        found = open_ports(cluster, host, seen_from=(host + 1) % len(everywhere))
        assert {port for port in found if port not in OF_WORKER_PROCESSES} == meant
        assert found - meant, "the process on this node listens, too"

    assert_only_the_token_lets_in(cluster)
    for host in everywhere:
        told = "\n".join(cluster.hosts.processes(host))
        assert cluster.token not in told
        assert cluster.environment["AWS_SECRET_ACCESS_KEY"] not in told


@pytest.mark.nightly
def test_a_study_survives_the_death_of_a_worker_and_has_the_values_of_one_machine(
    cluster: Cluster, alone, tmp_path, monkeypatch
):
    for name, value in cluster.s3.environment.items():
        monkeypatch.setenv(name, value)
    study = StudyOnCluster(cluster, grid(), tmp_path)
    study.launch()
    study.wait_until_trained_on({1, 2})
    study.wait_until_complete(1)
    before, since = study.complete(), time.time()
    cluster.hosts.power_off(2)
    study.wait_until_over()
    cluster.hosts.power_on(2)

    assert list(study.results.runs) == [1]
    assert len(before) < study.results.target
    assert_same_values(study.results, alone)
    print(f"a worker dead: the study went on {study.seconds_to_go_on(since):.0f} s later")  # noqa: T201  # with -s

    secrets = [cluster.token, *(value for name, value in cluster.s3.environment.items() if "KEY" in name)]
    places = {**logs_of(cluster), **objects_of(study), "processes": "\n".join(cluster.hosts.processes(0))}
    assert [where for where, text in places.items() if any(secret in text for secret in secrets)] == []


@pytest.mark.nightly
def test_no_process_is_left_after_ray_down(cluster: Cluster):
    assert cluster.hosts.processes(0)
    cluster.down()
    assert [cluster.hosts.processes(host) for host in range(cluster.hosts.count)] == [[], [], []]


def test_a_machine_without_ray_shuts_itself_down_and_one_with_ray_does_not(hosts_can_be_made):
    with hosts(1) as made:
        script = (ROOT / "clusters/off_without_ray.sh").read_text()
        made.write(0, "off.sh", script)
        made.write(0, "sudo", "#!/bin/bash\necho $* >> /tmp/asked\n")  # instead of a real shutdown
        # pgrep looks for programs by this name.
        made.run(
            0, "bash", "-c", "cp /bin/sleep /tmp/raylet; chmod +x /tmp/sudo; setsid /tmp/raylet 1000 > /dev/null 2>&1 &"
        )
        for _ in range(2):
            made.run(0, "bash", "-c", "PATH=/tmp:$PATH setsid bash /tmp/off.sh 0.1 > /dev/null 2>&1 &")

        asked = made.folder / "0/tmp/asked"
        made.run(0, "sleep", "3")
        assert not asked.exists()
        # A child of the script has its command line, until it becomes `sleep` or `pgrep`.
        wait_until(lambda: sum("off.sh" in line for line in made.processes(0)) == 1, 30, "one script alone")
        made.kill(0, "/tmp/raylet")
        wait_until(asked.exists, 30, "a shutdown")
        assert asked.read_text() == "shutdown -h now\n"


def open_ports(cluster: Cluster, host: int, seen_from: int) -> set[int]:
    """Return all TCP ports of a host to which another one can connect."""
    scan = cluster.hosts.run(seen_from, "nmap", "-n", "-Pn", "-p-", "-oG", "-", cluster.hosts.address(host)).stdout
    return {int(port) for port in re.findall(r"(\d+)/open/tcp", scan)}


def assert_only_the_token_lets_in(cluster: Cluster) -> None:
    head = f"{cluster.hosts.address(0)}:6379"
    cluster.hosts.write(1, "ask.py", _ASK_THE_HEAD)
    ask = f"python /tmp/ask.py {head}"
    assert cluster.hosts.shell(1, ask).strip() == "answered"
    assert cluster.hosts.shell(1, f"RAY_AUTH_MODE=disabled {ask}").strip() == "refused"
    assert cluster.hosts.shell(1, f"RAY_AUTH_TOKEN={'0' * 64} {ask}").strip() == "refused"

    jobs = "curl --silent --output /dev/null --write-out '%{http_code}' http://127.0.0.1:8265/api/jobs/"
    with_token = '--header "Authorization: Bearer $(cat ~/.ray/auth_token)"'
    assert cluster.hosts.shell(0, f"{jobs} {with_token}") == "200"
    assert cluster.hosts.shell(0, jobs) == "401"
    assert cluster.hosts.shell(0, f"{jobs} --header 'Authorization: Bearer {'0' * 64}'") == "403"


def logs_of(cluster: Cluster) -> dict[str, str]:
    """Return all files that Ray has written on the hosts, including metadata and output of jobs."""
    found = {}
    for host in range(cluster.hosts.count):
        for path in (cluster.hosts.folder / str(host) / "tmp" / "ray").rglob("*"):
            if path.is_file() and not path.is_symlink():
                found[f"host {host} {path}"] = path.read_bytes().decode(errors="replace")
    return {**found, "jobs": cluster.hosts.shell(0, "ray job list --log-style=record")}


def objects_of(study: StudyOnCluster) -> dict[str, str]:
    """Return all objects of a study."""
    names = study.store.objects.names(study.name)
    return {name: study.store.objects.read(name).decode(errors="replace") for name in names}
