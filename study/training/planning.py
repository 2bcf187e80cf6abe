"""How a study is trained on the machine at hand: compiled or not, in which precision. Decided once and recorded."""

import logging
import multiprocessing
import os
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import Any, Literal

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from marl.config import Config
from marl.data import Dataset
from marl.models import Architecture, build_network
from marl.stack import Precision, Stack
from study.datasets.load import dataset_of
from study.environment import process_env
from study.spec.resolved_spec import ResolvedSpec, StackKey, StackPlan
from study.storage import ObjectStore

__all__ = [
    "DeviceType",
    "StackPool",
    "can_compile",
    "device_type",
    "plan_execution",
    "is_out_of_memory",
    "choose_lanes",
    "plan_stacks",
    "steps_per_second",
    "training_flop",
]

logger = logging.getLogger(__name__)

DeviceType = Literal["cpu", "cuda"]

# Compiling takes about a minute on two cores and saves nearly half of the training, which runs at some 9e10 a second
# there without: it pays from two minutes on. Twice that is asked for, since a short study is run to see something soon.
_WORTH_COMPILING_FLOP = 2e13
_FORWARD_AND_BACKWARD = 3


def device_type() -> DeviceType:
    """What trainers of this machine will use."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def can_compile(device: DeviceType) -> bool:
    """Whether steps can be compiled: on a GPU always, on a processor where there is a C++ compiler."""
    return device == "cuda" or any(shutil.which(name) for name in ("g++", "clang++", "c++"))


def plan_execution(plan: StackPlan, resolved: ResolvedSpec, device: DeviceType) -> StackPlan:
    """The plan with what the spec asks for, and where it leaves the choice, with what is fastest on the device."""
    spec, asked = resolved.spec, resolved.spec.resources.compile
    if asked != "auto":
        compiled, why = asked, "as the spec has it"
    elif device == "cuda":
        compiled, why = True, "on a GPU"
    elif not can_compile(device):
        compiled, why = False, "no C++ compiler found (g++, clang++ or c++)"
    elif training_flop(resolved) < _WORTH_COMPILING_FLOP:
        compiled, why = False, "too short a study to pay for a minute of compiling"
    else:
        compiled, why = True, "the first step takes a minute"
    precision: Precision
    if spec.train.precision != "auto":
        precision = spec.train.precision
    else:  # without compiling, conversions cost more than bfloat16 saves
        precision = "bfloat16" if compiled and _has_fast_bfloat16(device) else "float32"
    why = f"{'compiled' if compiled else 'not compiled'}: {why}"
    return plan.model_copy(update={"compiled": compiled, "precision": precision, "why": why})


def training_flop(resolved: ResolvedSpec) -> float:
    """Floating-point operations of the matrix products of a whole study, as far as is known before, in one network."""
    spec, audio, config = resolved.spec, resolved.audio, resolved.network_config
    network = build_network(
        Architecture(audio.mel_bands, audio.frames, config.model, config.latent.private, config.latent.shared)
    )
    with torch.inference_mode(), _Products() as products:
        parameters = {name: torch.zeros(shape) for name, shape in network.shapes.items()}
        clip = network.to_input(torch.zeros(1, audio.mel_bands, audio.frames))
        posterior = network.encode(parameters, torch.ones(network.latents), clip)
        network.decode(parameters, posterior.mean)
    step = float(products.operations) * 2 * spec.train.batch_pairs * _FORWARD_AND_BACKWARD
    return step * spec.expected_steps() * (spec.search.trials or 1)


class _Products(TorchFunctionMode):
    """Counts operations of matrix products, of which networks consist.

    `torch.utils.flop_counter` counts the same, and it and tensors without values take seconds to begin: they load the
    compiler.

    Attributes:
        operations: so far.
    """

    operations = 0

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        if func in (Tensor.matmul, Tensor.__matmul__):
            self.operations += 2 * result.numel() * args[0].shape[-1]
        return result


def _has_fast_bfloat16(device: DeviceType) -> bool:
    if device == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return bool(torch.cpu.get_capabilities().get("amx_bf16", False))


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that there was no memory for a tensor, on a GPU or on a processor."""
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or "can't allocate memory" in str(error)


# On processors of 2 to 16 cores throughput stopped growing at 8 (docs/performance.md), and wider stacks only take
# longer to fill.
_CPU_LANES = 8
_GPU_LANES = (16, 32, 64, 128)
# Twice the lanes must bring so much, or the narrower stack is taken: its trials end sooner.
_WORTHWHILE_GAIN = 1.1
_WARM_STEPS = 3


def plan_stacks(resolved: ResolvedSpec, device: DeviceType, objects: ObjectStore) -> StackPlan:
    """The stacks of a study on this machine: lanes as asked for, else as many as pay, but not more than are needed.

    Args:
        resolved: Spec of the study.
        device: of this machine.
        objects: the store, which has the data where they were prepared.
    """
    os.environ |= process_env()  # what is compiled here is found again by trainers
    spec = resolved.spec
    plan = plan_execution(resolved.stack_plan(lanes=1), resolved, device)
    if spec.resources.lanes != "auto":
        return plan.model_copy(update={"lanes": spec.resources.lanes})
    needed = (spec.search.trials or 1) * spec.replicates
    if device == "cpu":
        return plan.model_copy(update={"lanes": min(_CPU_LANES, needed)})
    candidates = sorted({min(lanes, needed) for lanes in _GPU_LANES})
    # In a process of its own, which gives back all of the device's memory.
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        lanes = pool.submit(choose_lanes, resolved, plan, device, candidates, objects.uri).result()
    return plan.model_copy(update={"lanes": lanes})


def choose_lanes(
    resolved: ResolvedSpec, plan: StackPlan, device: DeviceType, candidates: Sequence[int], store_uri: str
) -> int:
    """The narrowest of the candidates, in ascending order, whose next one is hardly faster or does not fit."""
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


class StackPool:
    """The stacks of one device, created when they are needed.

    Args:
        resolved: Spec of the study.
        plan: Plan of the study's stacks.
        dataset: Clips of the study, on the device.

    Attributes:
        notices: Messages for the user.
    """

    def __init__(self, resolved: ResolvedSpec, plan: StackPlan, dataset: Dataset) -> None:
        self.notices: list[str] = []
        self._resolved, self._plan, self._dataset = resolved, plan, dataset
        self._stacks: dict[StackKey, Stack] = {}

    def __getitem__(self, key: StackKey) -> Stack:
        return self._stacks[key]

    def __len__(self) -> int:
        return len(self._stacks)

    @property
    def lanes(self) -> int:
        """Current number of lanes of a stack."""
        return self._plan.lanes

    @property
    def private_latents(self) -> int:
        """Number of private latents of each stack."""
        return self._plan.private

    def key(self, config: Config) -> StackKey:
        """Return the key of the stack in which a configuration trains."""
        return self._plan.stack_key(self._resolved.audio, config)

    def get(self, key: StackKey, config: Config) -> Stack:
        """Return the stack of a key; a new one is created for a configuration that trains in it."""
        while key not in self._stacks:
            try:
                self._stacks[key] = self._plan.stack(self._resolved, config, self._dataset)
            except (RuntimeError, MemoryError) as error:
                if not self.can_halve(error):
                    raise
            else:
                break
            self.halve_lanes(key)  # outside of the handler, because the error holds memory
        return self._stacks[key]

    def can_halve(self, error: BaseException) -> bool:
        """Return whether an error may be overcome by stacks of half as many lanes."""
        return is_out_of_memory(error) and self._plan.lanes > 1

    def halve_lanes(self, key: StackKey) -> None:
        """Remove a stack, and create stacks of half as many lanes from now on."""
        self._stacks.pop(key, None)
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        lanes = self._plan.lanes
        self._plan = self._plan.model_copy(update={"lanes": lanes // 2})
        self.notices.append(f"out of memory with {lanes} lanes: training continues with {lanes // 2}")
        logger.warning("%s", self.notices[-1])
