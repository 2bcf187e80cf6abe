"""Sampling of pairs of clips, as a function of seed and step.

C is private factors (but the leading one, in `rest`), Q profiles, J blocks of positions, W positions of a block, E the
positions of the groups of some profiles.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from marl import randomness
from marl.data.dataset import UNKNOWN, Clips, Dataset
from marl.data.views import AugmentConfig, ViewScheme, make_views
from marl.randomness import Purpose

__all__ = ["MAX_UNPAIRED_SHARE", "PairSampler", "Pairs", "Partners"]

MAX_UNPAIRED_SHARE = 0.01
"""Maximum share of the training clips that may have no partner."""

_MIN_BLOCK, _MAX_BLOCKS = 16, 1 << 22
_POSITIONS_AT_ONCE = 1 << 20


@dataclass(frozen=True)
class Pairs:
    """A batch of pairs for each lane.

    Attributes:
        clips_KVB: Index of the clip of each view, int64 [K, 2, B].
        group_KB: Combination of the shared factors of each pair, int64; the clip, if both views come from one clip.
    """

    clips_KVB: Tensor
    group_KB: Tensor


class Partners:
    """The partners of each clip of a split: other clips with the same shared factors, and different private factors.

    Two clips have the same value of a continuous factor if they have the same class. A clip with an unknown shared
    factor is in no pair. Any other unknown factor counts as different.

    Clips are sorted by group (combination of shared factors), then by the private factor with most values, which leads.
    The clips with the same leading value are neighbours. Clips of a group with the same other private factors form a
    profile. The number of partners before each block of positions is counted once for a profile, without regard to the
    leading factor. A search in these counts finds the partner of any rank.

    Attributes:
        clips_N: Clips with known shared factors in this order, int64. All else denotes clips by their position here.
        group_N: Combination of the shared factors.
        count_N: Number of partners.
        paired_n: Clips that have a partner.

    Raises:
        ValueError: If `shared` is empty, names an unknown factor or contains all factors; or if no clip of the split
            has known shared factors.
    """

    def __init__(self, clips: Clips, shared: Sequence[str], split: str) -> None:
        columns, others = _columns(clips, shared)
        value_NC, known = _values_or_classes(clips), clips.splits[split]
        known = known[(value_NC[known][:, columns] != UNKNOWN).all(dim=1)]
        if not len(known):
            names = " and ".join(shared)
            raise ValueError(f"views.shared: pairs need {split} clips with known {names}; there are none")
        leading = max(others, key=lambda column: len(value_NC[known, column].unique()))
        group_N = _combinations(value_NC[:, columns])
        known = known[value_NC[known, leading].argsort(stable=True)]
        self.clips_N = known[group_N[known].argsort(stable=True)]
        self.group_N = group_N[self.clips_N]
        self._split, self._shared = split, tuple(shared)
        self._private = [clips.factor_names[column] for column in others]
        self._private_NC = value_NC[self.clips_N][:, others]
        self._rest_NC = value_NC[self.clips_N][:, [column for column in others if column != leading]]
        self._start_N, self._size_N = _runs(self.group_N[:, None])
        self._count(value_NC[self.clips_N, leading])
        self.paired_n = self.count_N.nonzero().squeeze(1)

    @property
    def unpaired(self) -> int:
        """Number of clips without a partner."""
        return len(self.clips_N) - len(self.paired_n)

    def check(self) -> None:
        """Raise a ValueError if too many clips have no partner."""
        clips = len(self.clips_N)
        if self.unpaired <= MAX_UNPAIRED_SHARE * clips:
            return
        fixed = self._fixed()
        advice = f"add {' and '.join(fixed)} to views.shared" if 0 < len(fixed) < len(self._private) else "add clips"
        raise ValueError(
            f"views.shared: at most {MAX_UNPAIRED_SHARE:.0%} of the {self._split} clips may lack a partner with the "
            f"same {', '.join(self._shared)} and another {', '.join(self._private)}; got {self.unpaired:,} of "
            f"{clips:,} ({self.unpaired / clips:.1%}); {advice}, or choose other shared factors"
        )

    def _fixed(self) -> list[str]:
        """Return the private factors that do not differ between clips with the same shared factors, for many clips."""
        fixed = []
        for name, value_N in zip(self._private, self._private_NC.unbind(dim=1), strict=True):
            order_N = (self.group_N * (value_N.max() + 2) + value_N).argsort(stable=True)
            _, size_N = _runs(torch.stack([self.group_N, value_N], dim=1)[order_N])
            is_fixed_N = (size_N == self._size_N[order_N]) & (value_N[order_N] != UNKNOWN)
            if int(is_fixed_N.sum()) > MAX_UNPAIRED_SHARE * len(value_N):
                fixed.append(name)
        return fixed

    def select(self, clip_n: Tensor, rank_n: Tensor) -> Tensor:
        """Return the partner of each clip that has `rank_n` partners before it; the rank is less than `count_N`."""
        rank_n = rank_n + torch.where(rank_n >= self._before_N[clip_n], self._inside_N[clip_n], 0)
        target_n = self._profile_before_N[clip_n] + rank_n
        block_n = torch.searchsorted(self._before_J, target_n, right=True) - 1
        start_n, left_n = self._start_J[block_n], target_n - self._before_J[block_n]
        # Positions behind the group are not reached, because the block has more partners than `left_n`.
        position_nW = start_n[..., None] + randomness.indices(self._block, start_n.device)
        position_nW = position_nW.clamp_max(len(self.clips_N) - 1)
        differs_nW = _differ(self._rest_NC[clip_n][..., None, :], self._rest_NC[position_nW])
        partner_n: Tensor = start_n + (differs_nW.cumsum(dim=-1) <= left_n[..., None]).sum(dim=-1)
        return partner_n

    def _count(self, leading_N: Tensor) -> None:
        """Count the partners before each block of each profile, and in the interval that the leading value excludes."""
        first_N, length_N = _runs(torch.stack([self.group_N, leading_N], dim=1))
        # Without a leading value, a clip excludes only itself, which the other factors do unless all are unknown.
        is_unknown_N = leading_N == UNKNOWN
        first_N = torch.where(is_unknown_N, torch.arange(len(leading_N), device=leading_N.device), first_N)
        length_N = torch.where(is_unknown_N, (self._rest_NC == UNKNOWN).all(dim=1).to(torch.int64), length_N)

        profile_N = _combinations(torch.cat([self.group_N[:, None], self._rest_NC], dim=1))
        order_N, members_Q = profile_N.argsort(stable=True), profile_N.bincount()
        member_Q = order_N[members_Q.cumsum(0) - members_Q]  # one clip of each profile
        size_Q = self._size_N[member_Q]
        self._block = _block_size(size_Q)
        parts = ((size_Q.cumsum(0) - size_Q) // _POSITIONS_AT_ONCE).unique_consecutive(return_counts=True)[1].tolist()
        clips_of_part = order_N.split([int(part_q.sum()) for part_q in members_Q.split(parts)])
        blocks, counts, total = [], [], torch.zeros(1, dtype=torch.int64, device=leading_N.device)
        for member_q, members_q, clip_n in zip(
            member_Q.split(parts), members_Q.split(parts), clips_of_part, strict=True
        ):
            start_q, size_q = self._start_N[member_q], self._size_N[member_q]
            offset_q = size_q.cumsum(0) - size_q
            profile_E, position_E = _expand(size_q)
            differs_E = _differ(self._rest_NC[member_q][profile_E], self._rest_NC[start_q[profile_E] + position_E])
            before_E = torch.cat([total, total + differs_E.cumsum(0)])
            profile_j, block_j = _expand((size_q + self._block - 1) // self._block)
            position_j = block_j * self._block
            blocks.append(torch.stack([before_E[offset_q[profile_j] + position_j], start_q[profile_j] + position_j]))
            group_n = offset_q.repeat_interleave(members_q)
            interval_n = group_n + first_N[clip_n] - self._start_N[clip_n]
            ends = (group_n, group_n + self._size_N[clip_n], interval_n, interval_n + length_N[clip_n])
            counts.append(torch.stack([before_E[end_n] for end_n in ends]))
            total = before_E[-1:]
        self._before_J, self._start_J = torch.cat(blocks, dim=1)
        group_N, end_N, interval_N, interval_end_N = torch.cat(counts, dim=1)[:, order_N.argsort(stable=True)]
        self._profile_before_N, self._before_N = group_N, interval_N - group_N
        self._inside_N = interval_end_N - interval_N
        self.count_N = end_N - group_N - self._inside_N


class PairSampler:
    """Draws pairs of clips with the same shared factors and different other factors.

    The first view is any clip that has a partner, the second view any of its partners, see `Partners`. Each is drawn by
    one random number, all with the same probability. With `augment` and `segment`, any clip is paired with itself.

    Attributes:
        groups: Number of combinations of the shared factors.
        is_empty: Whether no clip of the split has a partner, so that there are no pairs to draw.

    Raises:
        ValueError: If `shared` is empty, names an unknown factor or contains all factors; if no clip of the split has
            known shared factors; or if more than 1 % of the training clips have no partner.
    """

    def __init__(
        self,
        dataset: Dataset,
        shared: Sequence[str],
        split: str = "training",
        scheme: ViewScheme = "factor",
        augment: AugmentConfig | None = None,
    ) -> None:
        columns, _ = _columns(dataset, shared)
        self.device = dataset.value_NC.device
        # Computed from all clips, so that a combination has the same number in every split.
        group_N = _combinations(_values_or_classes(dataset)[:, columns])
        self.groups = int(group_N.max()) + 1
        self._scheme: ViewScheme = scheme
        if scheme == "factor":
            self._partners = Partners(dataset, shared, split)
            if split == "training":
                self._partners.check()
            self._first = self._partners.paired_n
        else:
            self._first = dataset.splits[split][group_N[dataset.splits[split]].argsort(stable=True)]
        self.is_empty = not len(self._first)
        self._augment, self._log_mel = augment or AugmentConfig(), dataset.audio

    def draw(self, seed_K: Tensor, step_K: Tensor, pairs: int) -> Pairs:
        """Return the pairs of one step of each lane."""
        row_B, one = randomness.indices(pairs, self.device), torch.zeros(1, dtype=torch.int64, device=self.device)
        first_KB = self._first[
            randomness.integers(
                randomness.stream(seed_K, step_K, Purpose.FIRST_VIEW), row_B, one, below=len(self._first)
            ).squeeze(-1)
        ]
        if self._scheme != "factor":
            return Pairs(torch.stack([first_KB, first_KB], dim=1), first_KB)
        partners = self._partners
        rank_KB = randomness.integers(
            randomness.stream(seed_K, step_K, Purpose.SECOND_VIEW),
            row_B,
            one,
            below=partners.count_N[first_KB][..., None],
        ).squeeze(-1)
        second_KB = partners.select(first_KB, rank_KB)
        return Pairs(partners.clips_N[torch.stack([first_KB, second_KB], dim=1)], partners.group_N[first_KB])

    def views(self, clips_RFT: Tensor, seed_K: Tensor, step_K: Tensor) -> Tensor:
        """Return the views of pairs from their clips, lane after lane; the first views of a lane come first."""
        return make_views(self._scheme, clips_RFT, seed_K, step_K, self._log_mel, self._augment)


def _columns(clips: Clips, shared: Sequence[str]) -> tuple[list[int], list[int]]:
    """Return the columns of the shared factors, and the columns of the private factors."""
    names = clips.factor_names
    if not shared or not set(shared) < set(names):
        raise ValueError(f"views.shared must name some but not all of {', '.join(names)}; got {list(shared)}")
    columns = [names.index(name) for name in shared]
    return columns, [column for column in range(len(names)) if column not in columns]


def _values_or_classes(clips: Clips) -> Tensor:
    """Return the value of each factor, int64 [N, C], or its class if the factor is continuous."""
    columns = zip(clips.factors, clips.value_NC.unbind(dim=1), strict=True)
    return torch.stack(
        [factor.class_of(value_N) if factor.is_continuous else value_N for factor, value_N in columns], dim=1
    )


def _combinations(value_NC: Tensor) -> Tensor:
    """Return the number of the combination of values of each clip; combinations are sorted."""
    number_N: Tensor = value_NC.unique(dim=0, return_inverse=True)[1]
    return number_N


def _differ(own_nC: Tensor, other_nC: Tensor) -> Tensor:
    """Return whether clips differ in all factors that are known of the first clip."""
    return ((own_nC != other_nC) | (own_nC == UNKNOWN)).all(dim=-1)


def _runs(value_NC: Tensor) -> tuple[Tensor, Tensor]:
    """Return start and length of the run of equal rows in which each row lies."""
    _, run_N, length = value_NC.unique_consecutive(dim=0, return_inverse=True, return_counts=True)
    return (length.cumsum(0) - length)[run_N], length[run_N]


def _expand(size_Q: Tensor) -> tuple[Tensor, Tensor]:
    """Return which segment each item of consecutive segments is in, and its position in the segment."""
    segment_E = torch.arange(len(size_Q), device=size_Q.device).repeat_interleave(size_Q)
    return segment_E, torch.arange(len(segment_E), device=size_Q.device) - (size_Q.cumsum(0) - size_Q)[segment_E]


def _block_size(size_Q: Tensor) -> int:
    """Return the number of positions of a block: few, because a draw visits them all, but not too many blocks."""
    block = _MIN_BLOCK
    while int(((size_Q + block - 1) // block).sum()) > _MAX_BLOCKS and block < int(size_Q.max()):
        block *= 2
    return block
