"""Whether a machine trains, and how fast: a stack is made there as a trainer would make it, and makes some steps."""

import time
from collections.abc import Iterator
from typing import Any, NamedTuple

import ray
from pydantic import BaseModel
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from study.doctor.facts import Facts, facts_here
from study.doctor.finding import Finding
from study.doctor.store import reaches
from study.errors import RunError
from study.spec import Spec
from study.training.dry_run_worker import Planned, Stepped, probe

__all__ = ["Answer", "Probed", "ask_machines", "check_stack", "probed"]

_MEASURED_S = 2.0
# On a GPU stacks of several widths are compiled to find the best, half a minute each.
_WITHIN_S = 420.0


class Probed(BaseModel, frozen=True):
    """What came of a stack on one machine; `error` is empty when it made its steps."""

    planned: Planned | None = None
    stepped: Stepped | None = None
    error: str = ""


def probed(spec: Spec, store_uri: str) -> Probed:
    """Make a stack of a study on this machine."""
    planned = stepped = None
    try:
        for line in probe(spec, store_uri, _MEASURED_S, _WITHIN_S):
            if isinstance(line, Planned):
                planned = line
            else:
                stepped = line
    except RunError as error:
        return Probed(planned=planned, error=str(error))
    return Probed(planned=planned, stepped=stepped)


def check_stack(found: Probed, has_gpu: bool) -> Finding:
    """Whether the stack made its steps, and on the device that is there.

    Args:
        found: what came of it.
        has_gpu: whether the driver lists a GPU.
    """
    if found.error or not found.planned or not found.stepped:
        advice = "no trial would train there; `marl-study compile SPEC` does the same alone, on that machine"
        return Finding("stack", "fail", found.error or "no step was made", advice)
    plan, stepped = found.planned.plan, found.stepped
    value = (
        f"{stepped.rate or 0:.0f} trial-steps/s: {plan.lanes} lanes on {found.planned.device_name}, {plan.precision}, "
        f"{plan.why}; {stepped.stack}; first step after {stepped.first_step_s:.1f} s"
    )
    if has_gpu and found.planned.device == "cpu":
        return Finding("stack", "fail", value, "torch sees no GPU where the driver does: install a build for CUDA")
    return Finding("stack", "pass", value)


# Of three answers the fastest tells a clock best.
_ASKED_FOR_TIME = 3


class Answer(BaseModel, frozen=True):
    """Of one machine.

    Attributes:
        facts: what it is.
        store_error: why it cannot use the store; empty when it can.
        stack: what came of a stack; none where no trial would train.
    """

    facts: Facts
    store_error: str
    stack: Probed | None


class Asked(NamedTuple):
    """A machine that was asked.

    Attributes:
        host: its name.
        answer: none when there was none.
        ahead_s: how far its clock is ahead of this machine's.
        error: why there was no answer.
    """

    host: str
    answer: Answer | None
    ahead_s: float = 0.0
    error: str = ""


def ask_machines(spec: Spec, uri: str, witness: str, within_s: float) -> Iterator[Asked]:
    """Ask all machines of the cluster of this process side by side.

    Args:
        spec: of which each machine that would train makes a stack.
        uri: of the store.
        witness: name of an object there, which this process wrote.
        within_s: who has not answered then is given up.
    """
    nodes = [node for node in _nodes() if node["Alive"]]
    with_gpus = any(node["Resources"].get("GPU") for node in nodes)
    calls = {}
    for node in nodes:
        trains = bool(node["Resources"].get("GPU" if with_gpus else "CPU"))
        task = ray.remote(max_retries=0)(_answer).options(**_on(node))
        calls[task.remote(spec.model_dump_json() if trains else None, uri, witness)] = node
    ready, late = ray.wait(list(calls), num_returns=len(calls), timeout=within_s)
    for call in ready:
        host = calls[call]["NodeManagerHostname"]
        try:
            answer = Answer.model_validate_json(ray.get(call))
            yield Asked(host, answer, _ahead_s(calls[call]))
        except (ray.exceptions.RayError, ValueError) as error:
            yield Asked(host, None, error=str(error).strip().splitlines()[-1])
    for call in late:
        ray.cancel(call, force=True)
        yield Asked(calls[call]["NodeManagerHostname"], None, error=f"no answer within {within_s:.0f} s")


def _answer(spec: str | None, uri: str, witness: str) -> str:
    """In a task on the machine that is asked."""
    return Answer(
        facts=facts_here(),
        store_error=reaches(uri, witness),
        stack=probed(Spec.model_validate_json(spec), uri) if spec else None,
    ).model_dump_json()


def _time() -> float:
    return time.time()


def _ahead_s(node: dict[str, Any]) -> float:
    task = ray.remote(max_retries=0)(_time).options(**_on(node))
    answers = []
    for _ in range(_ASKED_FOR_TIME):
        asked = time.time()
        theirs = ray.get(task.remote())
        answered = time.time()
        answers.append((answered - asked, theirs - (asked + answered) / 2))
    return min(answers)[1]


def _nodes() -> list[dict[str, Any]]:
    nodes: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]
    return nodes


def _on(node: dict[str, Any]) -> dict[str, Any]:
    return {"num_cpus": 0, "scheduling_strategy": NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)}
