"""Trained models side by side, to be asked: what they encode, how well they decode, what they lose.

All are computed together whoever asks, in tensors of one shape, so that a model's numbers do not depend on the others.
K is models, n clips, D latents, T terms of the objective.
"""

from collections.abc import Iterator, Sequence
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor
from torch.func import vmap

from marl.data import Dataset, PairSampler
from marl.model import Parameters, Posterior
from marl.objective import Lane, Program, objective, term_names
from marl.step import draw_batch

__all__ = ["Model", "Models"]


class Model(NamedTuple):
    """One model as it is now: parameters of its own, padded to the widths of the stack, and settings."""

    parameters: Parameters
    settings: Lane


class Models:
    """Models of one architecture.

    Args:
        program: what they were trained for.
        dataset: the clips.
        sampler: draws pairs of clips that were held out.
        batch_pairs: pairs of a batch.
        parameters: each [K, ...].
        settings: of all.
    """

    def __init__(
        self,
        program: Program,
        dataset: Dataset,
        sampler: PairSampler,
        batch_pairs: int,
        parameters: Parameters,
        settings: Lane,
    ) -> None:
        self.program = program._replace(dtype=torch.float32)
        self.dataset = dataset
        self.parameters = parameters
        self._sampler = sampler
        self._batch_pairs = batch_pairs
        self._settings = settings

    def __len__(self) -> int:
        """How many."""
        return len(self.mask_KD)

    @property
    def mask_KD(self) -> Tensor:
        """Which latents each model has."""
        return self._settings.mask_D

    def __getitem__(self, index: int) -> Model:
        """A copy of one model."""
        return Model(
            {name: value[index].clone() for name, value in self.parameters.items()},
            Lane(*(field[index].clone() for field in self._settings)),
        )

    def group(self, models: Sequence[Model], size: int) -> "Models":
        """Some models of this architecture, made up to a size by repeating the last."""
        models = [*models, *[models[-1]] * (size - len(models))]
        return Models(
            self.program,
            self.dataset,
            self._sampler,
            self._batch_pairs,
            {name: torch.stack([model.parameters[name] for model in models]) for name in self.parameters},
            Lane(*(torch.stack(fields) for fields in zip(*(model.settings for model in models), strict=True))),
        )

    def encode(self, clips: Tensor, chunk: int = 256) -> Posterior:
        """Posteriors [K, n, D] of the same clips by every model."""
        encode = vmap(self.program.network.encode, in_dims=(0, 0, None))
        parts = [encode(self.parameters, self.mask_KD, inputs) for inputs in self._inputs(clips, chunk)]
        return Posterior(*(torch.cat(part, dim=1) for part in zip(*parts, strict=True)))

    def reconstruction_errors(self, clips: Tensor, mean_KnD: Tensor, chunk: int = 256) -> Tensor:
        """Mean squared error of each clip decoded from the given latents, standardised units. [K, n]."""
        decode = vmap(self.program.network.decode)
        errors = [
            (decode(self.parameters, mean) - inputs).square().mean(dim=(-2, -1))
            for inputs, mean in zip(self._inputs(clips, chunk), mean_KnD.split(chunk, dim=1), strict=True)
        ]
        return torch.cat(errors, dim=1)

    def held_out_terms(self, batches: int = 8) -> Tensor:
        """Terms of the objective on fixed pairs of validation clips, averaged over batches.

        Returns:
            [K, T], in the order of `marl.objective.term_names`.
        """
        # Seed and steps are the same for all models and calls: they are compared on the same pairs and noise.
        seed_K = torch.zeros(len(self), dtype=torch.int64, device=self.dataset.device)
        terms = vmap(partial(objective, self.program))
        total_KT = torch.zeros(len(self), len(term_names(self.program)), device=self.dataset.device)
        for index in range(batches):
            step_K = torch.full_like(seed_K, index)
            batch = draw_batch(self.program, self._sampler, self.dataset.log_mel_NFT, self._batch_pairs, seed_K, step_K)
            # Added up one by one: a reduction over batches would add the last models' terms in another order.
            total_KT = total_KT + terms(self.parameters, self._settings, batch)[1]
        return total_KT / batches

    def _inputs(self, clips: Tensor, chunk: int) -> Iterator[Tensor]:
        for part in clips.split(chunk):
            yield self.program.network.to_input(self.dataset.log_mel_NFT[part])
