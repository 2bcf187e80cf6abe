"""Where a study is launched; the jobs themselves are tested on clusters."""

import pytest
import yaml

from tests.messages import assert_mentions
from tests.study.commands import TINY


@pytest.fixture
def spec_path(tmp_path):
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump(TINY))
    return path


def test_a_cluster_is_named_once(cli, spec_path):
    outcome = cli("run", spec_path, "--cluster", "cluster.yaml", "--address", "auto")
    assert outcome.status == 2
    assert_mentions(outcome.err, "--address", "--cluster")


@pytest.mark.parametrize("command", ["run", "resume"])
def test_machines_of_a_cluster_need_a_store_that_all_of_them_see(cli, spec_path, command):
    outcome = cli(command, spec_path if command == "run" else "tiny", "--address", "auto", "--store", "runs")
    assert outcome.status == 2
    assert_mentions(outcome.err, "--store", "machines", "got runs")


def test_a_wrong_spec_is_refused_here_before_a_cluster_is_asked(cli, tmp_path):
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump({**TINY, "replicates": 0}))
    outcome = cli("run", path, "--cluster", tmp_path / "cluster.yaml")
    assert outcome.status == 2
    assert_mentions(outcome.err, "replicates", 0)


def test_a_missing_cluster_file_is_named(cli, spec_path, tmp_path):
    outcome = cli("run", spec_path, "--cluster", tmp_path / "no.yaml")
    assert outcome.status == 2
    assert_mentions(outcome.err, tmp_path / "no.yaml")


def test_a_cluster_that_does_not_answer_is_named(cli, spec_path):
    outcome = cli("run", spec_path, "--address", "http://127.0.0.1:1", "--store", "s3://studies")
    assert outcome.status == 2
    assert_mentions(outcome.err, "cluster", "http://127.0.0.1:1")


def test_a_head_that_does_not_answer_is_named(cli, spec_path, tmp_path):
    outcome = cli("run", spec_path, "--address", "127.0.0.1:1", "--store", tmp_path / "runs")
    assert outcome.status == 1
    assert_mentions(outcome.err, "cluster", "127.0.0.1:1")
