"""How many lanes a stack gets."""

import pytest

import study.training.planning as module
from study.spec import parse_spec
from study.spec.resolve import resolve
from study.storage import ObjectStore
from study.training.planning import choose_lanes, plan_stacks
from tests.messages import mentions

STORE = ObjectStore("nothing is read from here")


def resolved(tiny, **changes):
    return resolve(parse_spec({**tiny, **changes}, "spec"))


def test_lanes_are_as_asked_for_and_by_default_never_more_than_are_needed(tiny):
    assert plan_stacks(resolved(tiny), "cpu", STORE).lanes == 4
    tiny["resources"] = {"lanes": "auto"}
    assert plan_stacks(resolved(tiny), "cpu", STORE).lanes == 8
    assert plan_stacks(resolved({**tiny, "search": {"trials": 1}}), "cpu", STORE).lanes == 2


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


def test_what_does_not_fit_into_memory_is_not_taken(tiny, monkeypatch):
    spec = resolved(tiny)

    def measure(stack, seconds):
        if stack.lanes == 4:
            raise RuntimeError("[enforce fail at alloc_cpu.cpp:121] DefaultCPUAllocator: can't allocate memory")
        return 100.0

    monkeypatch.setattr(module, "steps_per_second", measure)
    assert choose_lanes(spec, spec.stack_plan(lanes=1), "cpu", [1, 2, 4, 8], STORE.uri) == 2


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
