"""Multilayer perceptrons that read factors from whitened latents.

B is clips of a batch, E components of whitened latents, Y outputs.
"""

import math
from collections.abc import Iterator, Sequence
from itertools import islice, pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from marl import randomness
from marl.randomness import Purpose

__all__ = ["Network", "NetworkConfig"]

_WARMUP_STEPS = 20
_MOMENTUM = 0.9
# The bias of a unit is drawn, so that kinks of the first layer lie anywhere in the cloud of clips.
_BIAS_DEVIATION = 0.5
_OUTPUT_GAIN = 0.1
# Size of an update of weights relative to one of biases.
_WEIGHT_SCALE = 4.0
# Coefficients of the iteration that brings singular values near one, from the reference implementation of Muon.
_NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)
_NEWTON_SCHULZ_STEPS = 4


class NetworkConfig(NamedTuple):
    """Size and training of a network.

    Attributes:
        hidden: Number of units of each hidden layer.
        epochs: Number of passes over the clips, within the limits of steps.
        min_steps: Minimum number of steps.
        max_steps: Maximum number of steps.
        batch: Clips in a step.
        learning_rate: Learning rate after warm-up. It falls to zero along a cosine.
        weight_decay: Fraction of the weights that is subtracted in a step, relative to the learning rate.
    """

    hidden: tuple[int, ...]
    epochs: int
    min_steps: int
    max_steps: int
    batch: int = 256
    learning_rate: float = 0.03
    weight_decay: float = 0.1


class Network:
    """One perceptron with rectified units for each representation, with outputs for the classes of all factors.

    Perceptrons of a stack have the same initial values and batches. Weights are trained by Muon (Jordan et al., *Muon:
    An Optimizer for Hidden Layers in Neural Networks*, 2024), which finds more here in 400 steps than Adam in 800.

    Args:
        whitened_RNE: Whitened latents of the clips to fit on.
        one_hots: Class of each clip by factor, [N, Y]; a row of zeros for an unknown class.
        config: Size and training.
        seed: Seed of initial values and batches.
    """

    def __init__(self, whitened_RNE: Tensor, one_hots: Sequence[Tensor], config: NetworkConfig, seed: int) -> None:
        self._classes = [one_hot_NY.shape[1] for one_hot_NY in one_hots]
        input_RNE = whitened_RNE.to(torch.float32)
        target_NY = torch.cat(list(one_hots), dim=1).to(torch.float32)
        known_NY = torch.cat([part.sum(dim=1, keepdim=True).expand_as(part) for part in one_hots], dim=1)
        known_NY = known_NY.to(torch.float32)
        # Components that a representation does not have are zero. They do not change the training of the others.
        inputs_R11 = (input_RNE != 0).any(dim=1).sum(dim=-1).clamp_min(1)[:, None, None]
        fan_ins = [inputs_R11, *(torch.full_like(inputs_R11, units) for units in config.hidden)]
        widths = [input_RNE.shape[-1], *config.hidden, sum(self._classes)]
        self._weights, self._biases = _initial_values(widths, fan_ins, seed)
        scales = [
            _WEIGHT_SCALE * (weight.shape[2] / fan_in_R11).clamp_min(1).sqrt()
            for weight, fan_in_R11 in zip(self._weights, fan_ins, strict=True)
        ]
        momenta = [torch.zeros_like(weight) for weight in self._weights]
        first_moments = [torch.zeros_like(bias) for bias in self._biases]
        second_moments = [torch.zeros_like(bias) for bias in self._biases]
        clips = len(target_NY)
        batch = min(config.batch, clips)
        steps = min(max(config.epochs * clips // batch, config.min_steps), config.max_steps)
        examples = (input_RNE, target_NY, known_NY)
        for step, (batch_RBE, target_BY, known_BY) in enumerate(_batches(*examples, batch, steps, seed)):
            decay = 0.5 * (1 + math.cos(math.pi * step / steps))
            rate = config.learning_rate * min(1.0, (step + 1) / _WARMUP_STEPS) * decay
            weight_gradients, bias_gradients = self._gradients(batch_RBE, target_BY, known_BY)
            for weight, gradient, momentum, scale in zip(self._weights, weight_gradients, momenta, scales, strict=True):
                momentum.lerp_(gradient, 1 - _MOMENTUM)
                update = _orthogonalised(momentum.lerp(gradient, 1 - _MOMENTUM))  # with Nesterov's momentum
                weight.mul_(1 - rate * config.weight_decay).sub_(update * (rate * scale))
            for bias, gradient, first, second in zip(
                self._biases, bias_gradients, first_moments, second_moments, strict=True
            ):
                first.lerp_(gradient, 0.1)
                second.lerp_(gradient.square(), 0.01)
                corrected = (second / (1 - 0.99 ** (step + 1))).sqrt_().add_(1e-8)
                bias.addcdiv_(first, corrected, value=-rate / (1 - 0.9 ** (step + 1)))

    def logits(self, whitened_RNE: Tensor) -> list[Tensor]:
        """Return logits of the classes of clips by factor, float32 [R, N, Y]."""
        return list(self._layers(whitened_RNE.to(torch.float32))[-1].split(self._classes, dim=-1))

    def _layers(self, input_RNE: Tensor) -> list[Tensor]:
        """Return the inputs, the outputs of each hidden layer, and the logits."""
        layers = [input_RNE]
        for weight, bias in zip(self._weights[:-1], self._biases[:-1], strict=True):
            layers.append(torch.baddbmm(bias, layers[-1], weight).relu_())
        return [*layers, torch.baddbmm(self._biases[-1], layers[-1], self._weights[-1])]

    def _gradients(self, input_RBE: Tensor, target_BY: Tensor, known_BY: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """Return gradients of the cross-entropy, summed over factors, by weights and biases of each layer."""
        layers = self._layers(input_RBE)
        probability_RBY = torch.cat([part.softmax(dim=-1) for part in layers[-1].split(self._classes, dim=-1)], dim=-1)
        error = (probability_RBY - target_BY) * (known_BY / len(target_BY))
        weights, biases = [], []
        for index in reversed(range(len(self._weights))):
            weights.append(layers[index].mT @ error)
            biases.append(error.sum(dim=1, keepdim=True))
            if index:
                error = torch.ops.aten.threshold_backward(error @ self._weights[index].mT, layers[index], 0)
        return weights[::-1], biases[::-1]


def _orthogonalised(matrices: Tensor) -> Tensor:
    """Return matrices with the same singular vectors, and singular values near one."""
    is_tall = matrices.shape[1] > matrices.shape[2]
    result = matrices.mT if is_tall else matrices
    result = result / (result.square().sum(dim=(1, 2), keepdim=True).sqrt() + 1e-12)
    first, third, fifth = _NEWTON_SCHULZ
    for _ in range(_NEWTON_SCHULZ_STEPS):
        gram = result @ result.mT
        polynomial = torch.baddbmm(gram, gram, gram, beta=third, alpha=fifth)
        result = torch.baddbmm(result, polynomial, result, beta=first)
    return result.mT if is_tall else result


def _batches(
    input_RNE: Tensor, target_NY: Tensor, known_NY: Tensor, batch: int, steps: int, seed: int
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Yield the clips of each step. Every epoch has another order and leaves out a remainder."""
    rows = torch.arange(len(target_NY), device=target_NY.device)
    per_epoch = len(rows) // batch
    for epoch in range(-(-steps // per_epoch)):
        seeds, epochs = (torch.tensor(number, device=rows.device) for number in (seed, epoch))
        state = randomness.stream(seeds, epochs, Purpose.READER_BATCH)
        order_N = randomness.bits(state, rows, rows[:1]).squeeze(-1).argsort()[: per_epoch * batch]
        parts = (
            input_RNE[:, order_N].split(batch, dim=1),
            target_NY[order_N].split(batch),
            known_NY[order_N].split(batch),
        )
        yield from islice(zip(*parts, strict=True), steps - epoch * per_epoch)


def _initial_values(widths: Sequence[int], fan_ins: Sequence[Tensor], seed: int) -> tuple[list[Tensor], list[Tensor]]:
    """Return weights and biases of each layer; but for their scale the same for every representation."""
    device, representations = fan_ins[0].device, len(fan_ins[0])
    weights, biases = [], []
    for layer, ((rows, columns), fan_in_R11) in enumerate(zip(pairwise(widths), fan_ins, strict=True)):
        zero = torch.zeros((), dtype=torch.int64, device=device)
        state = randomness.stream(zero + seed, zero, Purpose.READER_INITIAL_VALUES, layer)
        # The first row is the bias.
        row, column = torch.arange(rows + 1, device=device), torch.arange(columns, device=device)
        drawn = randomness.normal(state, row, column)
        gain = 2.0 if layer < len(fan_ins) - 1 else _OUTPUT_GAIN
        weights.append(drawn[1:] * (gain / fan_in_R11).sqrt())
        bias_deviation = _BIAS_DEVIATION if layer == 0 else 0.0
        biases.append((drawn[:1] * bias_deviation).repeat(representations, 1, 1))
    return weights, biases
