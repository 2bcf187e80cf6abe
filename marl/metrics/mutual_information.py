"""Mutual information between single latents and factors, for many models at once, and the entropies beside it.

Definitions of disentanglement_lib (Locatello et al., ICML 2019): latents are put into 20 equal bins between their
smallest and largest value, factors are taken as they are, and probabilities are frequencies (the plug-in estimate, in
nats). That estimate is too large, by more the more cells a histogram has: latents that are independent of a factor seem
to tell something. Beside it stands the estimate with the correction of Miller ("Note on the bias of information
estimates", 1955; for mutual information Roulston, "Estimating the errors on measured entropy and mutual information",
Physica D 125, 1999).

K is models, N clips, C factors, D latents, B bins of a latent, V values of a factor.
"""

from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["BINS", "Information", "discretise", "factor_entropy", "information", "mutual_information"]

BINS = 20


class Information(NamedTuple):
    """What metrics of single latents start from, nats, float64; zero for latents that a model has not.

    `corrected_KDC` is the mutual information less its bias and not below zero: (joint cells - bins - values + 1) / 2N,
    where only those count that are occupied. It corrects too little where most cells are empty, and as entropies are
    not corrected, it can be larger than them by (values - 1) / 2N.
    """

    mutual_KDC: Tensor
    corrected_KDC: Tensor
    joint_entropy_KDC: Tensor
    latent_entropy_KD: Tensor
    factor_entropy_C: Tensor


def discretise(latents_KND: Tensor, bins: int = BINS) -> Tensor:
    """Bin 0 ... bins-1 of every latent of every clip, int64 [K, N, D]; the largest value falls into the last bin.

    A constant latent has all clips in one bin.
    """
    values_KDN = latents_KND.mT.contiguous().to(torch.float64)
    lowest, highest = values_KDN.aminmax(dim=-1, keepdim=True)
    constant = highest == lowest
    lowest = torch.where(constant, lowest - 0.5, lowest)
    highest = torch.where(constant, highest + 0.5, highest)
    # Edges as numpy.linspace makes them, so that a value on an edge falls into the same bin.
    edges_KDB = lowest + torch.arange(bins, device=values_KDN.device) * ((highest - lowest) / bins)
    return (torch.searchsorted(edges_KDB, values_KDN, right=True) - 1).mT


def factor_entropy(classes_NC: Tensor) -> Tensor:
    """Entropy of each factor, nats, float64 [C]."""
    entropies = [_entropy(column.unique(return_counts=True)[1]) for column in classes_NC.unbind(dim=1)]
    return torch.stack(entropies)


def mutual_information(latents_KND: Tensor, classes_NC: Tensor, bins: int = BINS) -> Tensor:
    """Mutual information of every latent with every factor, nats, float64 [K, D, C].

    Args:
        latents_KND: one representation of the same clips by each model.
        classes_NC: the factors' classes, any integers.
        bins: for each latent.
    """
    return information(latents_KND, torch.ones_like(latents_KND[:, 0]), classes_NC, bins).mutual_KDC


def information(latents_KND: Tensor, mask_KD: Tensor, classes_NC: Tensor, bins: int = BINS) -> Information:
    """Histograms of every latent with every factor, and what follows from them.

    Where a latent is constant, or independent of the factor to the last clip, the mutual information is zero without a
    rounding error. What belongs to some latents and some factors only is a slice of the tables.

    Args:
        latents_KND: one representation of the same clips by each model, finite.
        mask_KD: one for each latent that a model has, zero for padding.
        classes_NC: the factors' classes, any integers.
        bins: for each latent.
    """
    models, clips, latents = latents_KND.shape
    mask_KD1 = mask_KD.to(torch.float64)[..., None]
    histogram_KD1 = torch.arange(models * latents, device=latents_KND.device).view(models, latents, 1)
    place_KDN = histogram_KD1 * bins + discretise(latents_KND, bins).mT
    binned_KDB = place_KDN.flatten().bincount(minlength=models * latents * bins).view(models, latents, bins)
    columns = []
    for class_N in classes_NC.unbind(dim=1):
        _, label_N, valued_V = class_N.unique(return_inverse=True, return_counts=True)
        cell_KDN = torch.add(label_N, place_KDN, alpha=len(valued_V))
        counts = cell_KDN.flatten().bincount(minlength=binned_KDB.numel() * len(valued_V))
        joint_KDBV = counts.view(*binned_KDB.shape, -1).to(torch.float64)
        # Counts are whole numbers, so that a ratio of one is exactly one and its logarithm zero.
        ratio_KDBV = joint_KDBV * clips / (binned_KDB[..., None] * valued_V).clamp_min(1)
        mutual_KD = torch.special.xlogy(joint_KDBV, ratio_KDBV).sum(dim=(-2, -1)) / clips
        excess_KD = _occupied(joint_KDBV.flatten(-2)) - _occupied(binned_KDB) - _occupied(valued_V) + 1
        columns.append(
            (mutual_KD, mutual_KD - excess_KD / (2 * clips), _entropy(joint_KDBV.flatten(-2)), _entropy(valued_V))
        )
    mutual_KDC, corrected_KDC, joint_entropy_KDC, factor_entropy_C = (
        torch.stack(tables, dim=-1) for tables in zip(*columns, strict=True)
    )
    return Information(
        mutual_KDC.clamp_min(0.0) * mask_KD1,
        corrected_KDC.clamp_min(0.0) * mask_KD1,
        joint_entropy_KDC * mask_KD1,
        _entropy(binned_KDB) * mask_KD1.squeeze(-1),
        factor_entropy_C,
    )


def _occupied(counts: Tensor) -> Tensor:
    return (counts > 0).sum(dim=-1, dtype=torch.float64)


def _entropy(counts: Tensor) -> Tensor:
    """Entropy of frequencies along the last dimension, nats."""
    share = counts.to(torch.float64) / counts.sum(dim=-1, keepdim=True)
    weighted: Tensor = torch.special.xlogy(share, share)
    return -weighted.sum(dim=-1)
