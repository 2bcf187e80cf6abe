"""The linear reader, the cheapest."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from marl.metrics.readers.calibration import CalibratedReader
from marl.metrics.readers.discriminant import LinearDiscriminants

__all__ = ["LinearReader"]


@dataclass(frozen=True)
class LinearReader:
    """Linear discriminant analysis. Unlike regression to one-hot classes, it tells classes along a line apart."""

    seed: int = 0

    def fit(
        self,
        latents_RND: Tensor,
        class_NC: Tensor,
        classes_C: Sequence[int],
        posterior_deviation_RD: Tensor | None = None,
    ) -> CalibratedReader:
        """Fit the discriminants; see `marl.metrics.readers.Reader`."""

        def classifiers(whitened_RNE: Tensor, one_hots: Sequence[Tensor]) -> tuple[LinearDiscriminants]:
            return (LinearDiscriminants(whitened_RNE, one_hots),)

        return CalibratedReader(classifiers, latents_RND, class_NC, classes_C, posterior_deviation_RD, self.seed)
