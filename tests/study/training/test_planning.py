"""Lanes, compilation and precision of stacks: as in the spec, or what is fastest on the machine."""

import fcntl
import math
import os
import platform
import subprocess
import sys
import threading

import pytest
import torch

import study.training.planning as module
from marl.stack import Stack
from study.datasets import dataset_of
from study.spec import parse_spec
from study.spec.resolve import resolve
from study.storage import ObjectStore
from study.training.planning import (
    StackPool,
    can_compile,
    choose_lanes,
    lanes_of_equal_waves,
    plan_execution,
    plan_stacks,
    training_flop,
)
from tests.messages import assert_mentions, mentions
from tests.study.commands import ROOT

STORE = ObjectStore("nothing is read from here")


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
def matmul(monkeypatch):
    """A processor with the given ratio of the durations of float32 and bfloat16 matrix products."""

    def set_up(ratio):
        monkeypatch.setattr(module, "matmul_seconds", lambda: {torch.float32: ratio * 0.001, torch.bfloat16: 0.001})

    return set_up


def test_a_short_study_is_not_compiled_and_a_long_one_is(tiny, compiler, matmul):
    compiler(True)
    matmul(0.01)
    short, long = resolved(tiny), resolved(tiny, **LONG)
    plan = plan_execution(short.stack_plan(lanes=4), short, "cpu")
    assert (plan.compiled, plan.precision) == (False, "float32")
    assert_mentions(plan.why, "not compiled", "short")
    plan = plan_execution(long.stack_plan(lanes=4), long, "cpu")
    assert (plan.compiled, plan.precision) == (True, "float32")
    assert plan.why.startswith("compiled")
    assert_mentions(plan.why, "first step")


def test_without_a_compiler_nothing_is_compiled_and_the_reason_names_the_compilers(tiny, compiler):
    compiler(False)
    long = resolved(tiny, **LONG)
    assert not can_compile("cpu")
    plan = plan_execution(long.stack_plan(lanes=4), long, "cpu")
    assert (plan.compiled, plan.precision) == (False, "float32")
    assert_mentions(plan.why, "not compiled", "C++ compiler", "g++", "clang++", "c++")


@pytest.mark.parametrize(
    ("ratio", "precision"), [(4.0, "bfloat16"), (1.25, "bfloat16"), (1.1, "float32"), (0.02, "float32")]
)
def test_bfloat16_is_for_compiled_steps_on_processors_that_multiply_it_fast(tiny, compiler, matmul, ratio, precision):
    compiler(True)
    matmul(ratio)
    long = resolved(tiny, **LONG)
    assert plan_execution(long.stack_plan(lanes=4), long, "cpu").precision == precision
    assert plan_execution(resolved(tiny).stack_plan(lanes=4), resolved(tiny), "cpu").precision == "float32"


def test_matrix_products_are_not_measured_if_the_spec_or_an_uncompiled_step_decides(tiny, compiler, monkeypatch):
    def measure():
        raise AssertionError("measured")

    monkeypatch.setattr(module, "matmul_seconds", measure)
    compiler(True)
    short, given = resolved(tiny), resolved(tiny, train={**LONG["train"], "precision": "float32"})
    assert not plan_execution(short.stack_plan(lanes=4), short, "cpu").compiled
    plan = plan_execution(given.stack_plan(lanes=4), given, "cpu")
    assert (plan.compiled, plan.precision) == (True, "float32")


def test_the_spec_overrides_compilation_and_precision(tiny, compiler):
    compiler(False)
    spec = resolved(tiny, resources={"lanes": 4, "compile": True}, train={"steps": 30, "precision": "bfloat16"})
    plan = plan_execution(spec.stack_plan(lanes=4), spec, "cpu")
    assert (plan.compiled, plan.precision) == (True, "bfloat16")
    assert plan.why.startswith("compiled")
    assert_mentions(plan.why, "spec")


def test_matrix_products_are_measured_in_both_precisions_and_the_threads_are_restored(monkeypatch):
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        seconds = module.matmul_seconds()
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)
    assert seconds.keys() == {torch.float32, torch.bfloat16}
    assert all(0 < duration < math.inf for duration in seconds.values())
    monkeypatch.setattr(module, "matmul_seconds", lambda: seconds)
    assert module.multiplies_bfloat16_fast() == (seconds[torch.float32] / seconds[torch.bfloat16] >= 1.2)


@pytest.mark.skipif(platform.machine() != "x86_64", reason="oneDNN's limit of the instruction set is for x86-64")
def test_bfloat16_is_not_fast_if_a_processor_has_to_emulate_it():
    """Without AVX-512 and AMX a bfloat16 product takes many times as long as a float32 one, on any machine."""
    code = "from study.training.planning import multiplies_bfloat16_fast; print(multiplies_bfloat16_fast())"
    env = {**os.environ, "ONEDNN_MAX_CPU_ISA": "AVX2", "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=env, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_flop_are_those_of_matrix_products_forward_and_twice_backward(tiny):
    spec = resolved(tiny)
    # Patches of 4 x 64, widths 16, 16 and 32, latents 8 + 8; 16 patches of a spectrogram, 32 spectrograms of a step.
    patch = 256 * 16 + 16 * 16
    clip = 2 * 16 * patch + 2 * (16 * 16) * 32 + 2 * 32 * 16 + 16 * 32
    trial_steps = 4 * 2 * 30
    assert training_flop(spec) == 3 * 2 * clip * 32 * trial_steps


def test_flop_are_those_of_a_network_of_the_space_if_the_base_network_is_invalid(tiny):
    tiny["model"] = {"patch_bands": 5}
    tiny["space"] = {"model.patch_bands": {"choice": [4, 8]}}
    assert training_flop(resolved(tiny)) > 0


def test_the_quickstart_is_just_too_short_to_compile(tiny):
    from study.spec.resolve import read_spec

    spec = read_spec(ROOT / "study" / "ready" / "quickstart.yaml")
    assert 0.1 < training_flop(spec) / module._WORTH_COMPILING_FLOP < 0.5


def test_lanes_are_those_of_the_spec_or_at_most_one_for_each_replicate(tiny):
    assert plan_stacks(resolved(tiny), "cpu", STORE).lanes == 4
    tiny["resources"] = {"lanes": "auto", "trainers": 1}
    tiny["search"] = {"trials": 2}
    assert plan_stacks(resolved(tiny), "cpu", STORE).lanes == 6  # two seeds of each trial, and of the plain VAE
    tiny["resources"]["trainers"] = 2
    assert plan_stacks(resolved(tiny), "cpu", STORE).lanes == 3


@pytest.mark.parametrize(
    ("replicates", "trainers", "lanes"),
    [
        (26, 2, 7),  # two waves of 14, not one of 16 and one of 10
        (16, 2, 8),
        (17, 2, 5),  # 10 and 7, not 16 and 1
        (24, 1, 8),
        (25, 1, 7),
        (3, 4, 1),
    ],
)
def test_the_last_wave_of_replicates_leaves_few_lanes_idle(tiny, replicates, trainers, lanes):
    assert lanes_of_equal_waves(resolved(tiny).spec, replicates, trainers, most=8) == lanes


def test_trials_that_do_not_start_together_get_as_many_lanes_as_pay_off(tiny):
    halving = resolved({**tiny, "halving": {"reduction_factor": 2, "min_steps": 5}}).spec
    assert lanes_of_equal_waves(halving, 17, 2, most=8) == 8
    assert lanes_of_equal_waves(halving, 5, 2, most=8) == 5


@pytest.mark.parametrize(
    ("stacks", "cpus", "memory_gib", "trainers"), [(9, 4, 64, 4), (3, 4, 64, 3), (9, 4, 2.5, 2), (9, 0.5, 64, 1)]
)
def test_every_cpu_has_a_trainer_if_there_is_memory_and_work_for_it(tiny, stacks, cpus, memory_gib, trainers):
    del tiny["resources"]
    assert resolved(tiny).spec.trainers(stacks, cpus, memory_gib) == trainers
    assert resolved({**tiny, "resources": {"trainers": 5}}).spec.trainers(stacks, cpus, memory_gib) == 5


@pytest.mark.parametrize(
    ("rates", "expected"),
    [
        ({1: 100.0, 2: 90.0, 4: 80.0, 8: 43.0}, 4),  # 100, 180, 320, 344 in all: the last step brings less than a tenth
        ({1: 100.0, 2: 50.0, 4: 100.0, 8: 100.0}, 1),  # nothing to gain at the first step: no more is tried
        ({1: 100.0, 2: 99.0, 4: 98.0, 8: 97.0}, 8),
    ],
)
def test_lanes_are_doubled_for_as_long_as_throughput_grows(tiny, monkeypatch, rates, expected):
    spec = resolved(tiny)
    monkeypatch.setattr(module, "steps_per_second", lambda stack, seconds: rates[stack.lanes])
    assert choose_lanes(spec, spec.stack_plan(lanes=1), "cpu", [1, 2, 4, 8], STORE.uri) == expected


def test_lanes_that_do_not_fit_into_memory_are_not_chosen(tiny, monkeypatch):
    spec = resolved(tiny)

    def measure(stack, seconds):
        if stack.lanes == 4:
            raise RuntimeError("[enforce fail at alloc_cpu.cpp:121] DefaultCPUAllocator: can't allocate memory")
        return 100.0

    monkeypatch.setattr(module, "steps_per_second", measure)
    assert choose_lanes(spec, spec.stack_plan(lanes=1), "cpu", [1, 2, 4, 8], STORE.uri) == 2


def test_a_trainer_compiles_after_another_one_that_has_begun(tiny, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    (tmp_path / "marl-study").mkdir()
    spec, compiled = resolved(tiny), threading.Event()
    monkeypatch.setattr(Stack, "prepare", lambda stack: compiled.set())
    plan = spec.stack_plan(lanes=1).model_copy(update={"compiled": True})
    pool = StackPool(spec, plan, dataset_of(spec, STORE, torch.device("cpu")))
    pool.get(spec.network_config)
    thread = threading.Thread(target=pool.to_train, args=[pool.key(spec.network_config)], daemon=True)
    with (tmp_path / "marl-study" / "compiling.lock").open("w") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        thread.start()
        assert not compiled.wait(0.5)
    assert compiled.wait(60)
    thread.join(60)
    with (tmp_path / "marl-study" / "compiling.lock").open("w") as other:
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)  # no process holds it now


@pytest.mark.slow
def test_a_real_measurement_finds_one_of_the_candidates(tiny):
    spec = resolved(tiny)
    assert choose_lanes(spec, spec.stack_plan(lanes=1), "cpu", [1, 2], STORE.uri) in (1, 2)


def test_other_errors_of_a_measurement_are_not_hidden(tiny, monkeypatch):
    spec = resolved(tiny)

    def measure(stack, seconds):
        raise RuntimeError("something else")

    monkeypatch.setattr(module, "steps_per_second", measure)
    with pytest.raises(RuntimeError, match=mentions("something else")):
        choose_lanes(spec, spec.stack_plan(lanes=1), "cpu", [1], STORE.uri)
