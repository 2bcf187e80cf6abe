"""Checks on every machine of a cluster: a Ray task on each collects its facts and trains some steps of a stack.

The tasks return plain JSON.
"""

import time
from collections.abc import Iterator
from typing import Any, NamedTuple

import ray
from pydantic import BaseModel
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from study.doctor.checks import Finding
from study.doctor.facts import Facts, facts_here
from study.doctor.store import store_error_here
from study.errors import RunError
from study.spec import Spec
from study.spec.resolved_spec import ResolvedSpec
from study.training.dry_run_worker import PlanReport, StepReport, dry_run_stacks

__all__ = ["MachineReport", "StackResult", "ask_machines", "check_stack", "try_stack"]

_MEASURED_S = 2.0
# On a GPU, stacks of several widths are compiled to choose one; each takes half a minute.
_TIMEOUT_S = 420.0


class StackResult(BaseModel, frozen=True):
    """Result of training some steps of a stack on one machine. `error` is empty if they succeeded."""

    planned: PlanReport | None = None
    stepped: StepReport | None = None
    error: str = ""


def try_stack(resolved: ResolvedSpec, store_uri: str) -> StackResult:
    """Train some steps of a stack of a study on this machine, as a trainer would."""
    planned = stepped = None
    try:
        for line in dry_run_stacks(resolved, store_uri, _MEASURED_S, _TIMEOUT_S):
            if isinstance(line, PlanReport):
                planned = line
            else:
                stepped = line
    except RunError as error:
        return StackResult(planned=planned, error=str(error))
    return StackResult(planned=planned, stepped=stepped)


def check_stack(result: StackResult, has_gpu: bool) -> Finding:
    """Check that the stack trained its steps, and used the GPU if there is one.

    Args:
        result: Result of `try_stack`.
        has_gpu: Whether the driver lists a GPU.
    """
    if result.error or not result.planned or not result.stepped:
        advice = "no trial could train there; reproduce it on that machine with `marl-study compile SPEC`"
        return Finding("stack", "fail", result.error or "no step was trained", advice)
    plan, stepped = result.planned.plan, result.stepped
    value = (
        f"{stepped.trial_steps_per_s or 0:.0f} trial-steps/s: {plan.lanes} lanes on {result.planned.device_name}, "
        f"{plan.precision}, {plan.why}; {stepped.stack}; first step after {stepped.first_step_s:.1f} s"
    )
    if stepped.warning:
        value = f"{value}; {stepped.warning}"
    elif plan.compiled:
        value = f"{value}; the compiled step agrees with the plain step"
    if has_gpu and result.planned.device == "cpu":
        return Finding(
            "stack", "fail", value, "the driver lists a GPU that torch does not see: install a CUDA build of torch"
        )
    if stepped.warning:
        advice = "training is slower there than with a compiled step; another version of the compiler may be right"
        return Finding("stack", "warn", value, advice)
    return Finding("stack", "pass", value)


# The fastest of several replies gives the best estimate of a clock.
_CLOCK_QUERIES = 3


class MachineReport(BaseModel, frozen=True):
    """What a machine reports about itself.

    Attributes:
        facts: Facts of the machine.
        store_error: Why it cannot use the store; empty if it can.
        stack: Result of training a stack; None if no trial would train there.
    """

    facts: Facts
    store_error: str
    stack: StackResult | None


class MachineReply(NamedTuple):
    """Reply of a machine, or the reason why there is none.

    Attributes:
        host: Host name.
        report: Report of the machine; None without a reply.
        clock_offset_s: Its clock minus the clock of this machine, in seconds.
        error: Why there is no reply.
    """

    host: str
    report: MachineReport | None
    clock_offset_s: float = 0.0
    error: str = ""


def ask_machines(resolved: ResolvedSpec, uri: str, marker: str, timeout_s: float) -> Iterator[MachineReply]:
    """Yield the reply of each machine of the connected cluster. All machines are queried concurrently.

    Args:
        resolved: Spec of the study of which each training machine trains a stack.
        uri: Address of the store.
        marker: Name of an object in the store that this process wrote.
        timeout_s: How long to wait for replies, in seconds.
    """
    nodes = [node for node in _nodes() if node["Alive"]]
    with_gpus = any(node["Resources"].get("GPU") for node in nodes)
    calls = {}
    for node in nodes:
        trains = bool(node["Resources"].get("GPU" if with_gpus else "CPU"))
        task = ray.remote(max_retries=0)(_report).options(**_on(node))
        calls[task.remote(resolved.spec.model_dump_json() if trains else None, uri, marker)] = node
    ready, late = ray.wait(list(calls), num_returns=len(calls), timeout=timeout_s)
    for call in ready:
        host = calls[call]["NodeManagerHostname"]
        try:
            report = MachineReport.model_validate_json(ray.get(call))
            yield MachineReply(host, report, _clock_offset_s(calls[call]))
        except (ray.exceptions.RayError, ValueError) as error:
            yield MachineReply(host, None, error=str(error).strip().splitlines()[-1])
    for call in late:
        ray.cancel(call, force=True)
        yield MachineReply(calls[call]["NodeManagerHostname"], None, error=f"no reply within {timeout_s:.0f} s")


def _report(spec: str | None, uri: str, marker: str) -> str:
    """Return the report of the machine on which this task runs, as JSON."""
    return MachineReport(
        facts=facts_here(),
        store_error=store_error_here(uri, marker),
        stack=try_stack(ResolvedSpec(Spec.model_validate_json(spec)), uri) if spec else None,
    ).model_dump_json()


def _time() -> float:
    return time.time()


def _clock_offset_s(node: dict[str, Any]) -> float:
    task = ray.remote(max_retries=0)(_time).options(**_on(node))
    estimates = []
    for _ in range(_CLOCK_QUERIES):
        sent = time.time()
        remote = ray.get(task.remote())
        received = time.time()
        estimates.append((received - sent, remote - (sent + received) / 2))
    return min(estimates)[1]


def _nodes() -> list[dict[str, Any]]:
    nodes: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]
    return nodes


def _on(node: dict[str, Any]) -> dict[str, Any]:
    return {"num_cpus": 0, "scheduling_strategy": NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)}
