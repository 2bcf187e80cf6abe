"""`ray up` and `ray down` over SSH, with the cluster file that is shipped, and who is let in meanwhile."""

import re

import pytest

from tests.cluster.hosts import hosts
from tests.cluster.onprem import Cluster, wait_until
from tests.study.commands import ROOT

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.timeout(900)]

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


def test_a_cluster_comes_up_over_ssh_with_tokens_and_nothing_is_left_after_ray_down(quiet_cluster: Cluster):
    cluster = quiet_cluster
    cluster.up()
    hosts = range(cluster.hosts.count)

    assert cluster.nodes() == set(hosts)
    for host in hosts:
        mounted = cluster.hosts.shell(host, "cd ~/marl-study && find . -type f").split()
        assert set(mounted) == {"./studies/tradeoff.yaml", "./.gitignore"}

    everywhere = cluster.python(0, _A_PROCESS_ON_EVERY_NODE).split()
    assert sorted(everywhere) == [cluster.hosts.address(host) for host in hosts]
    for host in hosts:
        meant = OF_EVERY_NODE | (OF_THE_HEAD if host == 0 else set())
        found = open_ports(cluster, host, seen_from=(host + 1) % len(hosts))
        assert {port for port in found if port not in OF_WORKER_PROCESSES} == meant
        assert found - meant, "the process on this node listens, too"

    assert_only_the_token_lets_in(cluster)
    for host in hosts:
        told = "\n".join(cluster.hosts.processes(host))
        assert cluster.token not in told
        assert cluster.environment["AWS_SECRET_ACCESS_KEY"] not in told

    cluster.down()
    assert [cluster.hosts.processes(host) for host in hosts] == [[], [], []]


def test_a_machine_without_ray_shuts_itself_down_and_one_with_ray_does_not(hosts_can_be_made):
    with hosts(1) as made:
        script = (ROOT / "clusters/off_without_ray.sh").read_text()
        made.write(0, "off.sh", script)
        made.write(0, "sudo", "#!/bin/bash\necho $* >> /tmp/asked\n")  # a host of tests is not to be shut down
        # pgrep looks for programs by this name.
        made.run(
            0, "bash", "-c", "cp /bin/sleep /tmp/raylet; chmod +x /tmp/sudo; setsid /tmp/raylet 1000 > /dev/null 2>&1 &"
        )
        for _ in range(2):
            made.run(0, "bash", "-c", "PATH=/tmp:$PATH setsid bash /tmp/off.sh 0.1 > /dev/null 2>&1 &")

        asked = made.folder / "0/tmp/asked"
        made.run(0, "sleep", "3")
        assert not asked.exists()
        assert len([line for line in made.processes(0) if "off.sh" in line]) == 1
        made.kill(0, "/tmp/raylet")
        wait_until(asked.exists, 30, "a shutdown")
        assert asked.read_text() == "shutdown -h now\n"


def open_ports(cluster: Cluster, host: int, seen_from: int) -> set[int]:
    """All TCP ports of a host that another one can connect to."""
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
