"""Multinomial logistic regression for many representations at once.

Maximum likelihood with a penalty of half the squared weights; intercepts are free. What scikit-learn's
`LogisticRegression()` minimises, by Newton's method on all clips. A representation that has converged stays as it is
while others go on, so that no result depends on those beside it.

R is representations, N clips, D latents, E latents and a one for the intercept, J classes.
"""

import torch
from torch import Tensor
from torch.nn.functional import one_hot, pad

__all__ = ["multinomial_logistic"]

# Largest derivative by a parameter that is left, averaged over clips; areas under curves change by 1e-5 at most then.
_TOLERANCE = 3e-5
_NEWTON_STEPS = 50
# By so many more than the step before each step is solved: first ones are only directions, last ones have to be exact.
_CONJUGATE_GRADIENTS = 3
# Intercepts are free, but their sum over classes says nothing: this keeps it from drifting.
_INTERCEPT_PENALTY = 1e-8
# Where nothing is left to solve, zero divided by this is zero.
_TINY = 1e-300
# Most products of two latents of a clip kept at once: 128 MB of float64.
_NUMBERS = 1 << 24


def multinomial_logistic(features_RND: Tensor, class_N: Tensor, classes: int) -> tuple[Tensor, Tensor]:
    """Weights [R, J, D] and intercepts [R, J, 1], float64: outputs of clips are `weight @ features.mT + intercept`.

    Intercepts add up to zero. A class without clips has weights of zero and an intercept of minus infinity: it is never
    the answer. A feature that is zero for all clips has a weight of zero.

    Args:
        features_RND: finite, best of comparable scale, because weights of all are penalised alike.
        class_N: class of each clip, from zero.
        classes: how many there are.
    """
    clips, features = features_RND.shape[1:]
    present, kind_N = class_N.unique(return_inverse=True)
    representations = max(1, _NUMBERS // (clips * (features + 1) ** 2))
    fitted = torch.cat([_fit(part, kind_N, len(present)) for part in features_RND.split(representations)])
    parameter_RJE = fitted.new_zeros(len(fitted), classes, features + 1)
    parameter_RJE[..., -1] = -torch.inf
    parameter_RJE[:, present] = fitted
    return parameter_RJE[..., :-1], parameter_RJE[..., -1:]


def _fit(features_RND: Tensor, class_N: Tensor, classes: int) -> Tensor:
    """Weights and, as the last, the intercept, [R, J, E], where every class has clips."""
    input_RNE = pad(features_RND.to(torch.float64), (0, 1), value=1.0)
    input_REN = input_RNE.mT.contiguous()
    representations, inputs, _ = input_REN.shape
    square_RNF = (input_RNE[..., None] * input_RNE[..., None, :]).flatten(2)
    class_R1N = class_N.expand(representations, 1, -1)
    target_JN = one_hot(class_N, classes).mT.to(torch.float64)
    # With two classes scikit-learn has one vector of weights: the difference of ours, which are half of it each.
    penalty_E = input_RNE.new_full((inputs,), 2.0 if classes == 2 else 1.0)
    penalty_E[-1] = _INTERCEPT_PENALTY

    def objective(log_share_RJN: Tensor, parameter_RJE: Tensor) -> Tensor:
        loss_R11 = -log_share_RJN.gather(1, class_R1N).sum(dim=(1, 2), keepdim=True)
        return loss_R11 + (penalty_E * parameter_RJE.square()).sum(dim=(1, 2), keepdim=True) / 2

    parameter_RJE = input_RNE.new_zeros(representations, classes, inputs)
    output_RJN = parameter_RJE @ input_REN
    for newton in range(_NEWTON_STEPS):
        log_share_RJN = output_RJN.log_softmax(dim=1)
        share_RJN = log_share_RJN.exp()
        gradient_RJE = (share_RJN - target_JN) @ input_RNE + penalty_E * parameter_RJE
        moves_R11 = gradient_RJE.abs().amax(dim=(1, 2), keepdim=True) > _TOLERANCE * len(class_N)
        if not moves_R11.any():
            break
        # Conjugate gradients see the curvature of all classes together, their preconditioner that of each by itself.
        block_RJEE = (share_RJN * (1 - share_RJN) @ square_RNF).unflatten(-1, (inputs, inputs))
        block_RJEE.diagonal(dim1=-2, dim2=-1).add_(penalty_E)
        inverse_RJEE = torch.cholesky_inverse(torch.linalg.cholesky_ex(block_RJEE).L)
        iterations = _CONJUGATE_GRADIENTS * (newton + 1)
        step_RJE = _newton_step(gradient_RJE, input_REN, share_RJN, penalty_E, inverse_RJEE, iterations)
        change_RJN = step_RJE @ input_REN
        # Half the step as long as it does not lower the objective. One this short does for certain: the third
        # derivative along it is at most the second times the largest difference that it makes between two classes.
        reach_R11 = (change_RJN.amax(dim=1) - change_RJN.amin(dim=1)).amax(dim=-1)[:, None, None]
        short_R11 = reach_R11.log1p() / reach_R11.clamp_min(_TINY)
        value_R11 = objective(log_share_RJN, parameter_RJE)
        length_R11 = moves_R11.to(torch.float64)
        while True:
            tried_RJN = output_RJN + length_R11 * change_RJN
            tried_RJE = parameter_RJE + length_R11 * step_RJE
            lower_R11 = objective(tried_RJN.log_softmax(dim=1), tried_RJE) < value_R11
            long_R11 = moves_R11 & ~lower_R11 & (length_R11 > short_R11)
            if not long_R11.any():
                break
            length_R11 = torch.where(long_R11, (length_R11 / 2).maximum(short_R11), length_R11)
        output_RJN, parameter_RJE = tried_RJN, tried_RJE
    parameter_RJE[..., -1] -= parameter_RJE[..., -1].mean(dim=1, keepdim=True)
    return parameter_RJE


def _newton_step(
    gradient_RJE: Tensor,
    input_REN: Tensor,
    share_RJN: Tensor,
    penalty_E: Tensor,
    inverse_RJEE: Tensor,
    iterations: int,
) -> Tensor:
    """Solve curvature · step = -gradient by preconditioned conjugate gradients."""

    def product(first: Tensor, second: Tensor) -> Tensor:
        return (first * second).sum(dim=(1, 2), keepdim=True)

    def precondition(residual_RJE: Tensor) -> Tensor:
        return (inverse_RJEE @ residual_RJE[..., None]).squeeze(-1)

    step_RJE = torch.zeros_like(gradient_RJE)
    residual_RJE = -gradient_RJE
    direction_RJE = precondition(residual_RJE)
    left_R11 = product(residual_RJE, direction_RJE)
    for _ in range(iterations):
        change_RJN = (direction_RJE @ input_REN).mul_(share_RJN)
        change_RJN.addcmul_(share_RJN, change_RJN.sum(dim=1, keepdim=True), value=-1)
        curved_RJE = change_RJN @ input_REN.mT + penalty_E * direction_RJE
        length_R11 = left_R11 / product(direction_RJE, curved_RJE).clamp_min(_TINY)
        step_RJE = step_RJE + length_R11 * direction_RJE
        residual_RJE = residual_RJE - length_R11 * curved_RJE
        towards_RJE = precondition(residual_RJE)
        before_R11, left_R11 = left_R11, product(residual_RJE, towards_RJE)
        direction_RJE = towards_RJE + left_R11 / before_R11.clamp_min(_TINY) * direction_RJE
    return step_RJE
