"""What metrics are computed from: the latents of some clips by each model, encoded once."""

from collections.abc import Sequence
from functools import cached_property

import torch
from torch import Tensor

from marl import randomness
from marl.metrics.spectral_distance import SpectralDistance
from marl.randomness import Purpose
from marl.stack.batched_models import Models

__all__ = ["HELD_OUT_CLIPS", "SUBSPACES", "EncodedSplit", "EvaluationContext", "held_out_clips"]

HELD_OUT_CLIPS = 2048
"""Clips of a split that metrics are computed on; probes of either kind are fitted on as many others."""

SUBSPACES = ("private", "shared", "both")


def held_out_clips(models: Models, split: str = "validation") -> Tensor:
    """The clips of a split that metrics are computed on."""
    return models.dataset.splits[split][:HELD_OUT_CLIPS]


class EncodedSplit:
    """What the models make of some clips.

    Attributes:
        clips: which.
        classes_NC: the factors' classes of the clips.
        means_KND: of their posteriors; zero where a model has diverged, whose lane is skipped by whoever reads on.
        sampled_KND: one sample of each posterior; the noise is the same for all models and at every call.
    """

    def __init__(self, models: Models, clips: Tensor) -> None:
        self.clips = clips
        self.classes_NC = models.dataset.classes(clips)
        posterior = models.encode(clips)
        self.means_KND = posterior.mean.nan_to_num(0.0, 0.0, 0.0)
        self._deviation_KND = (0.5 * posterior.logvar).exp().nan_to_num(0.0, 0.0, 0.0) * models.mask_KD[:, None]
        self._latent_ids_D = models.objective_spec.network.latent_ids(clips.device)

    @cached_property
    def sampled_KND(self) -> Tensor:  # noqa: D102  # described above
        zero = torch.zeros((), dtype=torch.int64, device=self.clips.device)
        state = randomness.stream(zero, zero, Purpose.METRIC_NOISE)
        return self.means_KND + self._deviation_KND * randomness.normal(state, self.clips, self._latent_ids_D)


class EvaluationContext:
    """Models that are measured, side by side.

    Args:
        models: of one architecture.
        shared: names of the factors that the views share.
        split: whose clips are held out; `validation` or `test`.

    Attributes:
        models: as above.
        shared: as above.
        split: as above.
        factors: classes of each factor, by name.
        at_stake: how many of them the held-out clips can be of, which is what chance depends on.
    """

    def __init__(self, models: Models, shared: Sequence[str], split: str) -> None:
        self.models = models
        self.shared = frozenset(shared)
        self.split = split
        dataset = models.dataset
        self.factors = {factor.name: factor.classes for factor in dataset.factors}
        self.at_stake = dict(zip(self.factors, dataset.num_eval_classes(split), strict=True))

    @cached_property
    def held_out(self) -> EncodedSplit:
        """Of the clips that metrics are computed on."""
        return EncodedSplit(self.models, held_out_clips(self.models, self.split))

    @cached_property
    def fit(self) -> EncodedSplit:
        """Of clips that probes are fitted on."""
        return EncodedSplit(self.models, self.models.dataset.probe_train_clips(self.split)[:HELD_OUT_CLIPS])

    @cached_property
    def distances(self) -> SpectralDistance:
        """Of the held-out clips from their reconstructions, decoded from their means, dB."""
        return self.models.spectral_distances(self.held_out.clips, self.held_out.means_KND)

    @property
    def private(self) -> int:
        """How many latents, from the first, are private."""
        return self.models.objective_spec.network.architecture.private

    def by_subspace(self, latents_KND: Tensor) -> Tensor:
        """Each model's latents as often as there are subspaces, zero outside of each, [K x subspaces, N, D]."""
        masks_SD = torch.ones(len(SUBSPACES), latents_KND.shape[-1], device=latents_KND.device)
        masks_SD[SUBSPACES.index("private"), self.private :] = 0
        masks_SD[SUBSPACES.index("shared"), : self.private] = 0
        return (latents_KND[:, None] * masks_SD[:, None]).flatten(0, 1)
