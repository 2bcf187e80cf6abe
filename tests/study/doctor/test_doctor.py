"""All checks in order, of this machine and of a cluster, as the command shows them."""

import json
import os
import re
import socket
import subprocess
import sys
from contextlib import contextmanager

import pytest

from marl.objective import ActiveTerms
from study.doctor import TYPICAL
from study.doctor.checks import Finding, render_finding
from study.spec.resolve import read_spec
from tests.messages import assert_mentions
from tests.study.commands import run_command

# Other programs on this machine can make these checks fail, so tests ignore them.
_OF_OTHERS = ("ports", "memory", "disk")


def by_check(outcome):
    found = {}
    for one in json.loads(outcome.out):
        found.setdefault(one["check"], []).append(one)
    return found


def test_without_a_spec_networks_and_batches_are_those_of_the_quickstart():
    quickstart = read_spec("quickstart")
    plans = [spec.stack_plan(lanes=8) for spec in (TYPICAL, quickstart)]
    assert plans[0] == plans[1]
    assert plans[0].architecture(TYPICAL.audio, TYPICAL.network_config) == plans[1].architecture(
        quickstart.audio, quickstart.network_config
    )
    assert TYPICAL.spec.train.batch_pairs == quickstart.spec.train.batch_pairs
    assert set(ActiveTerms.of_all(TYPICAL.candidates).contrasts) == set(
        ActiveTerms.of_all(quickstart.candidates).contrasts
    )


@pytest.mark.slow
def test_this_machine_passes_without_ray(cli, spec_file, tiny, tmp_path):
    outcome = cli("doctor", spec_file(tiny), "--store", tmp_path / "runs", "--json")
    found = by_check(outcome)
    assert list(found) == ["store", "throughput", "room", "versions", "lock", "memory", "disk", "ports", "stack"]
    verdicts = {name: one["verdict"] for name, (one, *_) in found.items() if name not in _OF_OTHERS}
    assert set(verdicts.values()) == {"pass"}, outcome.out
    assert_mentions(found["stack"][0]["value"], "trial-steps/s", "4 lanes")
    assert all(one["advice"] for some in found.values() for one in some if one["verdict"] != "pass")


def test_one_failure_is_status_1_and_the_rest_is_examined_all_the_same(cli, stack_passes, spec_file, tiny, tmp_path):
    (tmp_path / "file").write_text("")
    outcome = cli("doctor", spec_file(tiny), "--store", tmp_path / "file" / "runs")
    assert outcome.status == 1
    first, *_ = outcome.out.splitlines()
    assert first.startswith("fail  store ")
    assert_mentions(outcome.out, "→")
    assert "\npass  stack " in outcome.out
    assert_mentions(outcome.err, "checks failed")


def test_a_store_of_an_unknown_kind_and_a_dashboards_address_are_the_users_mistake(cli, tmp_path):
    outcome = cli("doctor", "--store", "ftp://bucket")
    assert (outcome.status, outcome.out) == (2, "")
    outcome = cli("doctor", "--store", tmp_path, "--address", "http://head:8265")
    assert outcome.status == 2
    assert_mentions(outcome.err, "'http://head:8265'")


# A cluster of one machine; it goes when its input ends.
_CLUSTER = """
import ray, sys
from study.runs.ray_cluster import ray_session
with ray_session(None):
    print(ray.get_runtime_context().gcs_address, flush=True)
    sys.stdin.read()
"""


@contextmanager
def cluster():
    """A Ray of another process; gives its address."""
    command = [sys.executable, "-c", _CLUSTER]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        yield process.stdout.readline().strip()
    finally:
        process.communicate(timeout=60)


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A home without a token."""
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in [name for name in os.environ if name.startswith(("RAY_", "TUNE_"))]:
        monkeypatch.delenv(name)
    return tmp_path


@pytest.mark.slow
def test_every_machine_of_a_cluster_is_examined_by_a_task_of_its_own(home, spec_file, tiny, monkeypatch):
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    with cluster() as address:
        outcome = run_command("doctor", spec_file(tiny), "--store", home / "runs", "--address", address, "--json")
    found = by_check(outcome)
    verdicts = {name: {one["verdict"] for one in some} for name, some in found.items() if name not in _OF_OTHERS}
    assert set().union(*verdicts.values()) == {"pass"}, outcome.out
    assert {"store", "room", "versions", "lock", "token", "clock", "stack"} <= verdicts.keys()
    host = [socket.gethostname()]
    assert [one["where"] for one in found["stack"]] == [host]
    assert [one["where"] for one in found["store"]] == [[], host]
    assert not [path for path in (home / "runs").rglob("*") if path.is_file()]


@pytest.mark.slow
def test_a_cluster_without_token_authentication_fails_and_its_open_ports_are_named(home, spec_file, tiny, monkeypatch):
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    with cluster() as address:
        outcome = run_command("doctor", spec_file(tiny), "--store", home / "runs", "--address", address, "--json")
    assert outcome.status == 1
    found = by_check(outcome)
    assert [one["verdict"] for one in found["token"] + found["ports"]] == ["fail", "fail"]
    assert re.search(rf"gcs_server (\d+/)*{address.rpartition(':')[2]}\b", found["ports"][0]["value"])


def test_a_cluster_that_does_not_answer_is_a_failure_at_once(cli, tmp_path):
    outcome = cli("doctor", "--store", tmp_path / "runs", "--address", "127.0.0.1:9", "--json")
    assert outcome.status == 1
    (cluster,) = by_check(outcome)["cluster"]
    assert cluster["verdict"] == "fail"
    assert "127.0.0.1:9" in cluster["value"]


def test_lines_fold_within_a_terminal_of_80_columns():
    from rich.console import Console

    finding = Finding("throughput", "warn", "a value " * 12, "an advice " * 12, tuple(f"machine-{i}" for i in range(9)))
    console = Console(width=80, record=True, file=open(os.devnull, "w"))  # noqa: SIM115, PTH123
    console.print(render_finding(finding))
    lines = console.export_text().splitlines()
    assert max(map(len, lines)) <= 80
    assert lines[0].startswith("warn  throughput  a value")
    assert all(line.startswith(" " * 18) for line in lines[1:])
