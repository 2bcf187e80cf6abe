"""Probes: accuracy of a small network on each of many representations.

A probe is a multilayer perceptron for one representation and one factor: a hidden layer of 64, trained by Adam for 400
steps of 256 clips at a learning rate of 0.005, on standardised latents. All of this is fixed, so that accuracies of
different studies are comparable; `marl.metrics.METRIC_VERSION` identifies the version.

P is probes, one for each representation and factor; H hidden units, S steps, B clips of a batch.
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
# Added to the logit of a class that the factor of a probe does not have.
_ABSENT = -1e9


def probe_accuracy(
    fit_RND: Tensor,
    fit_class_NC: Tensor,
    held_out_RND: Tensor,
    held_out_class_NC: Tensor,
    classes_C: Sequence[int],
    posterior_deviation_RD: Tensor | None = None,
) -> Tensor:
    """Return the fraction of held-out clips whose class each probe predicts, [R, C].

    Args:
        fit_RND: Representations of the clips to fit on; padded latents are constant.
        fit_class_NC: Classes of these clips by factor, from zero.
        held_out_RND: The same representations of other clips.
        held_out_class_NC: Classes of the other clips, from zero.
        classes_C: Number of classes of each factor.
        posterior_deviation_RD: Root-mean deviation of the posteriors of each latent, if representations are means. No
            latent is scaled by less, so that the means of a collapsed latent stay as small as they are.
    """
    device, factors = fit_RND.device, len(classes_C)
    mean = fit_RND.mean(dim=1, keepdim=True)
    deviation = fit_RND.std(dim=1, keepdim=True)
    scale = torch.where(deviation > 1e-6, deviation, torch.inf)
    if posterior_deviation_RD is not None:
        scale = scale.maximum(posterior_deviation_RD[:, None])
    # All probes have as many outputs as the factor with most classes.
    fit_PND = ((fit_RND - mean) / scale).repeat_interleave(factors, dim=0)
    held_out_PND = ((held_out_RND - mean) / scale).repeat_interleave(factors, dim=0)
    class_PN = fit_class_NC.mT.repeat(len(fit_RND), 1)
    outputs = torch.arange(max(classes_C), device=device)
    absent_CY = torch.where(outputs < torch.tensor(classes_C, device=device)[:, None], 0.0, _ABSENT)
    absent_P1Y = absent_CY.repeat(len(fit_RND), 1)[:, None]
    batch_SB = _batches(len(fit_class_NC), device)
    parameters = _initial_parameters(len(fit_PND), fit_PND.shape[-1], len(outputs), device)
    first_moments = [torch.zeros_like(parameter) for parameter in parameters]
    second_moments = [torch.zeros_like(parameter) for parameter in parameters]
    for step, batch_B in enumerate(batch_SB):
        leaves = [parameter.detach().requires_grad_() for parameter in parameters]
        logits_PBY = _logits(leaves, fit_PND[:, batch_B]) + absent_P1Y
        losses = cross_entropy(logits_PBY.flatten(0, 1), class_PN[:, batch_B].flatten(), reduction="sum")
        # Probes share no parameters, so the gradient of the sum is the gradient of each probe.
        gradients = torch.autograd.grad(losses / len(batch_B), leaves)
        for parameter, gradient, first, second in zip(
            parameters, gradients, first_moments, second_moments, strict=True
        ):
            first.lerp_(gradient, 0.1)
            second.lerp_(gradient.square(), 0.001)
            corrected = (second / (1 - 0.999 ** (step + 1))).sqrt_().add_(1e-8)
            parameter.addcdiv_(first, corrected, value=-_LEARNING_RATE / (1 - 0.9 ** (step + 1)))
    predicted_RCN: Tensor = (_logits(parameters, held_out_PND) + absent_P1Y).argmax(dim=-1).unflatten(0, (-1, factors))
    return (predicted_RCN == held_out_class_NC.mT).to(torch.float32).mean(dim=-1)


def _logits(parameters: list[Tensor], inputs_PND: Tensor) -> Tensor:
    first_PDH, first_bias_P1H, second_PHY, second_bias_P1Y = parameters
    hidden = torch.relu(torch.baddbmm(first_bias_P1H, inputs_PND, first_PDH))
    return torch.baddbmm(second_bias_P1Y, hidden, second_PHY)


def _initial_parameters(probes: int, latents: int, classes: int, device: torch.device) -> list[Tensor]:
    """Return the same initial values for every probe: weights uniform with variance 2 / fan-in, biases zero."""
    parameters = []
    for part, (inputs, outputs) in enumerate(((latents, _HIDDEN), (_HIDDEN, classes))):
        zero = torch.zeros((), dtype=torch.int64, device=device)
        state = randomness.stream(zero, zero, Purpose.PROBE_INITIAL_VALUES, part)
        rows, columns = torch.arange(inputs, device=device), torch.arange(outputs, device=device)
        weights = (2 * randomness.uniform(state, rows, columns) - 1) * math.sqrt(6 / inputs)
        parameters += [weights.repeat(probes, 1, 1), torch.zeros(probes, 1, outputs, device=device)]
    return parameters


def _batches(clips: int, device: torch.device) -> Tensor:
    """Return the indices of the clips of each batch, the same for all probes, [S, B]."""
    step_S = torch.arange(_STEPS, device=device)
    state_S = randomness.stream(torch.zeros_like(step_S), step_S, Purpose.PROBE_BATCH)
    rows = torch.arange(min(_BATCH, clips), device=device)
    return randomness.integers(state_S, rows, torch.zeros_like(rows[:1]), below=clips).squeeze(-1)
