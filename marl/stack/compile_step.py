"""Compiles the step of a stack, and compares the compiled step with the plain one before anything trains with it.

K is lanes, T weighted terms of the objective, n numbers of one parameter.
"""

import logging
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor
from torch.fx.experimental.proxy_tensor import make_fx

from marl.models import LatentConfig
from marl.objective import LaneHyperparameters, ObjectiveSpec
from marl.stack.step import State, StepFunction

__all__ = ["CheckedStep", "StepKind", "check_state", "compile_step"]

logger = logging.getLogger(__name__)

StepKind = Literal["plain", "compiled", "compiled without vector instructions"]
_Options = dict[str, str | int | bool | Callable[..., Any]]

_WARM_RUNS = 3
# Inductor options to try in turn. Scalar code is slower, but avoids errors in vectorised code.
_CPU_OPTIONS: dict[StepKind, _Options | None] = {
    "compiled": None,
    "compiled without vector instructions": {"cpp.simdlen": 0},
}
_CUDA_OPTIONS: dict[StepKind, _Options | None] = {"compiled": None}
# Maximum difference from the plain step, relative to the norm of its values. Rounding gave at most 8e-6 in float32 and
# 9e-3 in bfloat16 over all terms of the objective; wrong random numbers or rates change a gradient by 0.1 or more.
_TOLERANCE = {torch.float32: 1e-3, torch.bfloat16: 0.1}
# Small gradients are sums of large numbers that cancel, so a parameter's scale is at least this share of its lane's.
_MIN_SHARE = 0.01


class CheckedStep(NamedTuple):
    """A step that agrees with the plain step.

    Attributes:
        run: Makes one step of every lane and returns the losses [K].
        kind: Form of the step.
        warning: Which compiled form was rejected, why, and which form trains instead; empty if none was rejected.
    """

    run: Callable[[], Tensor]
    kind: StepKind
    warning: str = ""


@torch.no_grad()
def compile_step(step: StepFunction, state: State, compiled: bool) -> CheckedStep:
    """Return the fastest form of the step that agrees with the plain step.

    Compilation fuses operations that follow each other into one pass over memory; on a GPU the whole step becomes one
    launch. A compiled step is rejected if one step from `check_state` differs from the plain step by more than
    rounding, because compilers fail silently. On a processor the second attempt compiles without vector instructions.
    If no compiled form agrees, the plain step is returned. The decision depends on the stack and the machine, and not
    on the replicates in the lanes.

    Args:
        step: The step as plain code.
        state: The state that the returned step updates in place; unchanged by the comparison.
        compiled: Whether to compile. This takes tens of seconds, or a few with a filled cache, and needs a C++ compiler
            on a processor.
    """
    if not compiled:
        step.record(state)
        return CheckedStep(partial(_run, step, step, state), "plain")
    tolerance = _TOLERANCE[step.objective_spec.dtype]
    is_cuda = state.progress.step.device.type == "cuda"
    start = check_state(step.objective_spec, state)
    expected = start.copy()
    expected_loss_K = _run(step, step, expected)  # also makes the tables that must exist before the step is recorded
    saved, warning = state.copy(), ""
    try:
        for kind, options in (_CUDA_OPTIONS if is_cuda else _CPU_OPTIONS).items():
            state.load(start)
            program = torch.compile(make_fx(step)(*state.tensors()), dynamic=False, fullgraph=True, options=options)
            run: Callable[[], Tensor] = partial(_run, step, program, state)
            if is_cuda:
                run = _captured(run)
            state.load(start)
            loss_K = run()
            difference = _difference(start, expected, state, expected_loss_K, loss_K, tolerance)
            if difference is None:
                if warning:
                    warning += f"training with the step {kind}"
                    logger.warning(warning)
                return CheckedStep(run, kind, warning)
            warning += f"the step {kind} differs from the plain step: {difference}; "
    finally:
        state.load(saved)
    warning += "training with the plain step"
    logger.warning(warning)
    step.record(state)
    return CheckedStep(partial(_run, step, step, state), "plain", warning)


def check_state(objective_spec: ObjectiveSpec, state: State) -> State:
    """Return a state of the same shapes for the comparison, in which every term of the objective acts.

    It does not depend on the replicates in the lanes. Every lane has its own model and batch, and a loss of few terms,
    so that large terms do not hide the error of a small one. The second moments are one, so that updates are smooth in
    the gradients; from zero, Adam's first update is nearly the sign of the gradient, which rounding can change.
    """
    check, lanes = state.copy(), len(state.progress.step)
    device = state.progress.step.device
    _, _, _, private, shared = objective_spec.network.architecture
    latent = LatentConfig(private=private, shared=shared)
    for lane in range(lanes):
        initial = objective_spec.network.initial_parameters(latent, lane, device, objective_spec.active_terms.heads)
        for name, value in initial.items():
            check.parameters.shaped[name][lane] = value
    for moments, constant in ((check.first_moments, 0.0), (check.second_moments, 1.0)):
        for moment_Kn in moments.flat.values():
            moment_Kn.fill_(constant)
    hyperparameters = _check_hyperparameters(objective_spec, lanes, check.hyperparameters)
    for field_K, value_K in zip(check.hyperparameters, hyperparameters, strict=True):
        field_K.copy_(value_K)
    progress, lane_K = check.progress, torch.arange(lanes, device=device)
    progress.seed.copy_(lane_K)
    progress.step.copy_(lane_K)
    progress.active.fill_(1)
    progress.learning_rate.fill_(1.0)
    progress.warmup.fill_(1.0)
    progress.decay_power.fill_(1.0)
    return check


def _check_hyperparameters(objective_spec: ObjectiveSpec, lanes: int, like: LaneHyperparameters) -> LaneHyperparameters:
    """Return hyperparameters that weigh term t of the objective only in lane t modulo K; fusions and switches vary."""
    lane_K = torch.arange(lanes)
    weighted = (like.reconstruction[:, None], like.kl_3S.flatten(1), like.multiscale_M, like.contrast_M)
    sizes = [field.shape[1] for field in (*weighted, like.independence_M)]
    weight_KT = (torch.arange(sum(sizes)) % lanes == lane_K[:, None]).to(torch.float32)
    reconstruction_K1, kl_K6, multiscale_KM, contrast_KM, independence_KM = weight_KT.split(sizes, dim=1)
    is_private_D = torch.arange(objective_spec.network.latents) < objective_spec.network.architecture.private
    fusions = len(objective_spec.active_terms.fusions)
    return LaneHyperparameters(
        mask_D=torch.ones(lanes, objective_spec.network.latents),
        subspace_DS=torch.stack([is_private_D, ~is_private_D], dim=1).to(torch.float32).expand(lanes, -1, -1),
        fusion_M=(torch.arange(fusions) == lane_K[:, None] % fusions).to(torch.float32),
        reconstruction=reconstruction_K1[:, 0],
        multiscale_M=multiscale_KM,
        kl_3S=kl_K6.unflatten(1, (3, 2)),
        contrast_M=contrast_KM,
        temperature=torch.full((lanes,), 0.2),
        projected=lane_K % 2 == 0,
        exclude_same_factors=lane_K % 2 == 1,
        target_decay=torch.full((lanes,), 0.99),
        independence_M=independence_KM,
    )


def _difference(
    start: State, expected: State, actual: State, expected_loss_K: Tensor, loss_K: Tensor, tolerance: float
) -> str | None:
    """Return a description of the largest difference beyond the tolerance, or None if there is none."""
    worst, text = 1.0, None
    for name, error_K, scale_K in _errors(start, expected, actual, expected_loss_K, loss_K):
        excess = float((error_K / (tolerance * scale_K)).nan_to_num(nan=torch.inf).max())
        if excess > worst:
            worst, text = excess, f"{name} by {excess * tolerance:.2g} of their scale (allowed: {tolerance:g})"
    return text


def _errors(
    start: State, expected: State, actual: State, expected_loss_K: Tensor, loss_K: Tensor
) -> Iterator[tuple[str, Tensor, Tensor]]:
    """Yield the name of each compared quantity, and per lane the norm of its error and its scale, both [K]."""
    yield "losses", (loss_K - expected_loss_K).abs(), expected_loss_K.abs() + 1  # small terms are differences of nats
    for part in ("first_moments", "second_moments", "parameters"):
        begins, ends, finds = (getattr(state, part).flat for state in (start, expected, actual))
        changes = {name: (ends[name] - begin_Kn).norm(dim=1) for name, begin_Kn in begins.items()}
        all_K = torch.stack(list(changes.values())).norm(dim=0)
        for name, change_K in changes.items():
            error_K = (finds[name] - ends[name]).norm(dim=1)
            rounding_K = torch.finfo(torch.float32).eps * begins[name].norm(dim=1)
            yield f"{part.replace('_', ' ')} of {name}", error_K - rounding_K, change_K + _MIN_SHARE * all_K + 1e-20


def _captured(run: Callable[[], Tensor]) -> Callable[[], Tensor]:
    """Capture a step as a CUDA graph, which replays it with one launch."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(_WARM_RUNS):
            run()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):  # records, changes nothing
        loss_K = run()

    def replay() -> Tensor:
        graph.replay()
        return loss_K

    return replay


@torch.no_grad()
def _run(step: StepFunction, program: Callable[..., Tensor], state: State) -> Tensor:
    step.pre_step(state)
    loss_K = program(*state.tensors())
    step.post_step(state, loss_K)
    return loss_K
