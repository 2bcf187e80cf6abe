"""What a small network can read from a representation, for many representations at once.

One multilayer perceptron for each representation and factor: a hidden layer of 64, trained by Adam for 400 steps of 256
clips at a learning rate of 0.005, on standardised latents. It is fitted on some clips and asked for the factor's class
of others. All of it is fixed, so that accuracies of different studies can be compared; `marl.metrics.METRIC_VERSION`
says which version of it was used.

R is representations, C factors, P probes (one for each of both), N clips, D latents, H hidden units, K classes,
S steps, B clips of a batch.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from marl import randomness
from marl.randomness import Purpose

__all__ = ["probe_accuracy"]

_HIDDEN = 64
_STEPS = 400
_BATCH = 256
_LEARNING_RATE = 5e-3
# Added to the output of a class that a factor has not.
_ABSENT = -1e9


def probe_accuracy(
    fit_RND: Tensor, fit_class_NC: Tensor, held_out_RND: Tensor, held_out_class_NC: Tensor, classes_C: Sequence[int]
) -> Tensor:
    """Share of held-out clips whose class each probe tells, [R, C].

    Args:
        fit_RND: representations of the clips to fit on; a latent that one has not is constant.
        fit_class_NC: their class by factor, from zero.
        held_out_RND: the same representations of other clips.
        held_out_class_NC: their classes.
        classes_C: how many classes each factor has.
    """
    device, factors = fit_RND.device, len(classes_C)
    mean = fit_RND.mean(dim=1, keepdim=True)
    deviation = fit_RND.std(dim=1, keepdim=True)
    scale = torch.where(deviation > 1e-6, deviation, torch.inf)
    # One probe for each representation and factor, P of them; all have as many outputs as the factor of most classes.
    fit_PND = ((fit_RND - mean) / scale).repeat_interleave(factors, dim=0)
    held_out_PND = ((held_out_RND - mean) / scale).repeat_interleave(factors, dim=0)
    class_PN = fit_class_NC.mT.repeat(len(fit_RND), 1)
    outputs = torch.arange(max(classes_C), device=device)
    absent_CK = torch.where(outputs < torch.tensor(classes_C, device=device)[:, None], 0.0, _ABSENT)
    absent_P1K = absent_CK.repeat(len(fit_RND), 1)[:, None]
    batch_SB = _batches(len(fit_class_NC), device)
    parameters = _initial(len(fit_PND), fit_PND.shape[-1], len(outputs), device)
    first_moments = [torch.zeros_like(parameter) for parameter in parameters]
    second_moments = [torch.zeros_like(parameter) for parameter in parameters]
    for step, batch_B in enumerate(batch_SB):
        leaves = [parameter.detach().requires_grad_() for parameter in parameters]
        logits_PBK = _logits(leaves, fit_PND[:, batch_B]) + absent_P1K
        losses = cross_entropy(logits_PBK.flatten(0, 1), class_PN[:, batch_B].flatten(), reduction="sum")
        # Probes share nothing, so the gradient of the sum of their means is each probe's own.
        gradients = torch.autograd.grad(losses / len(batch_B), leaves)
        for parameter, gradient, first, second in zip(
            parameters, gradients, first_moments, second_moments, strict=True
        ):
            first.lerp_(gradient, 0.1)
            second.lerp_(gradient.square(), 0.001)
            corrected = (second / (1 - 0.999 ** (step + 1))).sqrt_().add_(1e-8)
            parameter.addcdiv_(first, corrected, value=-_LEARNING_RATE / (1 - 0.9 ** (step + 1)))
    told_RCN: Tensor = (_logits(parameters, held_out_PND) + absent_P1K).argmax(dim=-1).unflatten(0, (-1, factors))
    return (told_RCN == held_out_class_NC.mT).to(torch.float32).mean(dim=-1)


def _logits(parameters: list[Tensor], inputs_PND: Tensor) -> Tensor:
    first_PDH, first_bias_P1H, second_PHK, second_bias_P1K = parameters
    hidden = torch.relu(torch.baddbmm(first_bias_P1H, inputs_PND, first_PDH))
    return torch.baddbmm(second_bias_P1K, hidden, second_PHK)


def _initial(probes: int, latents: int, classes: int, device: torch.device) -> list[Tensor]:
    """The same initial values for every probe: weights uniform with variance 2 / fan-in, biases zero."""
    parameters = []
    for part, (inputs, outputs) in enumerate(((latents, _HIDDEN), (_HIDDEN, classes))):
        zero = torch.zeros((), dtype=torch.int64, device=device)
        state = randomness.stream(zero, zero, Purpose.PROBE_INITIAL_VALUES, part)
        rows, columns = torch.arange(inputs, device=device), torch.arange(outputs, device=device)
        weights = (2 * randomness.uniform(state, rows, columns) - 1) * math.sqrt(6 / inputs)
        parameters += [weights.repeat(probes, 1, 1), torch.zeros(probes, 1, outputs, device=device)]
    return parameters


def _batches(clips: int, device: torch.device) -> Tensor:
    """Indices of the clips of each step's batch, the same for all probes, [steps, B]."""
    step_S = torch.arange(_STEPS, device=device)
    state_S = randomness.stream(torch.zeros_like(step_S), step_S, Purpose.PROBE_BATCH)
    rows = torch.arange(min(_BATCH, clips), device=device)
    return randomness.integers(state_S, rows, torch.zeros_like(rows[:1]), below=clips).squeeze(-1)
