"""A cluster of three hosts. Where hosts cannot be made, tests that take it are skipped; in CI they fail for want of a
package, though not where namespaces are not permitted.
"""

import os
from collections.abc import Iterator

import pytest

from tests.cluster.hosts import absent_packages, available
from tests.cluster.onprem import Cluster, cluster_on_hosts


@pytest.fixture(scope="session")
def hosts_can_be_made() -> None:
    """Without it a test of this folder says why it cannot run."""
    reason = available()
    if reason is not None:
        is_ours_to_mend = os.environ.get("CI") and absent_packages()
        pytest.fail(reason) if is_ours_to_mend else pytest.skip(reason)


@pytest.fixture(scope="module")
def cluster(hosts_can_be_made: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """One head, two workers and a store, which the tests of a module share, with Ray running."""
    with cluster_on_hosts(tmp_path_factory.mktemp("cluster")) as made:
        made.up()
        yield made
