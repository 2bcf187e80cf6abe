"""Real faults on a cluster. docs/reliability.md has their losses and recovery times.

Each test prints a line of that table; `make cluster-test` shows them.
"""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from study.analysis import StudyResults
from tests.cluster.onprem import Cluster, cluster_on_hosts, wait_until
from tests.cluster.studies import StudyOnCluster, grid, run_alone
from tests.study.stores import assert_same_values

pytestmark = [pytest.mark.nightly, pytest.mark.timeout(1800)]

# Long enough that a fault hits a partly complete study, and that the trainers notice an announced preemption.
STEPS, GAMMAS = 2000, (0.1, 0.3, 1.0, 3.0, 10.0)
METADATA_SERVICE = Path(__file__).with_name("metadata_service.py")


@pytest.fixture(scope="module")
def alone(tmp_path_factory) -> StudyResults:
    return run_alone(tmp_path_factory.mktemp("alone"), grid(steps=STEPS, gammas=GAMMAS))


@pytest.fixture(scope="module")
def cluster(hosts_can_be_made, tmp_path_factory) -> Iterator[Cluster]:
    """A cluster whose host 2 is a spot instance."""
    with cluster_on_hosts(tmp_path_factory.mktemp("cluster")) as made:
        made.file.write_text(made.file.read_text().replace("METADATA_DISABLED=true", "METADATA_DISABLED=false"))
        made.up()
        yield made


@pytest.fixture
def study(cluster: Cluster, tmp_path, monkeypatch, request) -> Iterator[StudyOnCluster]:
    """A partly complete study that trains on both workers. Hosts without power get it back after the test."""
    for name, value in cluster.s3.environment.items():
        monkeypatch.setenv(name, value)
    cluster.wait_for_nodes(3)
    made = StudyOnCluster(cluster, grid(request.function.__name__.removeprefix("test_"), STEPS, GAMMAS), tmp_path)
    made.launch()
    made.wait_until_trained_on({1, 2})
    made.wait_until_complete(1)
    yield made
    for host in (1, 2):
        if cluster.hosts.run(host, "true", check=False).returncode:
            cluster.hosts.power_on(host)


def say(what: str, study: StudyOnCluster, complete_before: int, since: float) -> None:
    goes_on_s = study.seconds_to_go_on(since)
    print(f"\n{what}: {complete_before} trials complete before, as they were after; goes on in {goes_on_s:.0f} s")  # noqa: T201


def assert_nothing_was_lost(study: StudyOnCluster, before, alone: StudyResults) -> None:
    after = study.complete().set_index("trial")
    for row in before.to_dict("records"):  # the same row of the same run: it was not trained again
        assert after.loc[row["trial"], "time"] == row["time"]
    assert_same_values(study.results, alone)


def test_raylet_killed(cluster, study, alone):
    before, since = study.complete(), time.time()
    cluster.hosts.kill(2, "raylet/raylet")
    study.wait_until_over()
    assert_nothing_was_lost(study, before, alone)
    say("raylet of a worker killed", study, len(before), since)


def test_worker_without_power(cluster, study, alone):
    before, since = study.complete(), time.time()
    cluster.hosts.power_off(2)
    study.wait_until_over()
    assert_nothing_was_lost(study, before, alone)
    say("a worker lost its power", study, len(before), since)


def test_cable_pulled_for_30_s(cluster, study, alone):
    before, since = study.complete(), time.time()
    cluster.hosts.cut(2)
    time.sleep(30)
    cluster.hosts.join(2)
    study.wait_until_over()
    assert_nothing_was_lost(study, before, alone)
    say("cable of a worker pulled for 30 s", study, len(before), since)


@pytest.fixture
def spot_instance(cluster: Cluster) -> None:
    """Run a metadata service on host 2 until it loses power."""
    cluster.hosts.run(2, "bash", "-c", f"setsid python3 {METADATA_SERVICE} serve </dev/null >/dev/null 2>&1 &")


def test_spot_loss_announced(cluster, spot_instance, study, alone):
    before, since = study.complete(), time.time()
    cluster.hosts.run(2, "python3", METADATA_SERVICE, "announce")
    wait_until(lambda: any("is about to be reclaimed" in line for line in study.lines()), 60, "the trials to leave")
    left_s = time.time() - since
    running = study.results.trials().query("state == 'running'")["trial"]
    kept = {trial for trial in running if study.store.latest_checkpoint(trial, 0) is not None}
    cluster.hosts.power_off(2)
    study.wait_until_over()
    assert_nothing_was_lost(study, before, alone)
    assert kept, "no checkpoint was written before the machine went"
    say(f"spot loss announced, trials gone with checkpoints after {left_s:.0f} s", study, len(before), since)


def test_driver_killed_and_resumed_on_another_host(cluster, study, alone):
    before, since = study.complete(), time.time()
    cluster.hosts.kill(0, "marl-study run")
    told = cluster.hosts.shell(1, f"marl-study resume {study.name} 2>&1", check=False)
    assert "is already running as run 1" in told  # the other host cannot know that it is dead
    wait_until(lambda: not study.results.is_live, 120, "the dead driver to be taken for dead")
    cluster.hosts.shell(1, f"marl-study resume {study.name}", timeout_s=600)
    assert len(study.results.runs) == 2
    assert_nothing_was_lost(study, before, alone)
    say("driver killed, resumed on another host from the store alone", study, len(before), since)


def test_head_lost_and_a_new_cluster(cluster, study, alone):
    before, since = study.complete(), time.time()
    for host in range(3):
        cluster.hosts.reboot(host)
    cluster.up()
    wait_until(lambda: not study.results.is_live, 120, "the dead driver to be taken for dead")
    study.resume()
    study.wait_until_over()
    assert_nothing_was_lost(study, before, alone)
    say("head and all else lost, new cluster", study, len(before), since)
