"""Readers: families of classifiers that read factors from representations."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor

from marl.metrics.readers.calibration import CalibratedClassifiers, Classifier
from marl.metrics.readers.discriminant import LinearDiscriminants, QuadraticDiscriminants
from marl.metrics.readers.network import Network, NetworkConfig

__all__ = ["READERS", "Reader"]

_STRONG_NETWORK = NetworkConfig((64, 64, 64), epochs=30, min_steps=100, max_steps=400, batch=384, learning_rate=0.02)
# More clips hardly change quadratic discriminants, whose cost grows with them.
_QUADRATIC_CLIPS = 4096
# With ten times as many clips seen in training, accuracies are 0.024 higher on average (docs/metrics.md).
_LIGHTWEIGHT_NETWORK = NetworkConfig((64,), epochs=50, min_steps=400, max_steps=800)


@dataclass(frozen=True)
class Reader:
    """A family of classifiers. The same call returns the same values, on one device with one number of threads.

    Attributes:
        classifiers: Function that fits classifiers on whitened latents, [R, N, E], and the class of each clip by
            factor, float64 [N, Y], with a seed. Their mixture answers.
        seed: Seed of initial values, batches, and the clips to calibrate on.
    """

    classifiers: Callable[[Tensor, Sequence[Tensor], int], Sequence[Classifier]]
    seed: int = 0

    def fit(
        self,
        latents_RND: Tensor,
        class_NC: Tensor,
        classes_C: Sequence[int],
        posterior_deviation_RD: Tensor | None = None,
    ) -> CalibratedClassifiers:
        """Fit classifiers of every factor, for each representation of a stack.

        Args:
            latents_RND: Representations of the same clips, finite. Latents may be constant or linearly dependent.
            class_NC: Class of each clip by factor, from zero; negative for an unknown class.
            classes_C: Number of classes of each factor.
            posterior_deviation_RD: Root-mean-square deviation of the posterior of each latent, if representations are
                posterior means. No latent is scaled by less, which limits what networks read. Discriminant analysis
                does not depend on scales.
        """
        arguments = latents_RND, class_NC, classes_C, posterior_deviation_RD, self.seed
        return CalibratedClassifiers(self.classifiers, *arguments)


def _strong(whitened_RNE: Tensor, one_hots: Sequence[Tensor], seed: int) -> list[Classifier]:
    """Fit what any user of a representation could: linear and quadratic discriminants, and a deep network.

    Discriminant analysis reads linear codes exactly beside any number of latents of noise, and needs few clips. The
    network reads everything else; one network for all factors costs less than one for each.
    """
    return [
        LinearDiscriminants(whitened_RNE, one_hots),
        QuadraticDiscriminants(whitened_RNE[:, :_QUADRATIC_CLIPS], [part[:_QUADRATIC_CLIPS] for part in one_hots]),
        Network(whitened_RNE, one_hots, _STRONG_NETWORK, seed),
    ]


def _lightweight(whitened_RNE: Tensor, one_hots: Sequence[Tensor], seed: int) -> list[Classifier]:
    """Fit a network with one hidden layer for each factor, almost to convergence: the probe of papers."""
    return [_NetworkOfEachFactor(whitened_RNE, one_hots, seed)]


def _linear(whitened_RNE: Tensor, one_hots: Sequence[Tensor], seed: int) -> list[Classifier]:
    """Fit linear discriminants, the cheapest. Unlike regression to one-hot classes, they tell ordered classes apart."""
    return [LinearDiscriminants(whitened_RNE, one_hots)]


READERS = {"strong": Reader(_strong), "lightweight": Reader(_lightweight), "linear": Reader(_linear)}
"""Readers by name."""


class _NetworkOfEachFactor:
    def __init__(self, whitened_RNE: Tensor, one_hots: Sequence[Tensor], seed: int) -> None:
        self._networks = [Network(whitened_RNE, [one_hot_NY], _LIGHTWEIGHT_NETWORK, seed) for one_hot_NY in one_hots]

    def logits(self, whitened_RNE: Tensor) -> list[Tensor]:
        return [logits for network in self._networks for logits in network.logits(whitened_RNE)]
