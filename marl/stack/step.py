"""One training step of all lanes of a stack: the state that it updates, and the step as plain code."""

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
# Columns that Adam updates at a time, so that they stay in the cache of a processor.
_CACHED_COLUMNS = 32 * 1024

_Flat = dict[str, Tensor]  # values of each parameter of all models, [K, size]


class LaneProgress(NamedTuple):
    """Seed, step and learning rate of each lane, [K]; `learning_rate` and `warmup` are [K, 1], `decay_power` is [K, 2].

    Attributes:
        active: One for lanes with a replicate, else zero.
        diverged: First step with a non-finite loss, or `NOT_DIVERGED`.
        warmup: Steps of the linear warm-up of the learning rate.
        decay_power: Both decays of Adam to the power of the step. They are computed by repeated multiplication, because
            pow() rounds differently on each device.
    """

    seed: Tensor
    step: Tensor
    active: Tensor
    diverged: Tensor
    learning_rate: Tensor
    warmup: Tensor
    decay_power: Tensor


class State(NamedTuple):
    """All tensors that a step reads and updates. A step never replaces their memory."""

    parameters: FlatParameters
    first_moments: FlatParameters
    second_moments: FlatParameters
    hyperparameters: LaneHyperparameters
    progress: LaneProgress
    rates: Rates

    @property
    def parts(self) -> tuple[FlatParameters, FlatParameters, FlatParameters]:
        """Parameters and both moments."""
        return self.parameters, self.first_moments, self.second_moments

    def load(self, other: "State") -> None:
        """Copy the values of another state of the same shapes."""
        for field, value in zip(self._values(), other._values(), strict=True):
            field.copy_(value)

    def _values(self) -> list[Tensor]:
        return [*(part.matrix for part in self.parts), *self.hyperparameters, *self.progress, *self.rates]

    def step_inputs(self) -> tuple[_Flat, _Flat, _Flat, LaneHyperparameters, Tensor, Tensor, Rates]:
        """Return the arguments with which a `StepFunction` is called to train from this state."""
        parameters, first_moments, second_moments = (part.flat for part in self.parts)
        seed_K, step_K = self.progress.seed, self.progress.step
        return parameters, first_moments, second_moments, self.hyperparameters, seed_K, step_K, self.rates


class StepFunction:
    """The step as plain code: `pre_step`, the call, which is compiled, and `post_step`."""

    def __init__(
        self, objective_spec: ObjectiveSpec, sampler: PairSampler, source: BatchSource, batch_pairs: int
    ) -> None:
        self.objective_spec = objective_spec
        self._sampler, self._source, self._batch_pairs = sampler, source, batch_pairs
        self._columns: int | None = None
        self._objective = vmap(partial(objective, objective_spec))
        self._differentiate = self._gradients
        self._decay_2 = torch.tensor([FIRST_DECAY, SECOND_DECAY], dtype=torch.float64, device=sampler.device)

    def pre_step(self, state: State) -> None:
        """Compute the rates of this step, and gather its clips if they are on the device.

        This part is not compiled: TorchInductor 2.11 re-reads the decay powers after their in-place update and would
        use the rates of the next step.
        """
        progress = state.progress
        self._source.gather(progress.seed, progress.step)
        progress.decay_power.mul_(self._decay_2)
        warmup_K1 = ((progress.step[:, None] + 1) / progress.warmup).clamp_max(1.0)
        rates = adam_rates(progress.learning_rate * warmup_K1, progress.decay_power)
        for rate_K1, value_K1 in zip(state.rates, rates, strict=True):
            rate_K1.copy_(value_K1)

    def __call__(
        self,
        parameters: _Flat,
        first_moments: _Flat,
        second_moments: _Flat,
        hyperparameters: LaneHyperparameters,
        seed_K: Tensor,
        step_K: Tensor,
        rates: Rates,
    ) -> Tensor:
        """Update parameters and moments of all lanes in place, and return the losses [K].

        Idle lanes are computed, too; their learning rate is zero.
        """
        gradients, loss_K = self._differentiate(parameters, hyperparameters, self._batch(seed_K, step_K))
        for name, gradient_Kn in gradients.items():
            adam_step(parameters[name], gradient_Kn, first_moments[name], second_moments[name], rates, self._columns)
        for name, spec in self.objective_spec.network.parameter_specs.items():
            if spec.follows is not None:
                parameters[name].lerp_(parameters[spec.follows], 1 - hyperparameters.target_decay[:, None])
        return loss_K

    def post_step(self, state: State, loss_K: Tensor) -> None:
        """Record which lanes diverged, and count the step."""
        progress = state.progress
        is_new_K = ~loss_K.isfinite() & (progress.diverged == NOT_DIVERGED) & (progress.active == 1)
        progress.diverged.copy_(torch.where(is_new_K, progress.step, progress.diverged))
        progress.step.add_(progress.active)

    def record(self, state: State) -> None:
        """Record the operations of the forward and backward pass, which the following steps replay.

        vmap and autograd take a tenth of a step that is not recorded. Adam updates blocks of columns, which is fastest
        on a processor that runs operations one by one.
        """
        self._columns = _CACHED_COLUMNS
        batch = self._batch(state.progress.seed, state.progress.step)
        # make_fx does not trace bound methods.
        self._differentiate = make_fx(partial(self._gradients))(state.parameters.flat, state.hyperparameters, batch)

    def _batch(self, seed_K: Tensor, step_K: Tensor) -> Batch:
        return draw_batch(self.objective_spec, self._sampler, self._source.take, self._batch_pairs, seed_K, step_K)

    def _gradients(self, parameters: _Flat, hyperparameters: LaneHyperparameters, batch: Batch) -> tuple[_Flat, Tensor]:
        specs = self.objective_spec.network.parameter_specs
        values = {name: flat.unflatten(1, specs[name].shape).detach() for name, flat in parameters.items()}
        leaves = {name: value.requires_grad_() for name, value in values.items() if specs[name].follows is None}
        with torch.enable_grad():
            total_K, terms_KM = self._objective(values, hyperparameters, batch)
            # The loss of a lane depends on its parameters alone, so the gradient of the sum contains the gradient of
            # each lane, even if the loss of another lane is not finite.
            gradients = torch.autograd.grad(total_K.sum(), list(leaves.values()))
        flat = {name: gradient.flatten(1) for name, gradient in zip(leaves, gradients, strict=True)}
        return flat, terms_KM[:, 0]


def draw_batch(
    objective_spec: ObjectiveSpec,
    sampler: PairSampler,
    take: Callable[[Tensor], Tensor],
    pairs: int,
    seed_K: Tensor,
    step_K: Tensor,
) -> Batch:
    """Return clips and noise of each lane at its step. R is the clips of all lanes."""
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
