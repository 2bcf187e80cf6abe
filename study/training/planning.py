"""Planning of a study's stacks for the device of a machine: lanes, compilation and precision; and the planned stacks.

A study is planned once, before it starts, and the plan is stored with it.
"""

import fcntl
import logging
import math
import multiprocessing
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from typing import Any, Literal

import psutil
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from marl.config import Config
from marl.data import Dataset
from marl.models import Architecture, build_network
from marl.stack import Stack
from study.datasets import dataset_of
from study.environment import available_cpus, cache_folder, process_env
from study.spec import Spec
from study.spec.resolved_spec import ResolvedSpec, StackKey, StackPlan
from study.storage import ObjectStore

logger = logging.getLogger(__name__)

DeviceType = Literal["cpu", "cuda"]

# On two cores, compilation takes about a minute and saves nearly half of the training time, at some 9e10 FLOP/s
# uncompiled. It pays off after two minutes; twice that is required, because users of a short study wait for results.
_WORTH_COMPILING_FLOP = 2e13
_FORWARD_AND_BACKWARD = 3
# On a CPU throughput stops growing at 8 lanes of one thread (docs/performance.md).
_CPU_LANES = 8
_GPU_LANES = (16, 32, 64, 128)
# Minimum gain in throughput for a doubling of the lanes. With fewer lanes, trials end sooner.
_WORTHWHILE_GAIN = 1.1
_WARM_UP_STEPS = 3
# Minimum gain of a bfloat16 matrix product over a float32 one. A smaller gain is lost in conversions.
_WORTHWHILE_BFLOAT16_GAIN = 1.2
# A product of a small stack. A processor that emulates bfloat16 takes 8 ms for it.
_MEASURED_SHAPE = (8, 128, 128)
_MEASUREMENT_S = 0.05
_MIN_REPETITIONS = 3


def device_type() -> DeviceType:
    """Return the type of device that trainers of this machine use."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def can_compile(device: DeviceType) -> bool:
    """Return whether steps can be compiled; on a CPU this needs a C++ compiler."""
    return device == "cuda" or any(shutil.which(name) for name in ("g++", "clang++", "c++"))


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error means that memory for a tensor ran out, on a GPU or a CPU."""
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or "can't allocate memory" in str(error)


def plan_stacks(resolved: ResolvedSpec, device: DeviceType, objects: ObjectStore) -> StackPlan:
    """Return the plan of a study's stacks on this machine. The store has the prepared data.

    If the spec leaves the number of lanes open, throughput decides, up to the number of replicates.
    """
    os.environ |= process_env(trainer_threads(device))  # so that trainers find in the cache what is compiled here
    spec = resolved.spec
    plan = plan_execution(resolved.stack_plan(lanes=1), resolved, device)
    replicates = (1 + (spec.search.trials or 1)) * spec.replicates  # the plain VAE has some, too
    if spec.resources.lanes != "auto":
        lanes = spec.resources.lanes
    elif device == "cpu":
        memory_gib = psutil.virtual_memory().available / 2**30
        trainers = spec.trainers(replicates, available_cpus(), memory_gib)
        lanes = lanes_of_equal_waves(spec, replicates, trainers, _CPU_LANES)
    else:
        candidates = sorted({min(lanes, replicates) for lanes in _GPU_LANES})
        # A separate process frees all memory of the device when it ends.
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
            most = pool.submit(choose_lanes, resolved, plan, device, candidates, objects.uri).result()
        lanes = lanes_of_equal_waves(spec, replicates, 1, most)
    return plan.model_copy(update={"lanes": lanes})


def lanes_of_equal_waves(spec: Spec, replicates: int, trainers: int, most: int) -> int:
    """Return the lanes of a stack, at most `most`, with which all replicates are trained soonest.

    Replicates train in waves. An idle lane takes as long as an occupied one, so the fewest lanes are best that need no
    more waves. With halving, or without a number of trials, replicates do not start together.
    """
    if spec.halving or not spec.search.trials:
        return min(most, replicates)
    waves = -(-replicates // (trainers * most))
    return -(-replicates // (trainers * waves))


def trainer_threads(device: DeviceType) -> int:
    """Return the number of threads of a trainer: one on a CPU, where each CPU has a trainer."""
    return 1 if device == "cpu" else available_cpus()


def plan_execution(plan: StackPlan, resolved: ResolvedSpec, device: DeviceType) -> StackPlan:
    """Return a plan with compilation and precision set: as in the spec, or what is fastest on the device if `auto`."""
    spec = resolved.spec
    if spec.resources.compile != "auto":
        compiled, why = spec.resources.compile, "as the spec has it"
    elif device == "cuda":
        compiled, why = True, "on a GPU"
    elif not can_compile(device):
        compiled, why = False, "no C++ compiler found (g++, clang++ or c++)"
    elif training_flop(resolved) < _WORTH_COMPILING_FLOP:
        compiled, why = False, "too short a study to pay for a minute of compiling"
    else:
        compiled, why = True, "the first step takes a minute"
    precision: str = spec.train.precision
    if precision == "auto":  # uncompiled, conversions cost more than bfloat16 saves
        precision = "bfloat16" if compiled and _is_bfloat16_fast(device) else "float32"
    why = f"{'compiled' if compiled else 'not compiled'}: {why}"
    return plan.model_copy(update={"compiled": compiled, "precision": precision, "why": why})


def _is_bfloat16_fast(device: DeviceType) -> bool:
    if device == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return multiplies_bfloat16_fast()


def multiplies_bfloat16_fast() -> bool:
    """Return whether this processor multiplies bfloat16 matrices at least 1.2 times as fast as float32 ones.

    Measured, because flags of a processor do not include all instructions for bfloat16, nor their speed.
    """
    seconds = matmul_seconds()
    return seconds[torch.float32] >= _WORTHWHILE_BFLOAT16_GAIN * seconds[torch.bfloat16]


def matmul_seconds() -> dict[torch.dtype, float]:
    """Measure a batched matrix product in float32 and bfloat16 on one thread of this processor, in about 50 ms.

    The two take turns, and the shortest duration of each counts, so that other load on the machine has little effect.
    """
    shortest = dict.fromkeys((torch.float32, torch.bfloat16), math.inf)
    factors = {dtype: torch.ones(_MEASURED_SHAPE, dtype=dtype) for dtype in shortest}
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        end, repetitions = time.perf_counter() + _MEASUREMENT_S, 0
        while repetitions < _MIN_REPETITIONS or time.perf_counter() < end:
            for dtype, factor in factors.items():
                started = time.perf_counter()
                torch.bmm(factor, factor)
                shortest[dtype] = min(shortest[dtype], time.perf_counter() - started)
            repetitions += 1
    finally:
        torch.set_num_threads(threads)
    return shortest


def training_flop(resolved: ResolvedSpec) -> float:
    """Return the expected floating-point operations of a study's matrix products, estimated from one network."""
    spec, audio, config = resolved.spec, resolved.audio, resolved.network_config
    network = build_network(
        Architecture(audio.mel_bands, audio.frames, config.model, config.latent.private, config.latent.shared)
    )
    with torch.inference_mode(), _MatmulCounter() as counter:
        parameters = {name: torch.zeros(shape) for name, shape in network.shapes.items()}
        clip = network.to_input(torch.zeros(1, audio.mel_bands, audio.frames))
        posterior = network.encode(parameters, torch.ones(network.latents), clip)
        network.decode(parameters, posterior.mean)
    step = float(counter.flop) * 2 * spec.train.batch_pairs * _FORWARD_AND_BACKWARD
    return step * spec.expected_steps() * (spec.search.trials or 1)


class _MatmulCounter(TorchFunctionMode):
    """Counts the operations of matrix products, of which networks consist.

    `torch.utils.flop_counter` and meta tensors would do, but take seconds to start: they load the compiler.
    """

    flop = 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if func in (Tensor.matmul, Tensor.__matmul__):
            self.flop += 2 * result.numel() * args[0].shape[-1]
        return result


def choose_lanes(
    resolved: ResolvedSpec, plan: StackPlan, device: DeviceType, candidates: Sequence[int], store_uri: str
) -> int:
    """Return the first of the ascending candidates after which throughput hardly grows or memory runs out."""
    dataset = dataset_of(resolved, ObjectStore(store_uri), torch.device(device))
    best, best_rate = candidates[0], 0.0
    for lanes in candidates:
        try:
            stack = plan.model_copy(update={"lanes": lanes}).stack(resolved, resolved.network_config, dataset)
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
    """Measure the steps per second of a stack. Idle lanes take as long as occupied ones."""
    for _ in range(_WARM_UP_STEPS):
        stack.step()
    stack.synchronise()
    started, steps = time.monotonic(), 0
    while time.monotonic() - started < seconds:
        stack.step()
        steps += 1
    stack.synchronise()
    return steps / (time.monotonic() - started)


@contextmanager
def _after_other_compilations() -> Iterator[None]:
    """Wait while another process of this machine compiles: its code is then in the cache.

    Of several trainers that start together, the first compiles, and then the others load its code side by side.
    """
    path = cache_folder() / "compiling.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            fcntl.flock(file, fcntl.LOCK_SH)
            fcntl.flock(file, fcntl.LOCK_UN)
        yield


class StackPool:
    """The stacks of one device, created when they are needed.

    Attributes:
        plan: Plan of the stacks. Its lanes are halved when memory runs out.
        device: Device of the stacks.
        notices: Messages for the user.
    """

    def __init__(self, resolved: ResolvedSpec, plan: StackPlan, dataset: Dataset) -> None:
        self.plan = plan
        self.notices: list[str] = []
        self.device = dataset.device
        self._resolved, self._dataset = resolved, dataset
        self._stacks: dict[StackKey, Stack] = {}

    def __getitem__(self, key: StackKey) -> Stack:
        return self._stacks[key]

    def key(self, config: Config) -> StackKey:
        """Return the key of the stack in which a configuration trains."""
        return self.plan.stack_key(self._resolved.audio, config)

    def get(self, config: Config) -> Stack:
        """Return the stack in which a configuration trains; create it if necessary."""
        key = self.key(config)
        if key in self._stacks:
            return self._stacks[key]
        try:
            return self._stacks.setdefault(key, self.plan.stack(self._resolved, config, self._dataset))
        except (RuntimeError, MemoryError) as error:
            if not self.can_halve(error):
                raise
        self.halve_lanes(key)  # outside of the handler, because the error holds memory
        return self.get(config)

    def to_train(self, key: StackKey) -> Stack:
        """Return a stack whose step is ready; the first call compiles it if the stacks are compiled."""
        stack = self._stacks[key]
        if self.plan.compiled and stack.checked_step is None:
            with _after_other_compilations():
                stack.prepare()
        return stack

    def can_halve(self, error: BaseException) -> bool:
        """Return whether stacks of half as many lanes may avoid an error."""
        return is_out_of_memory(error) and self.plan.lanes > 1

    def halve_lanes(self, key: StackKey) -> None:
        """Remove a stack, and create stacks of half as many lanes from now on."""
        self._stacks.pop(key, None)
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        lanes = self.plan.lanes
        self.plan = self.plan.model_copy(update={"lanes": lanes // 2})
        self.notices.append(f"out of memory with {lanes} lanes: training continues with {lanes // 2}")
        logger.warning("%s", self.notices[-1])
