"""The lightweight reader: the small network that papers use as a probe."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from marl.metrics.readers.calibration import CalibratedReader
from marl.metrics.readers.network import Network, NetworkConfig

__all__ = ["LightweightReader"]

# Twice as many steps change no information on the models of the quickstart by more than 0.01.
_HIDDEN, _EPOCHS = (64,), 50
_MIN_STEPS, _MAX_STEPS = 400, 2000


@dataclass(frozen=True)
class LightweightReader:
    """A network with one hidden layer of 64 for each factor, trained almost to convergence."""

    seed: int = 0

    def fit(
        self,
        latents_RND: Tensor,
        class_NC: Tensor,
        classes_C: Sequence[int],
        posterior_deviation_RD: Tensor | None = None,
    ) -> CalibratedReader:
        """Fit the networks; see `marl.metrics.readers.Reader`."""

        def classifiers(whitened_RNE: Tensor, one_hots: Sequence[Tensor]) -> tuple["_NetworkOfEachFactor"]:
            return (_NetworkOfEachFactor(whitened_RNE, one_hots, self.seed),)

        return CalibratedReader(classifiers, latents_RND, class_NC, classes_C, posterior_deviation_RD, self.seed)


class _NetworkOfEachFactor:
    def __init__(self, whitened_RNE: Tensor, one_hots: Sequence[Tensor], seed: int) -> None:
        config = NetworkConfig(_HIDDEN, _EPOCHS, _MIN_STEPS, _MAX_STEPS)
        self._networks = [Network(whitened_RNE, [one_hot_NY], config, seed) for one_hot_NY in one_hots]

    def logits(self, whitened_RNE: Tensor) -> list[Tensor]:
        return [logits for network in self._networks for logits in network.logits(whitened_RNE)]
