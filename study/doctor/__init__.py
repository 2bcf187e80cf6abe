"""Checks before a study runs, in order of cost: the store, the machines, then the training of a stack on each.

On a cluster, a Ray task on every machine collects its facts, and trains some steps. The tasks return plain JSON.
"""

import time
import uuid
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, NamedTuple

import ray
from pydantic import BaseModel
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from study.datasets import factors_of
from study.doctor.checks import Finding, check_machine, check_token, locked_versions, merge_findings
from study.doctor.facts import Facts, facts_here
from study.doctor.store import check_clock, check_store, store_error_here
from study.environment import versions
from study.errors import RunError, UserError
from study.runs.dry_run import StorageEstimate, estimate_storage
from study.runs.ray_cluster import ray_session
from study.spec import Spec, parse_spec
from study.spec.plugins import load_recorded
from study.spec.resolve import resolve
from study.spec.resolved_spec import ResolvedSpec
from study.storage import ObjectStore
from study.training.dry_run_worker import PlanReport, StepReport, dry_run_stacks

__all__ = ["TYPICAL", "MachineReport", "StackResult", "ask_machines", "check_stack", "run_checks", "try_stack"]

TYPICAL = resolve(
    parse_spec(
        {
            "name": "typical",
            "data": {"kind": "syntone"},
            "train": {"steps": 800, "batch_pairs": 32},
            "space": {
                "latent.private": {"choice": [4, 8, 16]},
                "latent.shared": {"choice": [4, 8]},
                "contrast.strategy": {"choice": ["none", "infonce"]},
            },
            "replicates": 2,
            "search": {"trials": 12},
            "resources": {"lanes": 8},
        },
        "the default study of doctor",
    )
)
"""Study that is checked if no spec is given: networks and batches of the quickstart."""

_MEASURED_S = 2.0
# On a GPU, stacks of several widths are compiled to choose one; each takes half a minute.
_STACK_TIMEOUT_S = 420.0
_REPLY_TIMEOUT_S = 480.0
# The fastest of several replies gives the best estimate of a clock.
_CLOCK_QUERIES = 3
# Number of lanes that the storage estimate assumes for `lanes: auto`.
_MAX_LANES = 128


def run_checks(spec: ResolvedSpec | None, store: str, address: str | None) -> Iterator[Finding]:
    """Yield the findings about the store and about this machine or every machine of a cluster.

    Args:
        spec: Spec of the study to check for; None for `TYPICAL`.
        store: Address of the store.
        address: HOST:PORT of a cluster's head node, or `auto`; None for this machine alone.

    Raises:
        UserError: If an address is invalid.
    """
    yield from check_store(store, _size(spec, ObjectStore(store)) if spec else None)
    if address is not None:
        yield from _cluster(spec or TYPICAL, store, address)
        return
    facts = facts_here()
    yield from check_machine(facts, versions(), locked_versions())
    yield check_stack(try_stack(spec or TYPICAL, store), bool(facts.gpus))


def _cluster(spec: ResolvedSpec, store: str, address: str) -> Iterator[Finding]:
    host, _, port = address.rpartition(":")
    if address != "auto" and ("/" in host or not host or not port.isdecimal()):
        raise UserError(
            f"--address: must be HOST:PORT of a cluster's head node, or `auto` on the head node; got {address!r}. "
            "Run doctor on the head node to check its cluster"
        )
    objects, marker = ObjectStore(store), f"check-{uuid.uuid4().hex}"
    try:
        with suppress(UserError):  # check_store has reported a store that cannot be written
            objects.write(marker, b"marl-study")
        with ray_session(address):
            replies = list(ask_machines(spec, store, marker, _REPLY_TIMEOUT_S))
    except RunError as error:
        advice = "check the head node with `ray status`; if it requires a token, set RAY_AUTH_MODE=token here"
        yield Finding("cluster", "fail", str(error), advice)
        return
    finally:
        with suppress(UserError):
            objects.delete(marker)
    mine, lock = versions(), locked_versions()
    findings = []
    for host, report, clock_offset_s, reason in replies:
        if report is None:
            advice = "install the same code and the same requirements.lock as on this machine"
            findings.append(Finding("machine", "fail", reason, advice, (host,)))
            continue
        here = list(check_machine(report.facts, mine, lock))
        here.append(check_token(report.facts.requires_token))
        here.append(check_clock(clock_offset_s, "its clock"))
        if report.store_error:
            advice = "give each machine access to the store (role, keys or shared folder): trainers write to it"
            here.append(Finding("store", "fail", report.store_error, advice))
        else:
            here.append(Finding("store", "pass", "the machine can read and write the store"))
        if report.stack:
            here.append(check_stack(report.stack, bool(report.facts.gpus)))
        findings += [finding._replace(where=(host,)) for finding in here]
    yield from merge_findings(findings)


def _size(resolved: ResolvedSpec, objects: ObjectStore) -> StorageEstimate:
    spec = resolved.spec
    lanes = spec.resources.lanes if spec.resources.lanes != "auto" else _MAX_LANES
    trials = (spec.search.trials or 0) + 1
    return estimate_storage(resolved, resolved.stack_plan(lanes), trials, factors_of(resolved, objects))


class StackResult(BaseModel, frozen=True):
    """Result of training some steps of a stack on one machine. `error` is empty if they succeeded."""

    planned: PlanReport | None = None
    stepped: StepReport | None = None
    error: str = ""


def try_stack(resolved: ResolvedSpec, store_uri: str) -> StackResult:
    """Train the first stack of a study for some steps in a process on this machine, and return its timing or error."""
    planned = stepped = None
    try:
        for line in dry_run_stacks(resolved, store_uri, _MEASURED_S, _STACK_TIMEOUT_S):
            if isinstance(line, PlanReport):
                planned = line
            else:
                stepped = line
    except RunError as error:
        return StackResult(planned=planned, error=str(error))
    return StackResult(planned=planned, stepped=stepped)


def check_stack(result: StackResult, has_gpu: bool) -> Finding:
    """Check that the stack trained its steps, and used the GPU if the driver lists one."""
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
        advice = "the driver lists a GPU that torch does not see: install a CUDA build of torch"
        return Finding("stack", "fail", value, advice)
    if stepped.warning:
        advice = "training is slower there than with a compiled step; another version of the compiler may be right"
        return Finding("stack", "warn", value, advice)
    return Finding("stack", "pass", value)


class MachineReport(BaseModel, frozen=True):
    """What a machine reports about itself. No error means that it can use the store.

    There is no result of training a stack if no trial would train there.
    """

    facts: Facts
    store_error: str
    stack: StackResult | None


class MachineReply(NamedTuple):
    """Report of a machine and its clock minus the clock of this machine, or the error why there is no report."""

    host: str
    report: MachineReport | None
    clock_offset_s: float = 0.0
    error: str = ""


def ask_machines(resolved: ResolvedSpec, uri: str, marker: str, timeout_s: float) -> Iterator[MachineReply]:
    """Yield the reply of each machine of the connected cluster. All machines are queried concurrently.

    Machines that would train trials of the study train some steps of a stack. All read `marker`, the name of an object
    that this process wrote to the store.
    """
    nodes = [node for node in _nodes() if node["Alive"]]
    with_gpus = any(node["Resources"].get("GPU") for node in nodes)
    calls = {}
    for node in nodes:
        trains = bool(node["Resources"].get("GPU" if with_gpus else "CPU"))
        task = ray.remote(max_retries=0)(_report).options(**_on(node))
        plugins = [source.model_dump() for source in resolved.plugins]
        calls[task.remote(resolved.spec.model_dump_json() if trains else None, plugins, uri, marker)] = node
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


def _report(spec: str | None, plugins: list[dict[str, Any]], uri: str, marker: str) -> str:
    """Return the report of the machine on which this task runs, as JSON."""
    stack = _try_received(Spec.model_validate_json(spec), plugins, uri) if spec else None
    return MachineReport(facts=facts_here(), store_error=store_error_here(uri, marker), stack=stack).model_dump_json()


def _try_received(spec: Spec, plugins: list[dict[str, Any]], uri: str) -> StackResult:
    try:
        load_recorded(spec, plugins)
    except UserError as error:
        return StackResult(planned=None, error=str(error))
    return try_stack(ResolvedSpec(spec), uri)


def _clock_offset_s(node: dict[str, Any]) -> float:
    task = ray.remote(max_retries=0)(lambda: time.time()).options(**_on(node))
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
