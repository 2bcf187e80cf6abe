"""Training, validation and test clips such that what must not leak from one to another does not.

N is clips, C factors.
"""

import hashlib
from collections.abc import Sequence

import torch
from torch import Tensor

from marl.data.dataset import HELD_OUT_SHARE, SPLITS, UNKNOWN, Factor

__all__ = ["SPLIT_BY", "split_by"]

SPLIT_BY = ("clip", "combination", "group")
"""What a split may keep together, beside clips with one value of a factor."""

_FEWEST = 10
# Two values of a factor are held out then, for a probe to choose from.
_FEWEST_VALUES = 20


def split_by(
    by: str, value_NC: Tensor, factors: Sequence[Factor], groups_N: Sequence[str], names_N: Sequence[str]
) -> dict[str, Tensor]:
    """Splits as `marl.data.Clips.splits`, of which each unit lies in one alone.

    Units are clips, combinations of factors, groups, or values of a factor. Of them 80, 10 and 10 of 100 are for
    training, validation and test, by a hash of what they are called: whatever else comes to a set, a unit's place
    among the others stays. Of what is held out all factors are known, so that all of it can be measured. A clip of
    which one is not known is for training, or for nothing where its unit is held out or not known either.

    Args:
        by: one of `SPLIT_BY`, or the name of a factor.
        value_NC: index into each factor's values.
        factors: the C factors.
        groups_N: what each clip belongs to.
        names_N: what each clip is called; no two alike.

    Raises:
        ValueError: when `by` is nothing of the kind, or there are too few units for three splits.
    """
    named = [factor.name for factor in factors]
    is_known_N = (value_NC != UNKNOWN).all(dim=1).tolist()
    units_N: Sequence[str | None]
    if by == "clip":
        units_N = names_N
    elif by == "group":
        units_N = groups_N
    elif by == "combination":
        units_N = [str(row) if known else None for row, known in zip(value_NC.tolist(), is_known_N, strict=True)]
    elif by in named:
        column = named.index(by)
        values = factors[column].values
        units_N = [None if index == UNKNOWN else str(values[index]) for index in value_NC[:, column].tolist()]
    else:
        raise ValueError(f"split must be one of {', '.join((*SPLIT_BY, *named))}; got {by!r}")
    # Only what is measured needs splits of its own.
    units = {unit for unit, known in zip(units_N, is_known_N, strict=True) if known and unit is not None}
    fewest = _FEWEST_VALUES if by in named else _FEWEST
    if len(units) < fewest:
        what = "clips" if by == "clip" else f"different values of {by}" if by in named else f"{by}s"
        raise ValueError(
            f"split: {by}: {len(units)} {what} with all factors known are too few for training, validation and test; "
            f"at least {fewest} are needed"
        )
    order = sorted(units, key=_score)
    held_out = max(1, round(len(units) * HELD_OUT_SHARE))
    split_of = dict.fromkeys(order[:held_out], "validation") | dict.fromkeys(order[held_out : 2 * held_out], "test")
    members: dict[str, list[int]] = {split: [] for split in SPLITS}
    for clip in sorted(range(len(names_N)), key=lambda clip: _score(names_N[clip])):
        unit = units_N[clip]
        split = None if unit is None else split_of.get(unit, "training")
        # What may belong to a held-out unit and cannot be measured is in no split: in training it would leak.
        if split is not None and (is_known_N[clip] or split == "training"):
            members[split].append(clip)
    splits = {split: torch.tensor(clips) for split, clips in members.items()}
    if by in named:
        for split in ("validation", "test"):
            clips = splits[split]
            splits[split], splits[f"{split} fitting"] = clips[::2], clips[1::2]
    return splits


def _score(name: str) -> bytes:
    """What is random and fixed."""
    return hashlib.sha256(name.encode()).digest()
