"""A study on a cluster of three hosts: launched over SSH, spread over two workers, one of which dies half way."""

import time

import pytest

from study.results import StudyResults
from tests.cluster.onprem import Cluster
from tests.cluster.studies import StudyOnCluster, assert_same_study, grid, run_alone

pytestmark = [pytest.mark.slow, pytest.mark.cluster, pytest.mark.timeout(1200)]


@pytest.fixture(scope="module")
def alone(tmp_path_factory) -> StudyResults:
    return run_alone(tmp_path_factory.mktemp("alone"), grid())


def test_a_study_survives_the_death_of_a_worker_and_has_the_values_of_one_machine(
    quiet_cluster, alone, tmp_path, monkeypatch
):
    cluster = quiet_cluster
    for name, value in cluster.s3.environment.items():
        monkeypatch.setenv(name, value)
    cluster.up()
    study = StudyOnCluster(cluster, grid(), tmp_path)
    study.launch()
    study.wait_until_trained_on({1, 2})
    study.wait_until_complete(1)
    before, since = study.complete(), time.time()
    cluster.hosts.power_off(2)
    study.wait_until_over()

    assert list(study.results.launches) == [1]
    assert len(before) < study.results.target
    assert_same_study(study.results, alone)
    print(f"a worker dead: the study went on {study.seconds_to_go_on(since):.0f} s later")  # noqa: T201  # with -s

    secrets = [cluster.token, *(value for name, value in cluster.s3.environment.items() if "KEY" in name)]
    places = {**logs_of(cluster), **objects_of(study), "processes": "\n".join(cluster.hosts.processes(0))}
    assert [where for where, text in places.items() if any(secret in text for secret in secrets)] == []
    cluster.hosts.power_on(2)
    cluster.down()


def logs_of(cluster: Cluster) -> dict[str, str]:
    """All that Ray has written on the hosts, its jobs' metadata and output among it."""
    found = {}
    for host in range(cluster.hosts.count):
        for path in (cluster.hosts.folder / str(host) / "tmp" / "ray").rglob("*"):
            if path.is_file() and not path.is_symlink():
                found[f"host {host} {path}"] = path.read_bytes().decode(errors="replace")
    return {**found, "jobs": cluster.hosts.shell(0, "ray job list --log-style=record")}


def objects_of(study: StudyOnCluster) -> dict[str, str]:
    """All that a study has written."""
    names = study.store.objects.names(study.name)
    return {name: study.store.objects.read(name).decode(errors="replace") for name in names}
