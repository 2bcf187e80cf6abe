"""Separation of the subspaces: one number from the accuracies of probes."""

from collections.abc import Mapping
from typing import TypeVar

from torch import Tensor

__all__ = ["chance_corrected", "separation"]

_Accuracy = TypeVar("_Accuracy", float, Tensor)


def chance_corrected(accuracy: _Accuracy, classes: int) -> _Accuracy:
    """Return an accuracy rescaled so that guessing among equally frequent classes is zero and perfect is one."""
    chance = 1 / classes
    return (accuracy - chance) / (1 - chance)


def separation(
    accuracy: Mapping[tuple[str, str], _Accuracy], classes: Mapping[str, int], shared: frozenset[str]
) -> _Accuracy:
    """Return the accuracy in the right subspace minus that in the wrong one, chance-corrected, averaged over factors.

    One is perfect. Zero means that the subspaces do not differ, minus one that they are exchanged.

    Args:
        accuracy: Accuracy of the probe for each (factor, `private` or `shared`).
        classes: Number of classes of each factor.
        shared: Factors whose right subspace is the shared one.
    """
    differences = []
    for factor, count in classes.items():
        right, wrong = ("shared", "private") if factor in shared else ("private", "shared")
        differences.append(
            chance_corrected(accuracy[factor, right], count) - chance_corrected(accuracy[factor, wrong], count)
        )
    return sum(differences[1:], differences[0]) / len(differences)
