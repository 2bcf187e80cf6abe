"""Where a study is launched; the jobs themselves are tested on clusters."""

import pytest
import yaml

from tests.study.commands import TINY


@pytest.fixture
def spec_path(tmp_path):
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump(TINY))
    return path


def test_a_cluster_is_named_once(cli, spec_path):
    outcome = cli("run", spec_path, "--cluster", "cluster.yaml", "--address", "auto")
    assert outcome.status == 2
    assert "--address and --cluster: one of them" in outcome.err


@pytest.mark.parametrize("command", ["run", "resume"])
def test_machines_of_a_cluster_need_a_store_that_all_of_them_see(cli, spec_path, command):
    outcome = cli(command, spec_path if command == "run" else "tiny", "--address", "auto", "--store", "runs")
    assert outcome.status == 2
    assert "--store: machines of a cluster need one that all of them see" in outcome.err
    assert "got runs" in outcome.err


def test_a_wrong_spec_is_refused_here_before_a_cluster_is_asked(cli, tmp_path):
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump({**TINY, "replicates": 0}))
    outcome = cli("run", path, "--cluster", tmp_path / "cluster.yaml")
    assert outcome.status == 2
    assert "replicates" in outcome.err


def test_a_cluster_file_that_is_not_there_is_named(cli, spec_path, tmp_path):
    outcome = cli("run", spec_path, "--cluster", tmp_path / "no.yaml")
    assert outcome.status == 2
    assert f"there is no file {tmp_path / 'no.yaml'}" in outcome.err


def test_a_cluster_that_does_not_answer_is_named(cli, spec_path):
    outcome = cli("run", spec_path, "--address", "http://127.0.0.1:1", "--store", "s3://studies")
    assert outcome.status == 2
    assert "no cluster answers at http://127.0.0.1:1" in outcome.err


def test_a_head_that_does_not_answer_is_named(cli, spec_path, tmp_path):
    outcome = cli("run", spec_path, "--address", "127.0.0.1:1", "--store", tmp_path / "runs")
    assert outcome.status == 1
    assert "no cluster answers at 127.0.0.1:1" in outcome.err
