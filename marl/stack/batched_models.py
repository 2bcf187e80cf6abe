"""Evaluation of trained models: latents, decoded log-mels and losses of all models of a batch at once.

Tensors always have the same shapes, so that the values of a model do not depend on the other models. M is terms of the
objective.
"""

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor
from torch.func import vmap

from marl.data import Dataset, PairSampler
from marl.metrics.fidelity import SpectralDistance, spectral_distance
from marl.models import Parameters, Posterior
from marl.objective import LaneHyperparameters, ObjectiveSpec, objective, term_names
from marl.stack.step import draw_batch

__all__ = ["Model", "Models"]

_CHUNK = 256  # clips that are encoded or decoded at a time


class Model(NamedTuple):
    """Copy of the parameters of one model, padded to the widths of the stack, and of its hyperparameters."""

    parameters: Parameters
    hyperparameters: LaneHyperparameters


class Models:
    """Models of one architecture, with parameters [K, ...]. The sampler draws pairs of held-out clips."""

    def __init__(
        self,
        objective_spec: ObjectiveSpec,
        dataset: Dataset,
        sampler: PairSampler,
        batch_pairs: int,
        parameters: Parameters,
        hyperparameters: LaneHyperparameters,
    ) -> None:
        self.objective_spec = objective_spec._replace(dtype=torch.float32)
        self.dataset, self.parameters, self._hyperparameters = dataset, parameters, hyperparameters
        self._sampler, self._batch_pairs = sampler, batch_pairs

    def __len__(self) -> int:
        """Return the number of models."""
        return len(self.mask_KD)

    @property
    def mask_KD(self) -> Tensor:
        """One for each latent of a model, zero for padding."""
        return self._hyperparameters.mask_D

    def __getitem__(self, index: int) -> Model:
        """Return a copy of one model."""
        return Model(
            {name: value[index].clone() for name, value in self.parameters.items()},
            LaneHyperparameters(*(field[index].clone() for field in self._hyperparameters)),
        )

    def group(self, models: Sequence[Model], size: int) -> "Models":
        """Return a batch of models of this architecture, filled up to a size by repeating the last."""
        models = [*models, *[models[-1]] * (size - len(models))]
        return Models(
            self.objective_spec,
            self.dataset,
            self._sampler,
            self._batch_pairs,
            {name: torch.stack([model.parameters[name] for model in models]) for name in self.parameters},
            LaneHyperparameters(*map(torch.stack, zip(*(model.hyperparameters for model in models), strict=True))),
        )

    def encode(self, clips: Tensor) -> Posterior:
        """Return the posteriors [K, N, D] of the same clips by every model."""
        network = self.objective_spec.network
        encode = partial(vmap(network.encode, in_dims=(0, 0, None)), self.parameters, self.mask_KD)
        parts = [encode(network.to_input(self.dataset.log_mels[part])) for part in clips.split(_CHUNK)]
        return Posterior(*(torch.cat(part, dim=1) for part in zip(*parts, strict=True)))

    def decode(self, latents_KND: Tensor) -> Tensor:
        """Return the standardised log-mels [K, N, F, T] of latents of each model."""
        network = self.objective_spec.network
        return network.from_output(vmap(network.decode)(self.parameters, latents_KND))

    def spectral_distances(self, clips: Tensor, latents_KND: Tensor) -> SpectralDistance:
        """Return the distance in dB of each clip from the log-mel that its latents decode to."""
        decibels, log_mels = self.dataset.audio.decibels, self.dataset.log_mels
        parts = [
            spectral_distance(decibels(self.decode(latents)), decibels(log_mels[part]))
            for part, latents in zip(clips.split(_CHUNK), latents_KND.split(_CHUNK, dim=1), strict=True)
        ]
        return SpectralDistance(*(torch.cat(part, dim=1) for part in zip(*parts, strict=True)))

    @property
    def has_held_out_pairs(self) -> bool:
        """True if any validation clip has a partner."""
        return not self._sampler.is_empty

    def held_out_terms(self, batches: int = 8) -> Tensor:
        """Return the terms of the objective on fixed pairs of validation clips, averaged over batches.

        They are [K, M], in the order of `marl.objective.term_names`. Seed and steps are the same for all models and
        calls, so that models are compared on the same pairs and noise.
        """
        seed_K = torch.zeros(len(self), dtype=torch.int64, device=self.dataset.device)
        terms = vmap(partial(objective, self.objective_spec))
        total_KM = torch.zeros(len(self), len(term_names(self.objective_spec)), device=self.dataset.device)
        for index in range(batches):
            step_K = torch.full_like(seed_K, index)
            take = self.dataset.log_mels.take
            batch = draw_batch(self.objective_spec, self._sampler, take, self._batch_pairs, seed_K, step_K)
            # A reduction over batches would add up the terms of the last models in another order.
            total_KM = total_KM + terms(self.parameters, self._hyperparameters, batch)[1]
        return total_KM / batches
