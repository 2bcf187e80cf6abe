"""Sampling of pairs of clips, as a function of seed and step. A is draws of the second view."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from marl import randomness
from marl.data.dataset import UNKNOWN, Clips, Dataset
from marl.data.views import AugmentConfig, ViewScheme, make_views
from marl.randomness import Purpose

__all__ = ["PairSampler", "Pairs"]

_MAX_DRAWS = 16


@dataclass(frozen=True)
class Pairs:
    """A batch of pairs for each lane.

    Attributes:
        clips_KVB: Index of the clip of each view, int64 [K, 2, B].
        group_KB: Combination of the shared factors of each pair, int64; the clip, if both views come from one clip.
    """

    clips_KVB: Tensor
    group_KB: Tensor


class PairSampler:
    """Draws pairs of clips with the same shared factors and different other factors.

    The first view is any clip. The second view is drawn up to 16 times from the clips with the same shared factors,
    until all other factors differ. On SynTone all draws fail once in 10^20 pairs; then fewer factors differ. Two clips
    have the same value of a continuous factor if they have the same class. A clip with an unknown shared factor is in
    no pair. Any other unknown factor counts as different. With `augment` and `segment`, any clip is paired with itself.

    Attributes:
        groups: Number of combinations of the shared factors.

    Raises:
        ValueError: If `shared` is empty, names an unknown factor or contains all factors; or if no clip of the split
            has known shared factors.
    """

    def __init__(
        self,
        dataset: Dataset,
        shared: Sequence[str],
        split: str = "training",
        scheme: ViewScheme = "factor",
        augment: AugmentConfig | None = None,
    ) -> None:
        names = dataset.factor_names
        if not shared or not set(shared) < set(names):
            raise ValueError(f"views.shared must name some but not all of {', '.join(names)}; got {list(shared)}")
        columns = [names.index(name) for name in shared]
        others = [column for column in range(len(names)) if column not in columns]
        self.device = dataset.value_NC.device
        clips = dataset.splits[split]
        value_NC = _values_or_classes(dataset)
        # Computed from all clips, so that a combination has the same number in every split.
        combinations, group_N = value_NC[:, columns].unique(dim=0, return_inverse=True)
        self.groups = len(combinations)
        if scheme == "factor":
            clips = clips[(value_NC[clips][:, columns] != UNKNOWN).all(dim=1)]
            if not len(clips):
                known = " and ".join(shared)
                raise ValueError(f"views.shared: pairs need {split} clips with known {known}; there are none")
        order = group_N[clips].argsort(stable=True)
        self._clips = clips[order]
        self._group = group_N[self._clips]
        self._group_size = self._group.bincount(minlength=self.groups)
        self._group_start = self._group_size.cumsum(0) - self._group_size
        self._others = value_NC[self._clips][:, others]
        self._scheme: ViewScheme = scheme
        self._augment, self._log_mel = augment or AugmentConfig(), dataset.audio

    def draw(self, seed_K: Tensor, step_K: Tensor, pairs: int) -> Pairs:
        """Return the pairs of one step of each lane."""
        row_B, attempt_A = randomness.indices(pairs, self.device), randomness.indices(_MAX_DRAWS, self.device)
        one = torch.zeros(1, dtype=torch.int64, device=self.device)
        first_KB = randomness.integers(
            randomness.stream(seed_K, step_K, Purpose.FIRST_VIEW), row_B, one, below=len(self._clips)
        ).squeeze(-1)
        if self._scheme != "factor":
            clip_KB = self._clips[first_KB]
            return Pairs(torch.stack([clip_KB, clip_KB], dim=1), clip_KB)
        group_KB = self._group[first_KB]
        offset_KBA = randomness.integers(
            randomness.stream(seed_K, step_K, Purpose.SECOND_VIEW),
            row_B,
            attempt_A,
            below=self._group_size[group_KB][..., None],
        )
        candidate_KBA = self._group_start[group_KB][..., None] + offset_KBA
        first_KB1C, candidate_KBAC = self._others[first_KB][:, :, None], self._others[candidate_KBA]
        differs_KBA = ((candidate_KBAC != first_KB1C) | (first_KB1C == UNKNOWN)).all(dim=-1)
        chosen_KB = torch.where(differs_KBA, attempt_A, _MAX_DRAWS - 1).amin(dim=-1)
        second_KB = candidate_KBA.gather(-1, chosen_KB[..., None]).squeeze(-1)
        return Pairs(self._clips[torch.stack([first_KB, second_KB], dim=1)], group_KB)

    def views(self, clips_RFT: Tensor, seed_K: Tensor, step_K: Tensor) -> Tensor:
        """Return the views of pairs from their clips, lane after lane; the first views of a lane come first."""
        return make_views(self._scheme, clips_RFT, seed_K, step_K, self._log_mel, self._augment)


def _values_or_classes(clips: Clips) -> Tensor:
    """Return the value of each factor, int64 [N, C], or its class if the factor is continuous."""
    columns = zip(clips.factors, clips.value_NC.unbind(dim=1), strict=True)
    return torch.stack(
        [factor.class_of(value_N) if factor.is_continuous else value_N for factor, value_N in columns], dim=1
    )
