"""What metrics are computed from: the latents of some clips by each model, encoded once."""

import math
from collections.abc import Sequence
from functools import cached_property

import torch
from torch import Tensor

from marl import randomness
from marl.metrics.fidelity import SpectralDistance
from marl.randomness import Purpose
from marl.stack.batched_models import Models

__all__ = ["FIT_CLIPS", "HELD_OUT_CLIPS", "SUBSPACES", "EncodedSplit", "EvaluationContext", "held_out_clips"]

HELD_OUT_CLIPS = 2048
"""Number of clips of a split that metrics are computed on.

The linear reader and the published metrics are fitted on the same number of other clips.
"""

FIT_CLIPS = 25_600
"""Maximum number of clips that networks are fitted on, chosen by `benchmarks.readers`."""

SUBSPACES = ("private", "shared", "both")


def held_out_clips(models: Models, split: str = "validation") -> Tensor:
    """Return the indices of the first `HELD_OUT_CLIPS` clips of a split, on which metrics are computed."""
    return models.dataset.splits[split][:HELD_OUT_CLIPS]


class EncodedSplit:
    """Indices of clips, classes of their factors, and posteriors of their latents by each model.

    Means that are not finite are zero. Only a model that has diverged has them, and its metrics are not used.
    """

    def __init__(self, models: Models, clips: Tensor) -> None:
        self.clips = clips
        self.classes_NC = models.dataset.classes(clips)
        posterior = models.encode(clips)
        self.means_KND = posterior.mean.nan_to_num(0.0, 0.0, 0.0)
        self._deviation_KND = (0.5 * posterior.logvar).exp().nan_to_num(0.0, 0.0, 0.0) * models.mask_KD[:, None]
        self._latent_ids_D = models.objective_spec.network.latent_ids(clips.device)

    @cached_property
    def posterior_deviation_KD(self) -> Tensor:
        """Root-mean-square deviation of the posteriors of each latent, zero for padding."""
        return self._deviation_KND.square().mean(dim=1).sqrt()

    @cached_property
    def sampled_KND(self) -> Tensor:
        """One sample of each posterior, with the same noise for all models and in every call."""
        zero = torch.zeros((), dtype=torch.int64, device=self.clips.device)
        state = randomness.stream(zero, zero, Purpose.METRIC_NOISE)
        return self.means_KND + self._deviation_KND * randomness.normal(state, self.clips, self._latent_ids_D)


class EvaluationContext:
    """Models that are evaluated together, and their encodings.

    Attributes:
        models: Models of one architecture.
        shared: Names of the factors that the views share.
        split: Split of the held-out clips, `validation` or `test`.
        factors: Number of classes of each factor, by name.
    """

    def __init__(self, models: Models, shared: Sequence[str], split: str) -> None:
        self.models = models
        self.shared = frozenset(shared)
        self.split = split
        self.factors = {factor.name: factor.classes for factor in models.dataset.factors}

    @cached_property
    def held_out(self) -> EncodedSplit:
        """Clips that metrics are computed on."""
        return EncodedSplit(self.models, held_out_clips(self.models, self.split))

    @cached_property
    def fit(self) -> EncodedSplit:
        """Clips that the linear reader and the published metrics are fitted on."""
        return EncodedSplit(self.models, self.models.dataset.probe_train_clips(self.split)[:HELD_OUT_CLIPS])

    @cached_property
    def network_fit(self) -> EncodedSplit:
        """Clips that the readers with networks are fitted on."""
        return EncodedSplit(self.models, self.models.dataset.probe_train_clips(self.split)[:FIT_CLIPS])

    def fit_of(self, reader: str) -> EncodedSplit:
        """Return the clips that a reader is fitted on, by its name."""
        return self.fit if reader == "linear" else self.network_fit

    @cached_property
    def distances(self) -> SpectralDistance:
        """Distances in dB of the held-out clips from their reconstructions, decoded from posterior means."""
        return self.models.spectral_distances(self.held_out.clips, self.held_out.means_KND)

    def values(self, factor: int) -> tuple[Tensor, Tensor] | None:
        """Return the values of a numeric factor of the held-out clips, [N], and their mean in each class, [Y].

        An unknown value is NaN. Returns None for a factor whose values are words.
        """
        dataset = self.models.dataset
        description = dataset.factors[factor]
        if any(isinstance(value, str) for value in description.values):
            return None
        device = self.held_out.clips.device
        value_V = torch.tensor([*description.values, math.nan], dtype=torch.float64, device=device)  # -1 is unknown
        class_V = torch.tensor(description.class_of_value, device=device)
        sum_Y = torch.zeros(description.classes, dtype=torch.float64, device=device).index_add(0, class_V, value_V[:-1])
        return value_V[dataset.value_NC[self.held_out.clips, factor]], sum_Y / class_V.bincount()

    @property
    def private(self) -> int:
        """Number of private latents, which precede the shared ones."""
        return self.models.objective_spec.network.architecture.private

    def latents(self, subspace: str) -> slice:
        """Return which latents a subspace has."""
        return {"private": slice(self.private), "shared": slice(self.private, None), "both": slice(None)}[subspace]
