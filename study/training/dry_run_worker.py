"""Dry run of a study's stacks in a separate process, which plans, builds and steps them as a trainer would.

The process has the environment of a trainer, so trainers find in the cache what it compiles. It frees all memory of the
device when it ends, and its crash ends no other process.
"""

import contextlib
import math
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from pydantic import BaseModel, TypeAdapter

from marl.config import Config
from marl.registry import PluginSource, add_folders, uninstalled_plugins
from marl.stack import StepKind
from study.datasets import dataset_of
from study.environment import process_env, processor
from study.errors import RunError
from study.search.sampler import Search
from study.spec import Spec
from study.spec.plugins import load_recorded
from study.spec.resolved_spec import ResolvedSpec, StackKey, StackPlan
from study.storage import ObjectStore
from study.training.planning import DeviceType, device_type, plan_stacks, steps_per_second, trainer_threads

# Number of trials that a sampler suggests to find the stacks of a study.
_MAX_SUGGESTIONS = 200


class PlanReport(BaseModel, frozen=True):
    """Device of the process, and the plan of the study's stacks there."""

    device: DeviceType
    device_name: str
    plan: StackPlan


class StepReport(BaseModel, frozen=True):
    """First steps of one stack.

    Attributes:
        number: Number of the stack, from 1 to `stacks`.
        first_step_s: Seconds until the first step ended, with compilation.
        trial_steps_per_s: Steps of all lanes per second; None if not measured.
        warning: Why the compiled step was rejected (`marl.stack.compile_step`); otherwise empty.
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
    plugins: tuple[PluginSource, ...]
    folders: tuple[Path, ...]
    store_uri: str
    measure_s: float | None


_REPORT: TypeAdapter[PlanReport | StepReport] = TypeAdapter(PlanReport | StepReport)


def dry_run_stacks(
    resolved: ResolvedSpec, store_uri: str, measure_s: float | None, timeout_s: float = threading.TIMEOUT_MAX
) -> Iterator[PlanReport | StepReport]:
    """Plan, build and step the stacks of a study in a separate process.

    Args:
        resolved: Spec of the study.
        store_uri: Address of the store with the prepared data.
        measure_s: How long to measure the first stack, in seconds; the others are left out. With None, all stacks of a
            compiled plan are compiled, and none is measured.
        timeout_s: Time limit for the process, in seconds.

    Yields:
        The plan, and then a report of each stack.

    Raises:
        RunError: If the process fails; with the last line of its error output.
    """
    environment = {**os.environ, **process_env(trainer_threads(device_type()))}
    if environment.get("CUDA_VISIBLE_DEVICES") == "":  # Ray hides GPUs from tasks that request none
        del environment["CUDA_VISIBLE_DEVICES"]
    with tempfile.TemporaryFile("w+") as task, tempfile.TemporaryFile("w+") as errors:
        folders = [path.parent for path in uninstalled_plugins()]
        sent = _Task(
            spec=resolved.spec, plugins=resolved.plugins, folders=folders, store_uri=store_uri, measure_s=measure_s
        )
        task.write(sent.model_dump_json())
        task.seek(0)
        command = [sys.executable, "-m", "study.training.dry_run_worker"]
        with subprocess.Popen(  # noqa: S603
            command, stdin=task, stdout=subprocess.PIPE, stderr=errors, text=True, env=environment
        ) as process:
            watchdog = threading.Timer(timeout_s, process.kill)
            watchdog.daemon = True
            watchdog.start()
            try:
                yield from map(_REPORT.validate_json, process.stdout or ())
                process.wait()
            finally:
                process.kill()
                watchdog.cancel()
        if process.returncode:
            errors.seek(0)
            *_, reason = errors.read().strip().splitlines() or ["no error message"]
            raise RunError(f"the process that made a stack ended with {process.returncode}: {reason[:300]}")


def stack_configs(resolved: ResolvedSpec, plan: StackPlan) -> dict[StackKey, Config]:
    """Return a configuration for each stack of the plain VAE and of the sampler's first suggestions."""
    search, trials = Search(resolved.spec), min(resolved.spec.search.trials or 1, _MAX_SUGGESTIONS)
    suggested = (resolved.trial_config(search.ask(number)) for number in range(trials))
    configs: dict[StackKey, Config] = {}
    for config in (resolved.plain_vae, *suggested):
        configs.setdefault(plan.stack_key(resolved.audio, config), config)
    return configs


def _work(task: _Task) -> Iterator[PlanReport | StepReport]:
    add_folders(task.folders)
    load_recorded(task.spec, [source.model_dump() for source in task.plugins])
    resolved, device, objects = ResolvedSpec(task.spec), device_type(), ObjectStore(task.store_uri)
    plan = plan_stacks(resolved, device, objects)
    yield PlanReport(
        device=device, device_name=torch.cuda.get_device_name() if device == "cuda" else processor(), plan=plan
    )
    if task.measure_s is None and not plan.compiled:
        return
    dataset = dataset_of(resolved, objects, torch.device(device))
    configs = list(stack_configs(resolved, plan).items())[: 1 if task.measure_s else None]
    for number, (key, config) in enumerate(configs, 1):
        started = time.monotonic()
        stack = plan.stack(resolved, config, dataset)
        stack.step()
        stack.synchronise()
        first_step_s = time.monotonic() - started
        views = () if key.views.scheme == "factor" else (key.views.scheme,)
        parameters = sum(math.prod(shape) for shape in stack.network.shapes.values())
        checked = stack.checked_step
        assert checked is not None  # noqa: S101  # the stack has made a step
        yield StepReport(
            stack=f"{', '.join((key.architecture.model.kind, *views, *key.extra_passes))}, {parameters:,} parameters",
            number=number,
            stacks=len(configs),
            first_step_s=first_step_s,
            trial_steps_per_s=steps_per_second(stack, task.measure_s) * plan.lanes if task.measure_s else None,
            step=checked.kind,
            warning=checked.warning,
        )


def _main() -> None:
    """Read a task from stdin, and write reports to stdout, one a line. Output of libraries goes to stderr."""
    task = _Task.model_validate_json(sys.stdin.read())
    out = sys.stdout
    with contextlib.redirect_stdout(sys.stderr):
        for report in _work(task):
            print(report.model_dump_json(), file=out, flush=True)


if __name__ == "__main__":
    _main()
