"""Stacks built in a separate process, and the command that compiles them."""

import json
import os
import subprocess
import sys

import pytest

from study.environment import process_env
from study.errors import RunError
from study.spec import parse_spec
from study.spec.resolve import resolve
from study.training.dry_run_worker import PlanReport, StepReport, dry_run_stacks, stack_configs
from study.training.planning import can_compile
from tests.messages import assert_mentions, mentions
from tests.study.processes import environment

# A trainer compiles so; it says whether it had to.
_TRAINER = """
import json, sys, torch

from torch._dynamo.utils import counters
from study.spec.resolved_spec import ResolvedSpec
from study.storage import ObjectStore
from study.search.sampler import Search
from study.spec import Spec
from study.training.planning import plan_stacks
resolved = ResolvedSpec(Spec.model_validate(json.load(sys.stdin)))
dataset = resolved.data.build(resolved.audio, torch.device("cpu"))
config = resolved.trial_config(Search(resolved.spec).ask(0))
plan_stacks(resolved, "cpu", ObjectStore("runs")).stack(resolved, config, dataset).step()
print(json.dumps([counters["inductor"][name] for name in ("fxgraph_cache_hit", "fxgraph_cache_miss")]))
"""


def resolved(content):
    return resolve(parse_spec(content, "spec"))


@pytest.mark.slow
def test_a_stack_is_measured_in_a_separate_process(tiny):
    planned, stepped = dry_run_stacks(resolved(tiny), "runs", measure_s=0.2)
    assert isinstance(planned, PlanReport)
    assert (planned.device, planned.plan.lanes, planned.plan.compiled) == ("cpu", 4, False)
    assert isinstance(stepped, StepReport)
    assert (stepped.number, stepped.stacks) == (1, 1)
    assert stepped.trial_steps_per_s > 0
    assert stepped.stack.startswith("patch, ")


@pytest.mark.slow
def test_the_error_of_the_process_is_raised(tiny, monkeypatch):
    for name, value in environment({"study.training.planning": {"_ABSENT": 0}}).items():
        monkeypatch.setenv(name, value)
    with pytest.raises(RunError, match=mentions(1, "AssertionError", "_ABSENT")):
        list(dry_run_stacks(resolved(tiny), "runs", measure_s=0.2))


@pytest.mark.slow
def test_a_process_that_exceeds_its_time_limit_is_killed(tiny):
    with pytest.raises(RunError, match=mentions(-9)):
        list(dry_run_stacks(resolved(tiny), "runs", measure_s=3600, timeout_s=3.0))


def test_there_is_a_configuration_for_each_stack_of_the_space(tiny):
    spec = resolved({**tiny, "space": {"model.width": {"choice": [16, 32, 48]}}, "search": {"sampler": "grid"}})
    plan = spec.stack_plan(lanes=1)
    found = stack_configs(spec, plan)
    assert [key.architecture.model.width for key in found] == [16, 32, 48]
    assert all(plan.stack_key(spec.audio, config) == key for key, config in found.items())
    passes = {"contrast.strategy": {"choice": ["none", "byol"]}}
    found = stack_configs(resolved({**tiny, "space": passes, "search": {"sampler": "grid"}}), plan)
    assert [key.extra_passes for key in found] == [(), ("byol",)]


@pytest.mark.slow
def test_the_compile_command_says_that_a_plan_is_not_compiled(cli, spec_file, tiny):
    outcome = cli("compile", spec_file(tiny))
    assert outcome.status == 0, outcome.err
    assert_mentions(outcome.err, "4 lanes", "not compiled", "short")


@pytest.mark.slow
@pytest.mark.nightly
@pytest.mark.skipif(not can_compile("cpu"), reason="no C++ compiler")
def test_a_trainer_uses_the_code_that_the_compile_command_compiled(cli, spec_file, tiny, tmp_path, monkeypatch):
    tiny["resources"]["compile"] = True
    tiny["space"] = {"latent.private": {"choice": [2, 4]}}
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    outcome = cli("compile", spec_file(tiny))
    assert outcome.status == 0, outcome.err
    first, *stacks = outcome.err.splitlines()
    assert_mentions(first, "compiled", "spec")
    (line,) = stacks
    assert_mentions(line, "stack 1 of 1")

    done = subprocess.run(
        [sys.executable, "-c", _TRAINER],
        input=resolved(tiny).spec.model_dump_json(),
        env={**os.environ, **process_env(1)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(done.stdout) == [1, 0]
