"""Whether a machine trains, and how fast: a stack is made there as a trainer would make it, and makes some steps."""

from pydantic import BaseModel

from study.doctor.finding import Finding
from study.errors import RunError
from study.spec import Spec
from study.training.probe import Planned, Stepped, probe

__all__ = ["Probed", "check_stack", "probed"]

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
        advice = "no trial would train there; `marl-study warm SPEC` does the same alone, on that machine"
        return Finding("stack", "fail", found.error or "no step was made", advice)
    plan, stepped = found.planned.plan, found.stepped
    value = (
        f"{stepped.rate or 0:.0f} trial-steps/s: {plan.lanes} lanes on {found.planned.device_name}, {plan.precision}, "
        f"{plan.why}; {stepped.stack}; first step after {stepped.first_step_s:.1f} s"
    )
    if has_gpu and found.planned.device == "cpu":
        return Finding("stack", "fail", value, "torch sees no GPU where the driver does: install a build for CUDA")
    return Finding("stack", "pass", value)
