"""Mutual information between single latents and factors, for many models at once.

Definitions of disentanglement_lib (Locatello et al., ICML 2019): latents are put into 20 equal bins between their
smallest and largest value, factors are taken as they are, and probabilities are frequencies (the plug-in estimate, in
nats).

K is models, N clips, C factors, D latents.
"""

import torch
from torch import Tensor

__all__ = ["BINS", "discretise", "factor_entropy", "mutual_information"]

BINS = 20


def discretise(latents_KND: Tensor, bins: int = BINS) -> Tensor:
    """Bin 0 ... bins-1 of every latent of every clip, int64 [K, N, D]; the largest value falls into the last bin.

    A constant latent has all clips in one bin.
    """
    values = latents_KND.to(torch.float64)
    lowest, highest = values.amin(dim=1, keepdim=True), values.amax(dim=1, keepdim=True)
    constant = highest == lowest
    lowest = torch.where(constant, lowest - 0.5, lowest)
    highest = torch.where(constant, highest + 0.5, highest)
    # Edges as numpy.linspace makes them, so that a value on an edge falls into the same bin.
    edges = lowest[..., None] + torch.arange(bins, device=values.device) * ((highest - lowest) / bins)[..., None]
    return (values[..., None] >= edges).sum(dim=-1) - 1


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
    models, _, latents = latents_KND.shape
    binned = discretise(latents_KND, bins)
    tables = []
    for column in classes_NC.unbind(dim=1):
        _, label_N = column.unique(return_inverse=True)
        labels = int(label_N.max()) + 1
        cell = torch.arange(models * latents, device=binned.device).view(models, 1, latents)
        flat = (cell * bins + binned) * labels + label_N[:, None]
        counts = flat.flatten().bincount(minlength=models * latents * bins * labels)
        joint = counts.view(models, latents, bins, labels)
        information = _entropy(joint.sum(-1)) + _entropy(joint.sum(-2)) - _entropy(joint.flatten(-2))
        tables.append(information.clamp_min(0.0))
    return torch.stack(tables, dim=-1)


def _entropy(counts: Tensor) -> Tensor:
    """Entropy of frequencies along the last dimension, nats."""
    share = counts.to(torch.float64) / counts.sum(dim=-1, keepdim=True)
    weighted: Tensor = torch.special.xlogy(share, share)
    return -weighted.sum(dim=-1)
