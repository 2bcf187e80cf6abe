"""One step of every lane of a stack, as one recorded program: replayed, compiled, or captured as a CUDA graph.

K is lanes, B pairs, V = 2B views, D latents.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor
from torch.func import vmap
from torch.fx.experimental.proxy_tensor import make_fx

from marl import randomness
from marl.data import BatchSource, PairSampler
from marl.objective import Batch, LaneHyperparameters, ObjectiveSpec, objective
from marl.randomness import Purpose
from marl.stack.adam import FIRST_DECAY, SECOND_DECAY, Rates, adam_rates, adam_step
from marl.stack.flat_parameters import FlatParameters

__all__ = ["NOT_DIVERGED", "LaneProgress", "State", "StepFunction", "draw_batch"]

NOT_DIVERGED = -1
# On a processor, what Adam goes over at a time stays in its cache.
_CACHED_COLUMNS = 32 * 1024


class LaneProgress(NamedTuple):
    """How far each lane is, [K] but for the rates and the powers of Adam's decays, [K, 1] and [K, 2].

    Powers come from repeated multiplication, which rounds alike everywhere; pow() does not.
    """

    seed: Tensor
    step: Tensor
    active: Tensor
    diverged: Tensor
    learning_rate: Tensor
    warmup: Tensor
    decay_power: Tensor


class State(NamedTuple):
    """All that a step reads and changes, always in the same memory."""

    parameters: FlatParameters
    first_moments: FlatParameters
    second_moments: FlatParameters
    hyperparameters: LaneHyperparameters
    progress: LaneProgress
    rates: Rates

    def copy(self) -> "State":
        """The same numbers in memory of their own."""
        return State(
            self.parameters.copy(),
            self.first_moments.copy(),
            self.second_moments.copy(),
            LaneHyperparameters(*(field.clone() for field in self.hyperparameters)),
            LaneProgress(*(field.clone() for field in self.progress)),
            Rates(*(field.clone() for field in self.rates)),
        )

    def load(self, other: "State") -> None:
        """Take over the numbers of another state of the same shapes."""
        self.parameters.load(other.parameters)
        self.first_moments.load(other.first_moments)
        self.second_moments.load(other.second_moments)
        mine = (*self.hyperparameters, *self.progress, *self.rates)
        for field, value in zip(mine, (*other.hyperparameters, *other.progress, *other.rates), strict=True):
            field.copy_(value)

    def tensors(
        self,
    ) -> tuple[dict[str, Tensor], dict[str, Tensor], dict[str, Tensor], LaneHyperparameters, Tensor, Tensor, Rates]:
        """What the heavy part of a step takes."""
        return (
            self.parameters.flat,
            self.first_moments.flat,
            self.second_moments.flat,
            self.hyperparameters,
            self.progress.seed,
            self.progress.step,
            self.rates,
        )


class StepFunction:
    """The step as plain code.

    Args:
        objective_spec: what is computed for each lane.
        sampler: draws the pairs.
        source: gives the log-mels of a step.
        batch_pairs: pairs of a batch.
    """

    def __init__(
        self, objective_spec: ObjectiveSpec, sampler: PairSampler, source: BatchSource, batch_pairs: int
    ) -> None:
        self.objective_spec = objective_spec
        self._sampler = sampler
        self._source = source
        self._batch_pairs = batch_pairs
        self._columns: int | None = None
        self._objective = vmap(partial(objective, objective_spec))
        self._differentiate = self._gradients
        self._decay_2 = torch.tensor([FIRST_DECAY, SECOND_DECAY], dtype=torch.float64, device=sampler.device)

    def pre_step(self, state: State) -> None:
        """What comes before the heavy part: the rates of this step, and its clips where they are on the device.

        It is not compiled with the rest. TorchInductor 2.11 reads a number that a step changes once more after it was
        changed, and so would take the rates of the step after.
        """
        progress = state.progress
        self._source.gather(progress.seed, progress.step)
        progress.decay_power.mul_(self._decay_2)
        warmup_K1 = ((progress.step[:, None] + 1) / progress.warmup).clamp_max(1.0)
        for rate, value in zip(
            state.rates, adam_rates(progress.learning_rate * warmup_K1, progress.decay_power), strict=True
        ):
            rate.copy_(value)

    def __call__(
        self,
        parameters: dict[str, Tensor],
        first_moments: dict[str, Tensor],
        second_moments: dict[str, Tensor],
        hyperparameters: LaneHyperparameters,
        seed_K: Tensor,
        step_K: Tensor,
        rates: Rates,
    ) -> Tensor:
        """The heavy part: changes parameters and moments of all lanes in place; returns the losses [K].

        Idle lanes are computed too and changed by nothing.
        """
        gradients, loss_K = self._differentiate(parameters, hyperparameters, self._batch(seed_K, step_K))
        for name, gradient_Kn in gradients.items():
            adam_step(parameters[name], gradient_Kn, first_moments[name], second_moments[name], rates, self._columns)
        for name, spec in self.objective_spec.network.parameter_specs.items():
            if spec.follows is not None:
                parameters[name].lerp_(parameters[spec.follows], 1 - hyperparameters.target_decay[:, None])
        return loss_K

    def post_step(self, state: State, loss_K: Tensor) -> None:
        """What comes after: who diverged, and how far each lane is."""
        progress = state.progress
        is_new_K = ~loss_K.isfinite() & (progress.diverged == NOT_DIVERGED) & (progress.active == 1)
        progress.diverged.copy_(torch.where(is_new_K, progress.step, progress.diverged))
        progress.step.add_(progress.active)

    def record(self, state: State) -> None:
        """From now on replay the forward and backward pass as plain operations.

        To find them anew in each step, by vmap and autograd, would take a tenth of it. Adam goes over the parameters in
        blocks, as is best on a processor that runs operations one by one.
        """
        self._columns = _CACHED_COLUMNS
        batch = self._batch(state.progress.seed, state.progress.step)
        # A partial function: what is bound to an object is not traced.
        self._differentiate = make_fx(partial(self._gradients))(state.parameters.flat, state.hyperparameters, batch)

    def _batch(self, seed_K: Tensor, step_K: Tensor) -> Batch:
        return draw_batch(self.objective_spec, self._sampler, self._source.take, self._batch_pairs, seed_K, step_K)

    def _gradients(
        self, parameters: dict[str, Tensor], hyperparameters: LaneHyperparameters, batch: Batch
    ) -> tuple[dict[str, Tensor], Tensor]:
        specs = self.objective_spec.network.parameter_specs
        values = {name: flat.unflatten(1, specs[name].shape).detach() for name, flat in parameters.items()}
        leaves = {name: value.requires_grad_() for name, value in values.items() if specs[name].follows is None}
        with torch.enable_grad():
            total_K, terms_KT = self._objective(values, hyperparameters, batch)
            # No lane's loss depends on another lane's parameters, so the gradient of the sum is each lane's own
            # gradient, even beside one that is not finite.
            gradients = torch.autograd.grad(total_K.sum(), list(leaves.values()))
        flat = {name: gradient.flatten(1) for name, gradient in zip(leaves, gradients, strict=True)}
        return flat, terms_KT[:, 0]


def draw_batch(
    objective_spec: ObjectiveSpec,
    sampler: PairSampler,
    take: Callable[[Tensor], Tensor],
    pairs: int,
    seed_K: Tensor,
    step_K: Tensor,
) -> Batch:
    """The pairs and the noise of each lane at its step."""
    drawn = sampler.draw(seed_K, step_K, pairs)
    views_RFT = sampler.views(take(drawn.clips_KVB.flatten()), seed_K, step_K)
    device = sampler.device
    noise_KND = randomness.normal(
        randomness.stream(seed_K, step_K, Purpose.LATENT_NOISE),
        randomness.indices(2 * pairs, device),
        objective_spec.network.latent_ids(device),
    )
    views = objective_spec.network.to_input(views_RFT).unflatten(0, (len(seed_K), -1))
    return Batch(views, drawn.group_KB, noise_KND)
