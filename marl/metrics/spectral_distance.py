"""How far reconstructed log-mel spectrograms are from the originals, in dB, for many models at once.

Root mean square error, and the log-spectral distance of Gray & Markel (IEEE Trans. ASSP 24, 1976; also Rabiner & Juang,
Fundamentals of Speech Recognition, 1993), here on mel bands: the root mean square over the bands of a frame, averaged
over frames and clips. Its root is taken frame by frame, so that a few bad frames count less than in the error over all,
which it never exceeds. In both, a reconstruction that is g dB off everywhere is |g| dB off: level counts.

K is models, N clips, F mel bands, T frames, C classes of a factor.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import one_hot

__all__ = ["ClassMeans", "SpectralDistance", "by_class", "root_mean_square", "spectral_distance"]


class SpectralDistance(NamedTuple):
    """Of each clip by each model: the mean squared error, dB², and the log-spectral distance, dB."""

    squared_error_KN: Tensor
    log_spectral_distance_KN: Tensor


class ClassMeans(NamedTuple):
    """Means over the clips of each class, and how many these are; without a clip the mean is a zero that says nothing.

    Who shows the means leaves out classes without clips, so that neither that zero nor a NaN reaches a table.
    """

    mean_KC: Tensor
    clips_C: Tensor


def spectral_distance(reconstruction_KNFT: Tensor, original_NFT: Tensor) -> SpectralDistance:
    """Distances of each clip, float32; both are zero where it is reconstructed exactly.

    Args:
        reconstruction_KNFT: log-mels of the same clips by each model, dB.
        original_NFT: log-mels of the clips, dB; if both are standardised, the results are in standard deviations.
    """
    difference = reconstruction_KNFT.to(torch.float32) - original_NFT.to(torch.float32)
    frame_KNT = difference.square().mean(dim=-2)
    return SpectralDistance(frame_KNT.mean(dim=-1), frame_KNT.sqrt().mean(dim=-1))


def root_mean_square(squared_error_KN: Tensor) -> Tensor:
    """Root mean square error over clips, bands and frames, float64 [K], from the mean squared errors of clips."""
    return squared_error_KN.to(torch.float64).mean(dim=1).sqrt()


def by_class(values_KN: Tensor, class_N: Tensor, classes: int) -> ClassMeans:
    """Means over the clips of each class of a factor, float64.

    Weighted with the numbers of clips they give the mean over all. A root mean square error by class is the root of the
    means of squared errors.

    Args:
        values_KN: one number of each clip by each model.
        class_N: class of each clip, 0 ... classes-1.
        classes: how many there are, with clips or without.
    """
    # A sum of products would do, but an error that is infinite would spoil the classes of other clips; and adding by
    # index is in no fixed order on a GPU.
    member_CN = one_hot(class_N, classes).to(torch.bool).mT
    clips_C = member_CN.sum(dim=1)
    total_KC = values_KN.to(torch.float64)[:, None].where(member_CN, 0.0).sum(dim=-1)
    return ClassMeans(total_KC / clips_C.clamp_min(1), clips_C)
