"""Disentanglement, completeness and informativeness (Eastwood & Williams, ICLR 2018) as in disentanglement_lib.

They follow from the importance of each latent for each factor, by boosted trees: disentanglement is high if each latent
is important for a single factor, completeness if each factor has a single important latent.
"""

import math
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import torch
from torch import Tensor

from marl.metrics.boosted_trees import boosted_tree_importances

__all__ = ["DCI", "completeness", "completeness_of_factors", "dci", "disentanglement", "disentanglement_of_latents"]

# Added to every importance, as in disentanglement_lib.
_EPSILON = 1e-11


class DCI(NamedTuple):
    """Scores of one model, from 0 to 1.

    Attributes:
        disentanglement: Disentanglement.
        completeness: Completeness.
        informativeness: Fraction of held-out clips whose class is predicted, averaged over factors.
    """

    disentanglement: float
    completeness: float
    informativeness: float


def dci(fit_ND: Tensor, fit_class_NC: Tensor, held_out_ND: Tensor, held_out_class_NC: Tensor) -> DCI:
    """Return the scores of one model by boosted trees, computing factors in parallel threads.

    A departure where disentanglement_lib raises: factors with a single value among the fitting clips are ignored, and
    without other factors all scores are zero.

    Args:
        fit_ND: Latents of the clips to fit on, finite and without padding.
        fit_class_NC: Classes of these clips by factor, any integers.
        held_out_ND: The same latents of other clips.
        held_out_class_NC: Classes of the other clips.
    """
    varied_C = (fit_class_NC != fit_class_NC[0]).any(dim=0)
    if not varied_C.any():
        return DCI(0.0, 0.0, 0.0)
    fit, held_out = fit_ND.cpu().numpy(), held_out_ND.cpu().numpy()
    fit_class_CN, held_out_class_CN = (part[:, varied_C].mT.cpu().numpy() for part in (fit_class_NC, held_out_class_NC))
    with ThreadPoolExecutor(torch.get_num_threads()) as threads:
        importance_C, accuracy_C = zip(
            *threads.map(
                lambda fit_class_N, held_out_class_N: boosted_tree_importances(
                    fit, fit_class_N, held_out, held_out_class_N
                ),
                fit_class_CN,
                held_out_class_CN,
            ),
            strict=True,
        )
    importance_KDC = torch.stack([torch.from_numpy(importance_D) for importance_D in importance_C], dim=-1)[None]
    mask_KD = torch.ones(importance_KDC.shape[:2])
    return DCI(
        disentanglement(importance_KDC, mask_KD).item(),
        completeness(importance_KDC, mask_KD).item(),
        sum(accuracy_C) / len(accuracy_C),
    )


def disentanglement(importance_KDC: Tensor, mask_KD: Tensor) -> Tensor:
    """Return the disentanglement of latents, averaged with their importance as weights, float64 [K].

    Zero if all importances are zero.

    Args:
        importance_KDC: Importances of latents for factors, at least zero.
        mask_KD: One for each latent of a model, zero for padding.
    """
    return _weighted_mean(disentanglement_of_latents(importance_KDC, mask_KD), importance_KDC, mask_KD, dim=-1)


def completeness(importance_KDC: Tensor, mask_KD: Tensor) -> Tensor:
    """Return the completeness of factors, averaged with the sum of importances for them as weights, float64 [K].

    Zero if all importances are zero.

    Args:
        importance_KDC: Importances of latents for factors, at least zero.
        mask_KD: One for each latent of a model, zero for padding.
    """
    return _weighted_mean(completeness_of_factors(importance_KDC, mask_KD), importance_KDC, mask_KD, dim=-2)


def disentanglement_of_latents(importance_KDC: Tensor, mask_KD: Tensor) -> Tensor:
    """Return the disentanglement of each latent, float64 [K, D].

    Zero means equal importance for all factors or for none, one means importance for a single factor. A departure where
    disentanglement_lib returns NaN: a latent that is important for the only factor scores one.
    """
    return _concentration(importance_KDC, mask_KD, dim=-1)


def completeness_of_factors(importance_KDC: Tensor, mask_KD: Tensor) -> Tensor:
    """Return the completeness of each factor, float64 [K, C].

    Zero means that all latents are equally important or none is, one means that a single latent is important. A
    departure where disentanglement_lib returns NaN: a factor for which the only latent is important scores one.
    """
    return _concentration(importance_KDC, mask_KD, dim=-2)


def _concentration(importance_KDC: Tensor, mask_KD: Tensor, dim: int) -> Tensor:
    """Return one minus the normalised entropy of importances along a dimension; zero where all of them are zero."""
    exists = mask_KD.to(torch.float64)[..., None].expand_as(importance_KDC)
    weight = (importance_KDC + _EPSILON) * exists
    probability = weight / weight.sum(dim=dim, keepdim=True).clamp_min(_EPSILON)
    entropy = -torch.special.xlogy(probability, probability).sum(dim=dim)
    largest = exists.sum(dim=dim).log().clamp_min(math.log(2))  # The entropy of a single importance is zero already.
    return torch.where((importance_KDC * exists).sum(dim=dim) > 0, 1 - entropy / largest, 0.0)


def _weighted_mean(score: Tensor, importance_KDC: Tensor, mask_KD: Tensor, dim: int) -> Tensor:
    weight = (importance_KDC.to(torch.float64) * mask_KD[..., None]).sum(dim=dim)
    return (score * weight).sum(dim=-1) / weight.sum(dim=-1).clamp_min(torch.finfo(torch.float64).tiny)
