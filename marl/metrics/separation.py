"""How well the subspaces keep apart what they should: one number from the probes."""

from collections.abc import Mapping
from typing import TypeVar

from torch import Tensor

__all__ = ["chance_corrected", "separation"]

_Accuracy = TypeVar("_Accuracy", float, Tensor)


def chance_corrected(accuracy: _Accuracy, classes: int) -> _Accuracy:
    """An accuracy on a scale where guessing among equal classes is 0 and perfect is 1; below zero is worse."""
    chance = 1 / classes
    return (accuracy - chance) / (1 - chance)


def separation(
    accuracy: Mapping[tuple[str, str], _Accuracy], classes: Mapping[str, int], shared: frozenset[str]
) -> _Accuracy:
    """Mean over factors of what is read from the right subspace minus what is read from the wrong one.

    One is perfect, zero says that the subspaces cannot be told apart, minus one that they are exchanged.

    Args:
        accuracy: of the probe for each (factor, `private` or `shared`).
        classes: of each factor.
        shared: names of the factors that belong into the shared subspace; the others belong into the private one.
    """
    differences = []
    for factor, count in classes.items():
        right, wrong = ("shared", "private") if factor in shared else ("private", "shared")
        differences.append(
            chance_corrected(accuracy[factor, right], count) - chance_corrected(accuracy[factor, wrong], count)
        )
    return sum(differences[1:], differences[0]) / len(differences)
