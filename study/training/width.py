"""How many lanes a stack gets: as many as the device's memory holds and its speed still gains from."""

import multiprocessing
import os
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor

import torch

from marl.stack import Stack
from study.configuration import one_of
from study.datasets.access import dataset_of
from study.objects import Objects
from study.spec import Spec
from study.surroundings import surroundings
from study.training.execution import DeviceType, executed
from study.training.memory import is_out_of_memory
from study.training.stacks import StackPlan, plan_stacks

__all__ = ["measured_lanes", "planned", "steps_per_second"]

# On processors of 2 to 16 cores throughput stopped growing at 8 (docs/performance.md), and wider stacks only take
# longer to fill.
_CPU_LANES = 8
_GPU_LANES = (16, 32, 64, 128)
# Twice the lanes must bring so much, or the narrower stack is taken: its trials end sooner.
_WORTHWHILE_GAIN = 1.1
_WARM_STEPS = 3


def planned(spec: Spec, device: DeviceType, objects: Objects) -> StackPlan:
    """The stacks of a study on this machine: lanes as asked for, else as many as pay, but not more than are needed.

    Args:
        spec: resolved.
        device: of this machine.
        objects: the store, which has the data where they were prepared.
    """
    os.environ |= surroundings()  # what is compiled here is found again by trainers
    plan = executed(plan_stacks(spec, 1), spec, device)
    if spec.resources.lanes != "auto":
        return plan.model_copy(update={"lanes": spec.resources.lanes})
    needed = (spec.search.trials or 1) * spec.replicates
    if device == "cpu":
        return plan.model_copy(update={"lanes": min(_CPU_LANES, needed)})
    candidates = sorted({min(lanes, needed) for lanes in _GPU_LANES})
    # In a process of its own, which gives back all of the device's memory.
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        lanes = pool.submit(measured_lanes, spec, plan, device, candidates, objects.uri).result()
    return plan.model_copy(update={"lanes": lanes})


def measured_lanes(spec: Spec, plan: StackPlan, device: DeviceType, candidates: Sequence[int], store_uri: str) -> int:
    """The narrowest of the candidates, in ascending order, whose next one is hardly faster or does not fit."""
    dataset = dataset_of(spec, Objects(store_uri), torch.device(device))
    best, best_rate = candidates[0], 0.0
    for lanes in candidates:
        try:
            stack = plan.model_copy(update={"lanes": lanes}).stack(spec, one_of(spec), dataset)
            rate = steps_per_second(stack, seconds=0.5) * lanes
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            break
        if rate < _WORTHWHILE_GAIN * best_rate:
            break
        best, best_rate = lanes, rate
    return best


def steps_per_second(stack: Stack, seconds: float) -> float:
    """Steps of a whole stack in a second, measured; lanes need not be occupied for that."""
    for _ in range(_WARM_STEPS):
        stack.step()
    stack.steps()  # waits for the device
    started, steps = time.monotonic(), 0
    while time.monotonic() - started < seconds:
        stack.step()
        steps += 1
    stack.steps()
    return steps / (time.monotonic() - started)
