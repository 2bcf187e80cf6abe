"""A study on the nodes of a Slurm job, as docs/cluster.md describes: `ray symmetric-run` is called on every node."""

import re
import shlex
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import yaml

from tests.cluster.hosts import hosts
from tests.cluster.studies import grid
from tests.study.commands import ROOT
from tests.study.stores import results_of

pytestmark = [pytest.mark.slow, pytest.mark.nightly]

PAGE = (ROOT / "docs" / "cluster.md").read_text(encoding="utf-8")


def test_a_study_runs_on_the_nodes_of_a_job(hosts_can_be_made):
    (script,) = re.findall(r"^```sh\n#!/bin/bash\n(.*?)^```$", PAGE, flags=re.DOTALL | re.MULTILINE)
    command = script.partition("srun ray symmetric-run")[2].replace("\\\n", " ")
    exports = [line for line in script.splitlines() if line.startswith("export") and "MARL_STORE" not in line]
    assert len(exports) == 3
    with hosts(2) as made:
        store = made.folder / "store"  # a folder that both hosts see under one path
        store.mkdir()
        spec = store / "grid.yaml"
        spec.write_text(yaml.safe_dump(grid(steps=200)))
        variables = {
            "PATH": f"{Path(sys.executable).parent}:$PATH",
            "PYTHONPATH": str(ROOT),
            "MARL_STORE": str(store),
            "address": made.address(0),
            "SLURM_NNODES": "2",
            "SLURM_CPUS_PER_TASK": "1",
        }
        token = f"umask 077; mkdir -p ~/.ray && echo {'0123456789abcdef' * 4} > ~/.ray/auth_token"
        words = command.replace("run tradeoff", f"run {shlex.quote(str(spec))}")
        line = "\n".join([*(f'export {name}="{value}"' for name, value in variables.items()), *exports, token])
        line += f"\nray symmetric-run {words}"
        with ThreadPoolExecutor(2) as pool:
            done = list(pool.map(lambda host: made.run(host, "bash", "-c", line, check=False, timeout_s=400), range(2)))
        assert done[0].returncode == 0, done[0].stdout[-4000:] + done[0].stderr[-4000:]
        assert list(results_of(store, "grid").trials()["state"]) == ["complete"] * 6
