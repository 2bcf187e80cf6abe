"""Studies that a process on a cluster runs: what is sent there, and what the user reads."""

import io
from pathlib import Path

import pytest
from rich.console import Console

import study
from study.errors import UserError, command_line
from study.runs.destination import Destination
from study.spec.resolve import read_spec
from tests.messages import assert_mentions, mentions


@pytest.fixture
def sent(monkeypatch):
    """Commands that were sent to a cluster, with the spec of their file."""
    commands = []

    def send(place, arguments, files, log=None):
        commands.append((place, *arguments, *map(read_spec, files)))

    monkeypatch.setattr("study.runs.ray_cluster.run_on_head", send)
    monkeypatch.setattr("study.runs.ray_cluster.submit_job", send)
    return commands


def test_a_spec_is_sent_to_the_cluster_as_it_was_resolved(tiny, sent, tmp_path):
    changed = read_spec(tiny, {"train.steps": 60}, trials=7)
    started = study.run(
        tiny, overrides={"train.steps": 60}, trials=7, store=tmp_path, address="http://head:8265", progress=False
    )
    assert sent == [("http://head:8265", "run", "tiny.yaml", "--store", str(tmp_path), changed)]
    assert started.uri == f"{tmp_path}/tiny"


def test_the_default_store_of_this_machine_is_not_that_of_the_cluster(sent):
    study.resume("tiny", store="runs", trials=9, cluster="cluster.yaml", progress=False)
    assert sent == [(Path("cluster.yaml"), "resume", "tiny", "--trials", "9")]


@pytest.mark.parametrize(("context", "call"), [(True, "marl-study status tiny"), (False, 'study.open("tiny", store=')])
def test_the_user_is_told_how_to_follow_the_study(tiny, sent, tmp_path, context, call):
    console = Console(file=io.StringIO(), width=500)
    destination = Destination("http://head:8265", None, str(tmp_path))
    if context:
        with command_line():
            destination.run(read_spec(tiny), console)
    else:
        destination.run(read_spec(tiny), console)
    assert_mentions(console.file.getvalue(), call, "marl-study stop tiny")


def test_a_cluster_needs_one_name_and_a_store_that_it_can_reach():
    with pytest.raises(UserError, match=mentions("address and cluster", "auto", "c.yaml")):
        Destination("auto", Path("c.yaml"), "s3://bucket")
    with command_line(), pytest.raises(UserError, match=mentions("--store:", "runs")):
        Destination("auto", None, "runs")
