"""Stacks of a spec, made and stepped as a trainer of this machine would, in a process of their own.

That process finds the surroundings of a trainer, so that what it compiles is found again by one; it gives back all
memory of the device; and an error that ends it ends nothing else.
"""

import contextlib
import json
import math
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator

import torch
from pydantic import BaseModel, TypeAdapter

from marl.config import Config
from marl.stack import StepKind
from study.datasets.load import dataset_of
from study.environment import process_env, processor
from study.errors import RunError
from study.search.sampler import Search
from study.spec import Spec
from study.spec.resolved_spec import ResolvedSpec, StackKey, StackPlan
from study.storage import ObjectStore
from study.training.planning import DeviceType, device_type, plan_stacks, steps_per_second

__all__ = ["PlanReport", "StepReport", "dry_run_stacks", "stack_configs"]

# Samplers that learn are asked before they have learnt anything; so many of their trials show what there is.
_ASKED_AT_MOST = 200


class PlanReport(BaseModel, frozen=True):
    """What the process found, and how the study would be computed there."""

    device: DeviceType
    device_name: str
    plan: StackPlan


class StepReport(BaseModel, frozen=True):
    """One stack that made steps.

    Attributes:
        stack: what its models are.
        number: of the stack, from 1.
        stacks: how many there are.
        first_step_s: seconds until the first step was done, compiling it included.
        trial_steps_per_s: steps of lanes a second; none where it was not measured.
        step: which form of the step trains.
        warning: why a compiled form was rejected; empty where none was, see `marl.stack.compile_step`.
    """

    stack: str
    number: int
    stacks: int
    first_step_s: float
    trial_steps_per_s: float | None
    step: StepKind = "plain"
    warning: str = ""


class _Task(BaseModel, frozen=True):
    spec: Spec
    store_uri: str
    measure_s: float | None


_LINE: TypeAdapter[PlanReport | StepReport] = TypeAdapter(PlanReport | StepReport)


def dry_run_stacks(
    resolved: ResolvedSpec, store_uri: str, measure_s: float | None, timeout_s: float | None = None
) -> Iterator[PlanReport | StepReport]:
    """First how the study would be computed on this machine, then its stacks as they are done.

    Args:
        resolved: Spec of the study.
        store_uri: the store, which has the data where they were prepared.
        measure_s: how long to measure the study's first stack, and that one only; none to compile all of them, where
            the study is compiled at all.
        timeout_s: the process is ended after so long.

    Raises:
        RunError: when the process ends before its time; it says why.
    """
    environment = {**os.environ, **process_env()}
    if environment.get("CUDA_VISIBLE_DEVICES") == "":  # so Ray hides GPUs from tasks that ask for none
        del environment["CUDA_VISIBLE_DEVICES"]
    with tempfile.TemporaryFile("w+") as errors:
        command = [sys.executable, "-m", "study.training.dry_run_worker"]
        with subprocess.Popen(  # noqa: S603
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True, env=environment
        ) as process:
            watchdog = threading.Timer(timeout_s, process.kill) if timeout_s else None
            try:
                if watchdog:
                    watchdog.start()
                assert process.stdin is not None  # noqa: S101  # both are pipes
                assert process.stdout is not None  # noqa: S101
                with contextlib.suppress(BrokenPipeError), process.stdin as task:
                    task.write(_Task(spec=resolved.spec, store_uri=store_uri, measure_s=measure_s).model_dump_json())
                for line in process.stdout:
                    yield _LINE.validate_json(line)
                process.wait()
            finally:
                process.kill()
                if watchdog:
                    watchdog.cancel()
        if process.returncode:
            errors.seek(0)
            said = errors.read().strip().splitlines() or ["nothing"]
            raise RunError(f"the process that made a stack ended with {process.returncode}: {said[-1][:300]}")


def stack_configs(resolved: ResolvedSpec, plan: StackPlan) -> dict[StackKey, Config]:
    """Return a configuration for each stack of the study, as far as its trials are known before it starts.

    The first is that of the plain VAE.
    """
    search, trials = Search(resolved.spec), min(resolved.spec.search.trials or 1, _ASKED_AT_MOST)
    asked = (resolved.trial_config(search.ask(number)) for number in range(trials))
    found: dict[StackKey, Config] = {}
    for config in (resolved.plain_vae, *asked):
        found.setdefault(plan.stack_key(resolved.audio, config), config)
    return found


def _described(key: StackKey, parameters: int) -> str:
    views = () if key.views.scheme == "factor" else (key.views.scheme,)
    return f"{', '.join((key.architecture.model.kind, *views, *key.extra_passes))}, {parameters:,} parameters"


def _work(task: _Task) -> Iterator[PlanReport | StepReport]:
    resolved, device = ResolvedSpec(task.spec), device_type()
    name = torch.cuda.get_device_name() if device == "cuda" else processor()
    objects = ObjectStore(task.store_uri)
    plan = plan_stacks(resolved, device, objects)
    yield PlanReport(device=device, device_name=name, plan=plan)
    if task.measure_s is None and not plan.compiled:
        return
    dataset = dataset_of(resolved, objects, torch.device(device))
    found = list(stack_configs(resolved, plan).items())
    if task.measure_s is not None:
        found = found[:1]
    for number, (key, config) in enumerate(found, 1):
        started = time.monotonic()
        stack = plan.stack(resolved, config, dataset)
        stack.step()
        stack.synchronise()
        first_step_s = time.monotonic() - started
        checked = stack.checked_step
        assert checked is not None  # noqa: S101  # it made a step
        rate = None
        if task.measure_s is not None:
            rate = steps_per_second(stack, task.measure_s) * plan.lanes
        parameters = sum(math.prod(shape) for shape in stack.network.shapes.values())
        yield StepReport(
            stack=_described(key, parameters),
            number=number,
            stacks=len(found),
            first_step_s=first_step_s,
            trial_steps_per_s=rate,
            step=checked.kind,
            warning=checked.warning,
        )


def _main() -> None:
    """Read a task from stdin and write lines of JSON to stdout; what libraries print goes to stderr."""
    task = _Task.model_validate(json.load(sys.stdin))
    out = sys.stdout
    with contextlib.redirect_stdout(sys.stderr):
        for line in _work(task):
            print(line.model_dump_json(), file=out, flush=True)  # to the process that reads it


if __name__ == "__main__":
    _main()
