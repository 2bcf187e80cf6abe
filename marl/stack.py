"""Many models as one: a stack of lanes that train together as a single program.

The parameters of all models are the rows of one matrix, every layer is one batched matmul, and one call makes one step
of every lane. A replicate (a configuration under a seed) takes a lane, trains there and gives it back; what it becomes
is a function of its configuration and seed alone.

K is lanes, W the padded number of parameters, B pairs, V = 2B views, P patches, Q values of a patch, D latents.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor
from torch.func import vmap
from torch.fx import GraphModule
from torch.fx.experimental.proxy_tensor import make_fx

from marl import randomness
from marl.adam import FIRST_DECAY, SECOND_DECAY, adam_step
from marl.config import Config
from marl.data import Dataset, PairSampler
from marl.model import Architecture, LatentConfig, Parameters, PatchNetwork, Posterior
from marl.objective import Batch, ContrastConfig, Lane, LossConfig, Program, lane_settings, objective, term_names
from marl.randomness import Purpose

__all__ = ["Snapshot", "Stack"]

# Parameters begin, and rows end, at whole cache lines: each lane is then computed by the same instructions as any
# other.
_ALIGNMENT = 64
_NEVER = -1


@dataclass(frozen=True)
class Snapshot:
    """All that a replicate is at one step: enough to go on, in any lane, as if it had never left.

    The tensors are on the CPU, without the padding of the stack.
    """

    step: int
    parameters: Parameters
    first_moment: Parameters
    second_moment: Parameters


class Stack:
    """Lanes that train together.

    Args:
        architecture: what all models of the stack have in common.
        lanes: how many; fixed, because sums are taken in another order at another width.
        dataset: the clips; training takes place on their device.
        shared_factors: names of the factors that the views of a pair share.
        batch_pairs: pairs of a batch, a multiple of 16.
        combinations: the ways of combining shared latents that any replicate will use.
        contrasts: the contrastive strategies that any replicate will use, with the subspace each acts on.

    Raises:
        ValueError: when the batch is not a multiple of 16 or the network does not fit the spectrograms.
    """

    def __init__(
        self,
        architecture: Architecture,
        lanes: int,
        dataset: Dataset,
        shared_factors: Sequence[str],
        batch_pairs: int,
        combinations: Sequence[str] = ("swap",),
        contrasts: Sequence[tuple[str, str]] = (),
    ) -> None:
        if batch_pairs < 16 or batch_pairs % 16:
            raise ValueError(f"batch_pairs must be a multiple of 16, got {batch_pairs}")
        self.network = PatchNetwork(architecture)
        self.lanes = lanes
        self.dataset = dataset
        self.batch_pairs = batch_pairs
        self.program = Program(self.network, tuple(combinations), tuple(contrasts), len(dataset.splits["training"]))
        self._sampler = PairSampler(dataset, shared_factors)
        self._held_out_sampler = PairSampler(dataset, shared_factors, split="validation")
        offsets, width = _layout(self.network)
        device = dataset.device

        def matrix() -> tuple[Tensor, dict[str, Tensor]]:
            rows_KW = torch.zeros(lanes, width, device=device)
            views = {
                name: rows_KW[:, start : start + math.prod(shape)].unflatten(1, shape)
                for (name, shape), start in zip(self.network.shapes.items(), offsets, strict=True)
            }
            return rows_KW, views

        self._parameters_KW, self.parameters = matrix()
        self._gradient_KW, self._gradients = matrix()
        self._first_moment_KW, self._first_moments = matrix()
        self._second_moment_KW, self._second_moments = matrix()
        self._addresses_D = self.network.addresses().to(device)
        self._step_K = torch.zeros(lanes, dtype=torch.int64, device=device)
        self._seed_K = torch.zeros(lanes, dtype=torch.int64, device=device)
        self._active_K = torch.zeros(lanes, dtype=torch.int64, device=device)
        self._diverged_K = torch.full((lanes,), _NEVER, dtype=torch.int64, device=device)
        self._learning_rate_K1 = torch.zeros(lanes, 1, device=device)
        self._warmup_K1 = torch.ones(lanes, 1, device=device)
        # Powers of the decays by repeated multiplication, which rounds alike everywhere; pow() does not.
        self._decay_power_K2 = torch.ones(lanes, 2, dtype=torch.float64, device=device)
        self._decay_2 = torch.tensor([FIRST_DECAY, SECOND_DECAY], dtype=torch.float64, device=device)
        self._configs: list[Config | None] = [None] * lanes
        narrowest = LatentConfig(private=1, shared=1, combine=self.program.combinations[0])
        idle = lane_settings(self.program, narrowest, LossConfig(), ContrastConfig())
        self._settings = Lane(*(torch.stack([field] * lanes).to(device) for field in idle))
        self._objective = vmap(partial(objective, self.program))
        self._differentiate: GraphModule | None = None

    @property
    def free_lanes(self) -> list[int]:
        """Lanes that no replicate occupies."""
        return [lane for lane, config in enumerate(self._configs) if config is None]

    @property
    def mask_KD(self) -> Tensor:
        """Which latents each lane has."""
        return self._settings.mask_D

    def latent_sizes(self, lane: int) -> tuple[int, int]:
        """Private and shared dimensions of the replicate in a lane."""
        config = self._occupant(lane)
        return config.latent.private, config.latent.shared

    def attach(self, config: Config, seed: int, snapshot: Snapshot | None = None) -> int:
        """Give a replicate a lane, from its beginning or from a snapshot; returns the lane.

        Raises:
            ValueError: when no lane is free, or the model does not fit the stack.
        """
        if not self.free_lanes:
            raise ValueError(f"all {self.lanes} lanes are taken")
        lane = self.free_lanes[0]
        settings = lane_settings(self.program, config.latent, config.loss, config.contrast)
        if snapshot is None:
            initial = self.network.initial(config.latent, seed)
            zeros = {name: torch.zeros_like(value) for name, value in initial.items()}
            rows, step = [initial, zeros, zeros], 0
        else:
            mask = self.network.mask(config.latent)
            moments = (snapshot.parameters, snapshot.first_moment, snapshot.second_moment)
            rows, step = [self.network.pad(part, mask) for part in moments], snapshot.step
        self._configs[lane] = config
        for field_K, value in zip(self._settings, settings, strict=True):
            field_K[lane] = value
        for views, row in zip(self._state(), rows, strict=True):
            for name, view in views.items():
                view[lane] = row[name]
        self._step_K[lane] = step
        self._seed_K[lane] = seed
        self._active_K[lane] = 1
        self._diverged_K[lane] = _NEVER
        self._learning_rate_K1[lane] = config.optimiser.learning_rate
        self._warmup_K1[lane] = max(1, config.optimiser.warmup_steps)
        for column, decay in enumerate((FIRST_DECAY, SECOND_DECAY)):
            power = 1.0
            for _ in range(step):
                power *= decay
            self._decay_power_K2[lane, column] = power
        return lane

    def detach(self, lane: int) -> None:
        """Free a lane."""
        self._occupant(lane)
        self._configs[lane] = None
        self._active_K[lane] = 0
        self._learning_rate_K1[lane] = 0.0
        for views in self._state():
            for view in views.values():
                view[lane] = 0.0

    def snapshot(self, lane: int) -> Snapshot:
        """What the replicate in a lane is now."""
        mask = self.network.mask(self._occupant(lane).latent)
        parts = [
            {
                name: value.to("cpu", copy=True).contiguous()
                for name, value in self.network.crop({name: view[lane] for name, view in views.items()}, mask).items()
            }
            for views in self._state()
        ]
        return Snapshot(int(self._step_K[lane]), *parts)

    def step(self) -> None:
        """One step of every occupied lane. Idle lanes are computed too and changed by nothing."""
        batch = self._batch(self._sampler, self._seed_K, self._step_K)
        if self._differentiate is None:
            self._differentiate = self._record(batch)
        with torch.no_grad():
            gradients, terms_KT = self._differentiate(self.parameters, self._settings, batch)
        for view, gradient in zip(self._gradients.values(), gradients, strict=True):
            view.copy_(gradient)
        finite_K = terms_KT[:, 0].isfinite()
        newly_diverged_K = ~finite_K & (self._diverged_K == _NEVER) & (self._active_K == 1)
        self._diverged_K = torch.where(newly_diverged_K, self._step_K, self._diverged_K)
        self._adam()
        self._step_K += self._active_K

    def steps(self) -> list[int]:
        """Steps trained by lane; zero where idle."""
        return (self._step_K * self._active_K).tolist()

    def diverged(self) -> dict[int, int]:
        """For each lane whose loss was not finite, the step at which that happened first."""
        return {
            lane: step
            for lane, step in enumerate(self._diverged_K.tolist())
            if step != _NEVER and self._configs[lane] is not None
        }

    def held_out_terms(self, batches: int = 8) -> Tensor:
        """Terms of the objective on fixed pairs of validation clips, averaged over batches.

        Returns:
            [K, terms], in the order of `marl.objective.term_names`.
        """
        # Seed and steps are the same for all lanes and calls: models are compared on the same pairs and noise.
        seed_K = torch.zeros_like(self._seed_K)
        total_KT = torch.zeros(self.lanes, len(term_names(self.program)), device=self.dataset.device)
        for index in range(batches):
            batch = self._batch(self._held_out_sampler, seed_K, torch.full_like(seed_K, index))
            # Added up one by one: a reduction over batches would add the last lanes' terms in another order.
            total_KT = total_KT + self._objective(self.parameters, self._settings, batch)[1]
        return total_KT / batches

    def encode(self, clips: Tensor, chunk: int = 256) -> Posterior:
        """Posteriors [K, n, D] of the same clips by every lane's model."""
        encode = vmap(self.network.encode, in_dims=(0, 0, None))
        parts = [encode(self.parameters, self.mask_KD, patches) for patches in self._patches(clips, chunk)]
        return Posterior(*(torch.cat(part, dim=1) for part in zip(*parts, strict=True)))

    def reconstruction_errors(self, clips: Tensor, mean_KnD: Tensor, chunk: int = 256) -> Tensor:
        """Mean squared error of each clip decoded from the given latents, standardised units. [K, n]."""
        decode = vmap(self.network.decode)
        errors = [
            (decode(self.parameters, mean) - patches).square().mean(dim=(-2, -1))
            for patches, mean in zip(self._patches(clips, chunk), mean_KnD.split(chunk, dim=1), strict=True)
        ]
        return torch.cat(errors, dim=1)

    def _patches(self, clips: Tensor, chunk: int) -> Iterator[Tensor]:
        for part in clips.split(chunk):
            yield self.network.to_patches(self.dataset.log_mel_NFT[part])

    def _record(self, batch: Batch) -> GraphModule:
        """A forward and backward pass as plain operations: from parameters, settings and batch, gradients and terms.

        To find them anew in each step, by vmap and autograd, would take a tenth of it.
        """

        def differentiate(parameters: Parameters, settings: Lane, batch: Batch) -> tuple[list[Tensor], Tensor]:
            parameters = {name: view.detach().requires_grad_() for name, view in parameters.items()}
            total_K, terms_KT = self._objective(parameters, settings, batch)
            # No lane's loss depends on another lane's parameters, so the gradient of the sum is each lane's own
            # gradient, even beside one that is not finite.
            return list(torch.autograd.grad(total_K.sum(), list(parameters.values()))), terms_KT

        return make_fx(differentiate)(self.parameters, self._settings, batch)

    def _batch(self, sampler: PairSampler, seed_K: Tensor, step_K: Tensor) -> Batch:
        pairs = sampler.draw(seed_K, step_K, self.batch_pairs)
        patches = self.network.to_patches(self.dataset.log_mel_NFT.index_select(0, pairs.clips_KVB.flatten()))
        noise = randomness.normal(
            randomness.stream(seed_K, step_K, Purpose.LATENT_NOISE),
            torch.arange(2 * self.batch_pairs, device=self.dataset.device),
            self._addresses_D,
        )
        return Batch(patches.unflatten(0, (self.lanes, -1)), pairs.group_KB, noise)

    def _adam(self) -> None:
        self._decay_power_K2 *= self._decay_2
        warmup_K1 = ((self._step_K[:, None] + 1) / self._warmup_K1).clamp_max(1.0)
        matrices = (self._parameters_KW, self._gradient_KW, self._first_moment_KW, self._second_moment_KW)
        adam_step(*matrices, self._learning_rate_K1 * warmup_K1, self._decay_power_K2)

    def _state(self) -> tuple[Parameters, Parameters, Parameters]:
        return self.parameters, self._first_moments, self._second_moments

    def _occupant(self, lane: int) -> Config:
        config = self._configs[lane]
        if config is None:
            raise ValueError(f"lane {lane} is not occupied")
        return config


def _layout(network: PatchNetwork) -> tuple[list[int], int]:
    """Where each parameter begins in a row, and how long a row is."""
    offsets, end = [], 0
    for shape in network.shapes.values():
        offsets.append(end)
        end += math.ceil(math.prod(shape) / _ALIGNMENT) * _ALIGNMENT
    return offsets, end
