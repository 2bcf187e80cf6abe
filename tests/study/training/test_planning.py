"""Compiled or not, and in which precision: what a spec asks for, else what pays on the machine at hand."""

import pytest
import torch

import study.training.planning as module
from study.spec import parse_spec
from study.spec.resolve import resolve
from study.training.planning import can_compile, plan_execution, training_flop
from tests.messages import assert_mentions
from tests.study.commands import ROOT


def resolved(tiny, **changes):
    return resolve(parse_spec({**tiny, **changes}, "spec"))


LONG = {"train": {"steps": 10_000_000, "batch_pairs": 32, "reports": 2}}


@pytest.fixture
def compiler(monkeypatch, tmp_path):
    """A machine with a compiler, or without."""

    def set_up(there):
        if there:
            (tmp_path / "g++").touch(mode=0o755)
        monkeypatch.setenv("PATH", str(tmp_path))

    return set_up


@pytest.fixture
def amx(monkeypatch):
    return lambda there: monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"amx_bf16": there})


def test_a_short_study_is_not_compiled_and_a_long_one_is(tiny, compiler, amx):
    compiler(True)
    amx(False)
    short, long = resolved(tiny), resolved(tiny, **LONG)
    plan = plan_execution(short.stack_plan(lanes=4), short, "cpu")
    assert (plan.compiled, plan.precision) == (False, "float32")
    assert_mentions(plan.why, "not compiled", "short")
    plan = plan_execution(long.stack_plan(lanes=4), long, "cpu")
    assert (plan.compiled, plan.precision) == (True, "float32")
    assert plan.why.startswith("compiled")
    assert_mentions(plan.why, "first step")


def test_without_a_compiler_nothing_is_compiled_and_the_line_says_which_are_looked_for(tiny, compiler):
    compiler(False)
    long = resolved(tiny, **LONG)
    assert not can_compile("cpu")
    plan = plan_execution(long.stack_plan(lanes=4), long, "cpu")
    assert (plan.compiled, plan.precision) == (False, "float32")
    assert_mentions(plan.why, "not compiled", "C++ compiler", "g++", "clang++", "c++")


@pytest.mark.parametrize(("there", "precision"), [(True, "bfloat16"), (False, "float32")])
def test_bfloat16_is_for_compiled_steps_on_processors_that_multiply_it(tiny, compiler, amx, there, precision):
    compiler(True)
    amx(there)
    long = resolved(tiny, **LONG)
    assert plan_execution(long.stack_plan(lanes=4), long, "cpu").precision == precision
    assert plan_execution(resolved(tiny).stack_plan(lanes=4), resolved(tiny), "cpu").precision == "float32"


def test_a_spec_that_says_how_is_taken_at_its_word(tiny, compiler):
    compiler(False)
    spec = resolved(tiny, resources={"lanes": 4, "compile": True}, train={"steps": 30, "precision": "bfloat16"})
    plan = plan_execution(spec.stack_plan(lanes=4), spec, "cpu")
    assert (plan.compiled, plan.precision) == (True, "bfloat16")
    assert plan.why.startswith("compiled")
    assert_mentions(plan.why, "spec")


def test_operations_are_those_of_the_matrix_products_forward_and_twice_backward(tiny):
    spec = resolved(tiny)
    # Patches of 4 x 64, widths 16, 16 and 32, latents 8 + 8; 16 patches of a spectrogram, 32 spectrograms of a step.
    patch = 256 * 16 + 16 * 16
    clip = 2 * 16 * patch + 2 * (16 * 16) * 32 + 2 * 32 * 16 + 16 * 32
    trial_steps = 4 * 2 * 30
    assert training_flop(spec) == 3 * 2 * clip * 32 * trial_steps


def test_a_spec_whose_own_network_fits_no_spectrogram_is_judged_by_one_that_it_tries(tiny):
    tiny["model"] = {"patch_bands": 5}
    tiny["space"] = {"model.patch_bands": {"choice": [4, 8]}}
    assert training_flop(resolved(tiny)) > 0


def test_the_quickstart_on_two_cores_is_just_too_short(tiny):
    from study.spec.loader import load_spec

    spec = resolve(load_spec(ROOT / "studies" / "quickstart.yaml"))
    assert 0.1 < training_flop(spec) / module._WORTH_COMPILING_FLOP < 0.5
