"""Spectrograms as a prepared set keeps them: dB in half precision, on the device or, where they do not fit, beside it.

N is clips, F mel bands, T frames.
"""

import warnings

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["Stored"]


class Stored:
    """Log-mels of all clips in float16, dB relative to a full-scale sine; standardised float32 is what one takes.

    What is taken has the same bits wherever it was: the same float16 is converted and standardised by the same
    operations.

    Args:
        decibels_NFT: float16, on the device that computes; or an array of this machine's memory, which may be a file
            that is larger than it.
        mean_db: mean over the training clips, subtracted.
        std_db: standard deviation over the training clips, divided by.
        device: what computes.

    Attributes:
        device: the same.
        is_resident: whether they are on the device.
    """

    def __init__(
        self, decibels_NFT: Tensor | NDArray[np.float16], mean_db: float, std_db: float, device: torch.device
    ) -> None:
        self.is_resident = isinstance(decibels_NFT, Tensor)
        # A file that is mapped read-only is never written to here, which is all that torch warns of.
        self._decibels_NFT = decibels_NFT if isinstance(decibels_NFT, Tensor) else _as_tensor(decibels_NFT)
        self._mean_db, self._std_db = mean_db, std_db
        self.device = device

    @property
    def shape(self) -> torch.Size:
        """[N, F, T]."""
        return self._decibels_NFT.shape

    def __getitem__(self, clips: Tensor) -> Tensor:
        """The same as `take`."""
        return self.take(clips)

    def take(self, clips: Tensor) -> Tensor:
        """Standardised log-mels [n, F, T] of clips, on the device."""
        return self.standardised(self.decibels(clips.to(self._decibels_NFT.device)).to(self.device))

    def decibels(self, clips: Tensor, out: Tensor | None = None) -> Tensor:
        """As they are kept and where they are kept, of clips whose indices are there as well."""
        return torch.index_select(self._decibels_NFT, 0, clips, out=out)

    def standardised(self, decibels_nFT: Tensor) -> Tensor:
        """Standardised float32 from what is kept."""
        return (decibels_nFT.to(torch.float32) - self._mean_db) / self._std_db


def _as_tensor(array: NDArray[np.float16]) -> Tensor:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return torch.from_numpy(array)
