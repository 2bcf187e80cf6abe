"""Disentanglement, completeness and informativeness (Eastwood & Williams, ICLR 2018) as in disentanglement_lib.

Boosted trees measure the importance of each latent for each factor. Disentanglement is high if each latent is important
for a single factor, completeness if each factor has a single important latent.
"""

import math
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import torch
from torch import Tensor

from marl.metrics.boosted_trees import boosted_tree_importances

__all__ = ["DCI", "completeness", "dci", "disentanglement", "disentanglement_of_latents"]

# Added to every importance, as in disentanglement_lib.
_EPSILON = 1e-11


class DCI(NamedTuple):
    """Scores of one model, from 0 to 1. Informativeness is the accuracy on held-out clips, averaged over factors."""

    disentanglement: float
    completeness: float
    informativeness: float


def dci(fit_ND: Tensor, fit_class_NC: Tensor, held_out_ND: Tensor, held_out_class_NC: Tensor) -> DCI:
    """Return the scores of one model, computing factors in parallel threads. Latents are without padding.

    A departure where disentanglement_lib raises: factors with a single value in the clips to fit on are ignored, and
    without other factors all scores are zero.
    """
    varied_C = (fit_class_NC != fit_class_NC[0]).any(dim=0)
    if not varied_C.any():
        return DCI(0.0, 0.0, 0.0)
    fit, held_out = fit_ND.cpu().numpy(), held_out_ND.cpu().numpy()
    fit_class_CN, held_out_class_CN = (part[:, varied_C].mT.cpu().numpy() for part in (fit_class_NC, held_out_class_NC))
    with ThreadPoolExecutor(torch.get_num_threads()) as threads:
        results = threads.map(
            lambda fit_N, held_out_N: boosted_tree_importances(fit, fit_N, held_out, held_out_N),
            fit_class_CN,
            held_out_class_CN,
        )
        importance_C, accuracy_C = zip(*results, strict=True)
    importance_KDC = torch.stack([torch.from_numpy(importance_D) for importance_D in importance_C], dim=-1)[None]
    return DCI(
        disentanglement(importance_KDC).item(),
        completeness(importance_KDC).item(),
        sum(accuracy_C) / len(accuracy_C),
    )


def disentanglement(importance_KDC: Tensor) -> Tensor:
    """Return the disentanglement of latents, averaged with their importance as weights, float64 [K].

    It is zero if all importances, which are at least zero, are zero.
    """
    weight_KD = importance_KDC.to(torch.float64).sum(dim=-1)
    total_K = (disentanglement_of_latents(importance_KDC) * weight_KD).sum(dim=-1)
    return total_K / weight_KD.sum(dim=-1).clamp_min(torch.finfo(torch.float64).tiny)


def completeness(importance_KDC: Tensor) -> Tensor:
    """Return the completeness of factors: the disentanglement with latents and factors exchanged, float64 [K]."""
    return disentanglement(importance_KDC.mT)


def disentanglement_of_latents(importance_KDC: Tensor) -> Tensor:
    """Return one minus the normalised entropy of each latent's importances for the factors, float64 [K, D].

    Zero means equal importance for all factors or for none, one means importance for a single factor. A departure where
    disentanglement_lib returns NaN: a latent that is important for the only factor scores one.
    """
    weight_KDC = importance_KDC.to(torch.float64) + _EPSILON
    probability_KDC = weight_KDC / weight_KDC.sum(dim=-1, keepdim=True)
    entropy_KD = -torch.special.xlogy(probability_KDC, probability_KDC).sum(dim=-1)
    largest = math.log(max(importance_KDC.shape[-1], 2))  # The entropy of a single importance is zero already.
    return torch.where(importance_KDC.sum(dim=-1) > 0, 1 - entropy_KD / largest, 0.0)
