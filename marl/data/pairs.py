"""Which clips form the two views of a pair, and how: a function of (seed, step) alone.

K is lanes, V the two views, B pairs, A attempts.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from marl import randomness
from marl.data.dataset import UNKNOWN, Clips, Dataset
from marl.data.views import AugmentConfig, ViewScheme, make_views
from marl.randomness import Purpose

__all__ = ["PairSampler", "Pairs"]

_ATTEMPTS = 16


@dataclass(frozen=True)
class Pairs:
    """A batch of pairs for each lane.

    Attributes:
        clips_KVB: index of each view's clip, int64 [K, 2, B].
        group_KB: which combination of the shared factors each pair has, or which clip both its views are of, int64.
    """

    clips_KVB: Tensor
    group_KB: Tensor


class PairSampler:
    """Draws pairs that agree in the shared factors and differ in all others.

    The first view is any clip; the second is the first of 16 draws among the clips of the same shared factors that
    differs in every other factor. On SynTone all 16 fail once in 10^20 pairs; the pair then differs in fewer factors.
    Clips agree in a factor that was measured when they are of one class of it. A clip of which a shared factor is not
    known is in no pair; any other factor that is not known counts as different. Where views are made of one clip, both
    are the first one, whatever is known of it.

    Args:
        dataset: the clips.
        shared: names of the shared factors.
        split: the split to draw from.
        scheme: how views are made.
        augment: what may happen to a view, where the scheme is that.

    Attributes:
        groups: combinations of values of the shared factors.
        device: where pairs are drawn.

    Raises:
        ValueError: when `shared` is empty, names an unknown factor or leaves none in which views could differ; or when
            the shared factors are known of no clip of the split.
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
        known_NC = _compared(dataset)
        # Of all clips, so that a combination has one number in every split.
        combinations, group_N = known_NC[:, columns].unique(dim=0, return_inverse=True)
        self.groups = len(combinations)
        if scheme == "factor":
            clips = clips[(known_NC[clips][:, columns] != UNKNOWN).all(dim=1)]
            if not len(clips):
                raise ValueError(
                    f"views.shared: of no {split} clip {' and '.join(shared)} is known, so there are no pairs"
                )
        group = group_N[clips]
        order = group.argsort(stable=True)
        self._clips = clips[order]
        self._group = group[order]
        self._group_size = group.bincount(minlength=self.groups)
        self._group_start = self._group_size.cumsum(0) - self._group_size
        self._others = known_NC[self._clips][:, others]
        self._scheme: ViewScheme = scheme
        self._augment = augment or AugmentConfig()
        self._log_mel = dataset.audio

    def draw(self, seed_K: Tensor, step_K: Tensor, pairs: int) -> Pairs:
        """The pairs of one step for each lane."""
        row_B = randomness.indices(pairs, self.device)
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
            randomness.indices(_ATTEMPTS, self.device),
            below=self._group_size[group_KB][..., None],
        )
        candidate_KBA = self._group_start[group_KB][..., None] + offset_KBA
        first_KB1C, candidate_KBAC = self._others[first_KB][:, :, None], self._others[candidate_KBA]
        differs_KBA = ((candidate_KBAC != first_KB1C) | (first_KB1C == UNKNOWN)).all(dim=-1)
        attempt_A = randomness.indices(_ATTEMPTS, self.device)
        chosen_KB = torch.where(differs_KBA, attempt_A, _ATTEMPTS - 1).amin(dim=-1)
        second_KB = candidate_KBA.gather(-1, chosen_KB[..., None]).squeeze(-1)
        return Pairs(self._clips[torch.stack([first_KB, second_KB], dim=1)], group_KB)

    def views(self, clips_RFT: Tensor, seed_K: Tensor, step_K: Tensor) -> Tensor:
        """The views of pairs from their clips, lane after lane, of a lane first all first views; the same shape."""
        return make_views(self._scheme, clips_RFT, seed_K, step_K, self._log_mel, self._augment)


def _compared(clips: Clips) -> Tensor:
    """What two clips must have in common to agree in a factor, int64 [N, C]: its value, or its class where measured."""
    columns = []
    for column, factor in enumerate(clips.factors):
        value_N = clips.value_NC[:, column]
        columns.append(factor.class_of(value_N) if factor.is_continuous else value_N)
    return torch.stack(columns, dim=1)
