"""Disentanglement, completeness and informativeness (Eastwood & Williams, ICLR 2018) as disentanglement_lib has them.

They follow from how important each latent is for telling each factor: disentanglement is high where each latent serves
a single factor, completeness where each factor is told by a single latent. Importances are those of boosted trees.

K is models, N clips, C factors, D latents.
"""

import math
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import torch
from torch import Tensor

from marl.metrics.boosted_trees import boosted_tree_importances

__all__ = ["DCI", "completeness", "completeness_of_factors", "dci", "disentanglement", "disentanglement_of_latents"]

# Added to every importance, as in disentanglement_lib.
_SMALL = 1e-11


class DCI(NamedTuple):
    """Scores of one model, each from 0 to 1."""

    disentanglement: float
    completeness: float
    informativeness: float
    """Mean over factors of the share of held-out clips whose class is told."""


def dci(fit_ND: Tensor, fit_class_NC: Tensor, held_out_ND: Tensor, held_out_class_NC: Tensor) -> DCI:
    """The scores of one model by boosted trees, factors side by side in threads.

    Where disentanglement_lib raises we differ: a factor with a single value among the clips to fit on needs no telling
    and is left out, and without any factor left all scores are zero.

    Args:
        fit_ND: latents of the clips to fit on, finite, none of them padding.
        fit_class_NC: the factors' classes, any integers.
        held_out_ND: the same latents of other clips.
        held_out_class_NC: their classes.
    """
    varied_C = (fit_class_NC != fit_class_NC[0]).any(dim=0)
    if not varied_C.any():
        return DCI(0.0, 0.0, 0.0)
    fit, held_out = fit_ND.cpu().numpy(), held_out_ND.cpu().numpy()
    fit_class_CN, held_out_class_CN = (part[:, varied_C].mT.cpu().numpy() for part in (fit_class_NC, held_out_class_NC))
    with ThreadPoolExecutor(torch.get_num_threads()) as threads:
        importance_C, told_C = zip(
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
        sum(told_C) / len(told_C),
    )


def disentanglement(importance_KDC: Tensor, mask_KD: Tensor) -> Tensor:
    """Mean over latents of how far each serves a single factor, weighted by their importance, float64 [K].

    Zero where nothing is important.

    Args:
        importance_KDC: of latents for telling factors, not negative.
        mask_KD: 1 for each latent that a model has.
    """
    return _mean(disentanglement_of_latents(importance_KDC, mask_KD), importance_KDC, mask_KD, dim=-1)


def completeness(importance_KDC: Tensor, mask_KD: Tensor) -> Tensor:
    """Mean over factors of how far each is told by a single latent, weighted by all importance for it, float64 [K].

    Zero where nothing is important.

    Args:
        importance_KDC: of latents for telling factors, not negative.
        mask_KD: 1 for each latent that a model has.
    """
    return _mean(completeness_of_factors(importance_KDC, mask_KD), importance_KDC, mask_KD, dim=-2)


def disentanglement_of_latents(importance_KDC: Tensor, mask_KD: Tensor) -> Tensor:
    """Of each latent, from 0, where it serves all factors alike or none, to 1, where a single one; float64 [K, D].

    Where disentanglement_lib gives NaN we differ: a latent that serves the only factor there is has one.
    """
    return _concentration(importance_KDC, mask_KD, dim=-1)


def completeness_of_factors(importance_KDC: Tensor, mask_KD: Tensor) -> Tensor:
    """Of each factor, from 0, where all latents tell it alike or none, to 1, where a single one does; float64 [K, C].

    Where disentanglement_lib gives NaN we differ: a factor that is told by the only latent there is has one.
    """
    return _concentration(importance_KDC, mask_KD, dim=-2)


def _concentration(importance_KDC: Tensor, mask_KD: Tensor, dim: int) -> Tensor:
    """One minus the entropy of shares along a dimension, over that of equal shares; zero where all are zero."""
    exists = mask_KD.to(torch.float64)[..., None].expand_as(importance_KDC)
    weight = (importance_KDC + _SMALL) * exists
    share = weight / weight.sum(dim=dim, keepdim=True).clamp_min(_SMALL)
    entropy = -torch.special.xlogy(share, share).sum(dim=dim)
    largest = exists.sum(dim=dim).log().clamp_min(math.log(2))  # of a single share entropy is zero already
    return torch.where((importance_KDC * exists).sum(dim=dim) > 0, 1 - entropy / largest, 0.0)


def _mean(score: Tensor, importance_KDC: Tensor, mask_KD: Tensor, dim: int) -> Tensor:
    weight = (importance_KDC.to(torch.float64) * mask_KD[..., None]).sum(dim=dim)
    return (score * weight).sum(dim=-1) / weight.sum(dim=-1).clamp_min(torch.finfo(torch.float64).tiny)
