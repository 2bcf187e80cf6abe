"""Mutual information between single latents and factors, and entropies, for many models at once.

Latents are put into 20 equal bins between their smallest and largest value, factors keep their values, and
probabilities are frequencies (the plug-in estimate), as in disentanglement_lib (Locatello et al., ICML 2019). This
estimate is biased upwards, more so with more cells in a histogram: a latent that is independent of a factor appears to
have information about it. A second estimate has the correction of Miller ("Note on the bias of information estimates",
1955; for mutual information Roulston, "Estimating the errors on measured entropy and mutual information", Physica D
125, 1999).

H is bins of a latent, Y values of a factor.
"""

from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["BINS", "Information", "discretise", "information"]

BINS = 20


class Information(NamedTuple):
    """Tables of single latents and factors in nats, float64; zero for padded latents.

    Attributes:
        mutual_KDC: Mutual information, plug-in estimate.
        corrected_KDC: Mutual information minus its bias, at least zero. The bias is (joint cells - bins - values + 1) /
            2N, counting occupied ones. The correction is too small where most cells are empty. As entropies are not
            corrected, it can exceed them by (values - 1) / 2N.
    """

    mutual_KDC: Tensor
    corrected_KDC: Tensor
    joint_entropy_KDC: Tensor
    latent_entropy_KD: Tensor
    factor_entropy_C: Tensor


def discretise(latents_KND: Tensor, bins: int = BINS) -> Tensor:
    """Return the bin of every latent of every clip, int64 [K, N, D], from 0 to bins - 1.

    The largest value is in the last bin. All clips of a constant latent are in one bin.
    """
    values_KDN = latents_KND.mT.contiguous().to(torch.float64)
    lowest, highest = values_KDN.aminmax(dim=-1, keepdim=True)
    constant = highest == lowest
    lowest = torch.where(constant, lowest - 0.5, lowest)
    highest = torch.where(constant, highest + 0.5, highest)
    # The same edges as numpy.linspace, so that a value on an edge is in the same bin.
    edges_KDH = lowest + torch.arange(bins, device=values_KDN.device) * ((highest - lowest) / bins)
    return (torch.searchsorted(edges_KDH, values_KDN, right=True) - 1).mT


def information(latents_KND: Tensor, mask_KD: Tensor, classes_NC: Tensor, bins: int = BINS) -> Information:
    """Return the information of every latent about every factor.

    It is exactly zero for a constant latent, and for one that is independent of the factor in this sample. An entry
    depends on its latent and its factor alone.
    """
    models, clips, latents = latents_KND.shape
    mask_KD1 = mask_KD.to(torch.float64)[..., None]
    histogram_KD1 = torch.arange(models * latents, device=latents_KND.device).view(models, latents, 1)
    bin_KDN = histogram_KD1 * bins + discretise(latents_KND, bins).mT
    count_KDH = bin_KDN.flatten().bincount(minlength=models * latents * bins).view(models, latents, bins)
    columns = []
    for class_N in classes_NC.unbind(dim=1):
        _, label_N, count_Y = class_N.unique(return_inverse=True, return_counts=True)
        cell_KDN = torch.add(label_N, bin_KDN, alpha=len(count_Y))
        counts = cell_KDN.flatten().bincount(minlength=count_KDH.numel() * len(count_Y))
        joint_KDHY = counts.view(*count_KDH.shape, -1).to(torch.float64)
        # Counts are integers, so a ratio of one is exact and its logarithm zero.
        ratio_KDHY = joint_KDHY * clips / (count_KDH[..., None] * count_Y).clamp_min(1)
        mutual_KD = torch.special.xlogy(joint_KDHY, ratio_KDHY).sum(dim=(-2, -1)) / clips
        excess_KD = _occupied(joint_KDHY.flatten(-2)) - _occupied(count_KDH) - _occupied(count_Y) + 1
        columns.append(
            (mutual_KD, mutual_KD - excess_KD / (2 * clips), _entropy(joint_KDHY.flatten(-2)), _entropy(count_Y))
        )
    mutual_KDC, corrected_KDC, joint_entropy_KDC, factor_entropy_C = (
        torch.stack(tables, dim=-1) for tables in zip(*columns, strict=True)
    )
    return Information(
        mutual_KDC.clamp_min(0.0) * mask_KD1,
        corrected_KDC.clamp_min(0.0) * mask_KD1,
        joint_entropy_KDC * mask_KD1,
        _entropy(count_KDH) * mask_KD1.squeeze(-1),
        factor_entropy_C,
    )


def _occupied(counts: Tensor) -> Tensor:
    return (counts > 0).sum(dim=-1, dtype=torch.float64)


def _entropy(counts: Tensor) -> Tensor:
    """Return the entropy, in nats, of the distribution given by counts along the last dimension."""
    frequency = counts.to(torch.float64) / counts.sum(dim=-1, keepdim=True)
    weighted: Tensor = torch.special.xlogy(frequency, frequency)
    return -weighted.sum(dim=-1)
