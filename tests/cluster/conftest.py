"""A cluster of three hosts. Its tests are skipped if hosts cannot be created; in CI a missing package fails them."""

import os
from collections.abc import Iterator

import pytest

from tests.cluster.hosts import absent_packages, available
from tests.cluster.onprem import Cluster, cluster_on_hosts


@pytest.fixture(scope="session")
def hosts_can_be_made() -> None:
    """Skip the test, or fail it in CI, if hosts cannot be created here."""
    reason = available()
    if reason is not None:
        is_ours_to_mend = os.environ.get("CI") and absent_packages()
        pytest.fail(reason) if is_ours_to_mend else pytest.skip(reason)


@pytest.fixture(scope="module")
def cluster(hosts_can_be_made: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A running Ray with one head, two workers and a store, shared by the tests of a module."""
    with cluster_on_hosts(tmp_path_factory.mktemp("cluster")) as made:
        made.up()
        yield made
