"""What a reader is: a family of classifiers that read factors from representations."""

from collections.abc import Sequence
from typing import Protocol

from torch import Tensor

__all__ = ["FittedReader", "Reader"]


class FittedReader(Protocol):
    """Classifiers of every factor, fitted for each representation of a stack."""

    def log_probabilities(self, latents_RND: Tensor) -> list[Tensor]:
        """Return the log-probability of each class of clips by factor, float64 [R, N, Y]."""


class Reader(Protocol):
    """A family of classifiers. The same call returns the same values, on one device with one number of threads."""

    def fit(
        self,
        latents_RND: Tensor,
        class_NC: Tensor,
        classes_C: Sequence[int],
        posterior_deviation_RD: Tensor | None = None,
    ) -> FittedReader:
        """Fit classifiers.

        Args:
            latents_RND: Representations of the same clips, finite. Latents may be constant or linearly dependent.
            class_NC: Class of each clip by factor, from zero; negative for an unknown class.
            classes_C: Number of classes of each factor.
            posterior_deviation_RD: Root-mean-square deviation of the posterior of each latent, if representations are
                posterior means. No latent is scaled by less, which limits what networks read. Discriminant analysis
                does not depend on scales.
        """
