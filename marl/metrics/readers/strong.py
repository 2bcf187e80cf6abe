"""The strong reader: how much any user of a representation could find out about a factor."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from marl.metrics.readers.calibration import CalibratedReader
from marl.metrics.readers.discriminant import LinearDiscriminants, QuadraticDiscriminants
from marl.metrics.readers.network import Network, NetworkConfig

__all__ = ["StrongReader"]

_HIDDEN, _EPOCHS = (64, 64, 64), 12
_MIN_STEPS, _MAX_STEPS = 100, 500


@dataclass(frozen=True)
class StrongReader:
    """Mixture of discriminant analysis, linear and quadratic, and a network with three hidden layers.

    Discriminant analysis reads linear codes exactly beside any number of latents of noise, and needs few clips. The
    network reads everything else; one network for all factors costs less than one for each.
    """

    seed: int = 0

    def fit(
        self,
        latents_RND: Tensor,
        class_NC: Tensor,
        classes_C: Sequence[int],
        posterior_deviation_RD: Tensor | None = None,
    ) -> CalibratedReader:
        """Fit the mixture; see `marl.metrics.readers.Reader`."""
        config = NetworkConfig(_HIDDEN, _EPOCHS, _MIN_STEPS, _MAX_STEPS)

        def classifiers(
            whitened_RNE: Tensor, one_hots: Sequence[Tensor]
        ) -> tuple[LinearDiscriminants, QuadraticDiscriminants, Network]:
            return (
                LinearDiscriminants(whitened_RNE, one_hots),
                QuadraticDiscriminants(whitened_RNE, one_hots),
                Network(whitened_RNE, one_hots, config, self.seed),
            )

        return CalibratedReader(classifiers, latents_RND, class_NC, classes_C, posterior_deviation_RD, self.seed)
