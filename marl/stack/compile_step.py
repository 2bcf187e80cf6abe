"""Compilation of the step of a stack, and the comparison of the compiled step with the plain one before it is used.

M is weighted terms of the objective, n the size of one parameter.
"""

import logging
from collections.abc import Callable, Iterator
from copy import deepcopy
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

_WARM_UP_RUNS = 3
_CUDA_FORMS: dict[StepKind, _Options] = {"compiled": {}}
# Inductor options to try in turn. Scalar code is slower, but avoids errors in vectorised code.
_CPU_FORMS = _CUDA_FORMS | {"compiled without vector instructions": {"cpp.simdlen": 0}}
# Maximum difference from the plain step, relative to the norm of its values. Rounding gave at most 8e-6 in float32 and
# 9e-3 in bfloat16 over all terms of the objective; wrong random numbers or rates change a gradient by 0.1 or more.
_TOLERANCE = {torch.float32: 1e-3, torch.bfloat16: 0.1}
# Small gradients are sums of large numbers that cancel, so a parameter's scale is at least this share of its lane's.
_MIN_SHARE = 0.01


class CheckedStep(NamedTuple):
    """A step that agrees with the plain step."""

    run: Callable[[], Tensor]  # trains all lanes for one step and returns the losses [K]
    kind: StepKind
    warning: str = ""  # rejected compiled forms, the reasons, and the form in use; empty if none was rejected


@torch.no_grad()
def compile_step(step: StepFunction, state: State, compiled: bool) -> CheckedStep:
    """Compile the step, compare it with the plain step, and return it bound to `state`.

    TorchInductor fuses successive operations into one pass over memory. On a GPU the compiled step is also captured as
    a CUDA graph. Compilers can produce wrong code without an error, so both steps run once on the result of
    `check_state`. A compiled step is rejected if its results differ by more than rounding. On a CPU a second attempt
    compiles without vector instructions. If `compiled` is false or every attempt is rejected, the plain step is
    returned. The decision depends on the stack and the machine, and not on the replicates in the lanes.

    The returned step updates `state` in place; the comparison leaves it unchanged. Compilation takes tens of seconds,
    or a few seconds with a filled cache. On a CPU it needs a C++ compiler.
    """
    if not compiled:
        return _plain_step(step, state)
    tolerance = _TOLERANCE[step.objective_spec.dtype]
    is_cuda = state.progress.step.device.type == "cuda"
    start = check_state(step.objective_spec, state)
    expected = deepcopy(start)
    expected_loss_K = _run(step, step, expected)  # also fills the caches that recording reads
    saved, warning = deepcopy(state), ""
    try:
        for kind, options in (_CUDA_FORMS if is_cuda else _CPU_FORMS).items():
            state.load(start)
            graph = make_fx(step)(*state.step_inputs())
            # TorchInductor takes this number of threads by default, but finds code for another number in its cache.
            options = {**options, "cpp.threads": torch.get_num_threads()}
            compiled_step = torch.compile(graph, dynamic=False, fullgraph=True, options=options)
            run: Callable[[], Tensor] = partial(_run, step, compiled_step, state)
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
    return _plain_step(step, state, warning)


def _plain_step(step: StepFunction, state: State, warning: str = "") -> CheckedStep:
    step.record(state)
    return CheckedStep(partial(_run, step, step, state), "plain", warning)


def check_state(objective_spec: ObjectiveSpec, state: State) -> State:
    """Return a state of the same shapes for the comparison, in which every term of the objective acts.

    It does not depend on the replicates in the lanes. Every lane has a different model and batch, and a loss of few
    terms, so that large terms do not hide the error of a small one. The second moments are one, so that updates are
    smooth in the gradients. From zero, Adam's first update would be nearly the sign of the gradient, which rounding can
    change.
    """
    check, lanes, device = deepcopy(state), len(state.progress.step), state.progress.step.device
    _, _, _, private, shared = objective_spec.network.architecture
    latent = LatentConfig(private=private, shared=shared)
    for lane in range(lanes):
        initial = objective_spec.network.initial_parameters(latent, lane, device, objective_spec.active_terms.heads)
        for name, value in initial.items():
            check.parameters.shaped[name][lane] = value
    check.first_moments.matrix.fill_(0.0)
    check.second_moments.matrix.fill_(1.0)
    hyperparameters = _check_hyperparameters(objective_spec, lanes, check.hyperparameters)
    for field_K, value_K in zip(check.hyperparameters, hyperparameters, strict=True):
        field_K.copy_(value_K)
    progress = check.progress
    for lane_K in (progress.seed, progress.step):
        lane_K.copy_(torch.arange(lanes))
    for constant in (progress.active, progress.learning_rate, progress.warmup, progress.decay_power):
        constant.fill_(1)
    return check


def _check_hyperparameters(objective_spec: ObjectiveSpec, lanes: int, like: LaneHyperparameters) -> LaneHyperparameters:
    """Return hyperparameters in which term m of the objective has weight one in lane m modulo K, else zero.

    Fusions and switches differ between lanes.
    """
    lane_K = torch.arange(lanes)
    weighted = (like.reconstruction[:, None], like.kl_3S.flatten(1), like.multiscale_M, like.contrast_M)
    sizes = [field.shape[1] for field in (*weighted, like.independence_M)]
    weight_KM = (torch.arange(sum(sizes)) % lanes == lane_K[:, None]).to(torch.float32)
    reconstruction_K1, kl_K6, multiscale_KM, contrast_KM, independence_KM = weight_KM.split(sizes, dim=1)
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
        exclude_same_group=lane_K % 2 == 1,
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
    """Yield the name of each compared quantity, the norm of its error [K], and the scale of the error [K]."""
    yield "losses", (loss_K - expected_loss_K).abs(), expected_loss_K.abs() + 1  # small terms are differences of nats
    for part in ("first_moments", "second_moments", "parameters"):
        before, plain, compiled = (getattr(state, part).flat for state in (start, expected, actual))
        changes = {name: (plain[name] - before_Kn).norm(dim=1) for name, before_Kn in before.items()}
        all_K = torch.stack(list(changes.values())).norm(dim=0)
        for name, change_K in changes.items():
            error_K = (compiled[name] - plain[name]).norm(dim=1)
            rounding_K = torch.finfo(torch.float32).eps * before[name].norm(dim=1)
            yield f"{part.replace('_', ' ')} of {name}", error_K - rounding_K, change_K + _MIN_SHARE * all_K + 1e-20


def _captured(run: Callable[[], Tensor]) -> Callable[[], Tensor]:
    """Capture a step as a CUDA graph, which replays it with one launch."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(_WARM_UP_RUNS):
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
def _run(step: StepFunction, update: Callable[..., Tensor], state: State) -> Tensor:
    step.pre_step(state)
    loss_K = update(*state.step_inputs())
    step.post_step(state, loss_K)
    return loss_K
