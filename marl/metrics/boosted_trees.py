"""Which latents gradient boosted trees use to tell a factor, and how well they tell it, on one processor.

The classifier of the DCI scores (Eastwood & Williams, ICLR 2018): scikit-learn's `GradientBoostingClassifier()` as it
comes, 100 stages of a tree of depth 3 for each class (Friedman, "Greedy function approximation", 2001), computed to the
same splits in a fraction of the time. Trees of libraries that are fast choose and weigh splits by second derivatives,
which makes other importances; and bins in place of all thresholds make them too small for latents that tell little.

N clips, D latents, K classes, S stages.
"""

import numpy as np
import torch
from numpy.typing import NDArray

from marl import randomness
from marl.metrics.regression_tree import add_tree, sort_latents
from marl.randomness import Purpose

__all__ = ["boosted_tree_importances"]

_STAGES = 100
_RATE = 0.1


def boosted_tree_importances(
    fit_ND: NDArray[np.floating],
    fit_class_N: NDArray[np.integer],
    held_out_ND: NDArray[np.floating],
    held_out_class_N: NDArray[np.integer],
) -> tuple[NDArray[np.float64], float]:
    """How much each latent helps to tell a factor, [D], of sum one; and the share of held-out clips that are told.

    The importance of a latent is by how much splits at its values reduce the squared error of all trees. Which of
    several splits of the same gain is taken scikit-learn draws at random. So do we, from a hash of stage, class and
    latent: always taking the first latent would make it more important than its equals.

    Without any split, as when all latents are constant, importances are zero and the answer is the most frequent class.
    So they are for a factor of a single value, where scikit-learn raises: it is known without looking.

    Args:
        fit_ND: latents of the clips to fit on, finite.
        fit_class_N: their class, any integers; one that only held-out clips have is never told.
        held_out_ND: the same latents of other clips.
        held_out_class_N: their class.
    """
    class_K, class_N, count_K = np.unique(fit_class_N, return_inverse=True, return_counts=True)
    clips, latents, classes = *fit_ND.shape, len(class_K)
    fit, held_out_DN = sort_latents(fit_ND), np.ascontiguousarray(held_out_ND.T, dtype=np.float32)
    importance_D = np.zeros(latents)
    share_K1 = (count_K / clips)[:, None]
    output_KN, held_out_output_KN = (np.repeat(np.log(share_K1), many, axis=1) for many in (clips, len(held_out_ND)))
    is_class_KN = class_N == np.arange(classes)[:, None]
    rate = _RATE * (classes - 1) / classes
    for precedence_KD in _precedence(classes, latents):
        odds_KN = np.exp(output_KN - output_KN.max(axis=0))
        residual_KN = is_class_KN - odds_KN / odds_KN.sum(axis=0)
        for residual_N, precedence_D, output_N, held_out_output_N in zip(
            residual_KN, precedence_KD, output_KN, held_out_output_KN, strict=True
        ):
            add_tree(fit, residual_N, rate, precedence_D, output_N, held_out_DN, held_out_output_N, importance_D)
    accuracy = float(np.mean(class_K[held_out_output_KN.argmax(axis=0)] == held_out_class_N))
    return importance_D / (importance_D.sum() or 1.0), accuracy


def _precedence(classes: int, latents: int) -> NDArray[np.int64]:
    """Numbers of which the smaller decides between latents of the same gain, [S, K, D]."""
    stage_S = torch.arange(_STAGES)
    state_S = randomness.stream(torch.zeros_like(stage_S), stage_S, Purpose.TREE_TIES)
    return randomness.bits(state_S, torch.arange(classes), torch.arange(latents)).numpy()
