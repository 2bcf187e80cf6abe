"""Trained models side by side, to be asked: what they encode, how well they decode, what they lose.

All are computed together whoever asks, in tensors of one shape, so that a model's numbers do not depend on the others.
K is models, n clips, D latents, T terms of the objective.
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


class Model(NamedTuple):
    """One model as it is now: parameters of its own, padded to the widths of the stack, and hyperparameters."""

    parameters: Parameters
    hyperparameters: LaneHyperparameters


class Models:
    """Models of one architecture.

    Args:
        objective_spec: what they were trained for.
        dataset: the clips.
        sampler: draws pairs of clips that were held out.
        batch_pairs: pairs of a batch.
        parameters: each [K, ...].
        hyperparameters: of all.
    """

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
        self.dataset = dataset
        self.parameters = parameters
        self._sampler = sampler
        self._batch_pairs = batch_pairs
        self._hyperparameters = hyperparameters

    def __len__(self) -> int:
        """How many."""
        return len(self.mask_KD)

    @property
    def mask_KD(self) -> Tensor:
        """Which latents each model has."""
        return self._hyperparameters.mask_D

    def __getitem__(self, index: int) -> Model:
        """A copy of one model."""
        return Model(
            {name: value[index].clone() for name, value in self.parameters.items()},
            LaneHyperparameters(*(field[index].clone() for field in self._hyperparameters)),
        )

    def group(self, models: Sequence[Model], size: int) -> "Models":
        """Some models of this architecture, made up to a size by repeating the last."""
        models = [*models, *[models[-1]] * (size - len(models))]
        return Models(
            self.objective_spec,
            self.dataset,
            self._sampler,
            self._batch_pairs,
            {name: torch.stack([model.parameters[name] for model in models]) for name in self.parameters},
            LaneHyperparameters(
                *(torch.stack(fields) for fields in zip(*(model.hyperparameters for model in models), strict=True))
            ),
        )

    def encode(self, clips: Tensor, chunk: int = 256) -> Posterior:
        """Posteriors [K, n, D] of the same clips by every model."""
        encode = vmap(self.objective_spec.network.encode, in_dims=(0, 0, None))
        parts = [
            encode(self.parameters, self.mask_KD, self.objective_spec.network.to_input(self.dataset.log_mels[part]))
            for part in clips.split(chunk)
        ]
        return Posterior(*(torch.cat(part, dim=1) for part in zip(*parts, strict=True)))

    def decode(self, latents_KnD: Tensor) -> Tensor:
        """Standardised log-mels [K, n, F, T] from latents of each model."""
        network = self.objective_spec.network
        return network.from_output(vmap(network.decode)(self.parameters, latents_KnD))

    def spectral_distances(self, clips: Tensor, latents_KnD: Tensor, chunk: int = 256) -> SpectralDistance:
        """How far each clip is from what the given latents decode to, in dB."""
        dataset = self.dataset
        parts = [
            spectral_distance(
                dataset.audio.decibels(self.decode(latents)), dataset.audio.decibels(dataset.log_mels[part])
            )
            for part, latents in zip(clips.split(chunk), latents_KnD.split(chunk, dim=1), strict=True)
        ]
        return SpectralDistance(*(torch.cat(part, dim=1) for part in zip(*parts, strict=True)))

    def held_out_terms(self, batches: int = 8) -> Tensor:
        """Terms of the objective on fixed pairs of validation clips, averaged over batches.

        Returns:
            [K, T], in the order of `marl.objective.term_names`.
        """
        # Seed and steps are the same for all models and calls: they are compared on the same pairs and noise.
        seed_K = torch.zeros(len(self), dtype=torch.int64, device=self.dataset.device)
        terms = vmap(partial(objective, self.objective_spec))
        total_KT = torch.zeros(len(self), len(term_names(self.objective_spec)), device=self.dataset.device)
        for index in range(batches):
            step_K = torch.full_like(seed_K, index)
            batch = draw_batch(
                self.objective_spec, self._sampler, self.dataset.log_mels.take, self._batch_pairs, seed_K, step_K
            )
            # Added up one by one: a reduction over batches would add the last models' terms in another order.
            total_KT = total_KT + terms(self.parameters, self._hyperparameters, batch)[1]
        return total_KT / batches
