"""Separated attribute predictability (Kumar et al., ICLR 2018) as disentanglement_lib computes it for classes.

The score is how much better the best single latent predicts a factor than the second best. A prediction is that of a
linear support vector machine on the latent alone: `LinearSVC(C=0.01, class_weight="balanced")` of scikit-learn. Unlike
disentanglement_lib, it is solved to convergence, so that results do not depend on the solver's random order.
"""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import pad

__all__ = ["sap_accuracies", "sap_gap"]

_TOLERANCE = 1e-6


def sap_gap(accuracy_KDC: Tensor, mask_KD: Tensor, chance_C: Tensor) -> Tensor:
    """Return the mean over factors of the gap in accuracy between the best and the second best single latent, [K].

    Departures where disentanglement_lib raises: factors with a single value are ignored; a single latent is compared
    with chance; without latents or varied factors the gap is zero.

    Args:
        accuracy_KDC: Accuracies, from `sap_accuracies`.
        mask_KD: One for each latent of a model, zero for padding.
        chance_C: Accuracy without latents, which is one for a factor with a single value.
    """
    varied_C = chance_C < 1
    unpadded_KDC = accuracy_KDC.masked_fill(mask_KD[..., None] == 0, -torch.inf)
    best_KC, second_KC = pad(unpadded_KDC, (0, 0, 0, 2), value=-torch.inf).topk(2, dim=1).values.unbind(dim=1)
    second_KC = torch.where(second_KC.isfinite(), second_KC, chance_C)
    gap_KC = torch.where(varied_C, (best_KC - second_KC).clamp_min(0.0), 0.0)
    return gap_KC.sum(dim=-1) / varied_C.sum().clamp_min(1)


def sap_accuracies(fit_KND: Tensor, fit_class_NC: Tensor, held_out_KND: Tensor, held_out_class_NC: Tensor) -> Tensor:
    """Return the accuracy on held-out clips of each latent alone, float64 [K, D, C].

    A constant latent predicts the most frequent class of the clips to fit on, or either of two classes, because weights
    of classes are balanced. A departure where disentanglement_lib raises: if a factor has a single value in these
    clips, that value is predicted.
    """
    fit_NM, held_out_NM = (
        part.to("cpu", torch.float64).movedim(1, 0).flatten(1).numpy() for part in (fit_KND, held_out_KND)
    )
    fit_class_CN, held_out_class_CN = (part.mT.cpu().numpy() for part in (fit_class_NC, held_out_class_NC))

    def accuracies(latent: int) -> list[float]:
        fit_N1, held_out_N1 = fit_NM[:, latent, None], held_out_NM[:, latent, None]
        classes = zip(fit_class_CN, held_out_class_CN, strict=True)
        return [_accuracy(fit_N1, fit_N, held_out_N1, held_out_N) for fit_N, held_out_N in classes]

    with ThreadPoolExecutor(torch.get_num_threads()) as threads:
        accuracy_MC = list(threads.map(accuracies, range(fit_NM.shape[1])))
    shape = (len(fit_KND), fit_KND.shape[2], len(fit_class_CN))
    return torch.tensor(accuracy_MC, dtype=torch.float64, device=fit_KND.device).view(shape)


def _accuracy(
    fit_N1: NDArray[np.float64],
    fit_class_N: NDArray[np.integer],
    held_out_N1: NDArray[np.float64],
    held_out_class_N: NDArray[np.integer],
) -> float:
    from sklearn.svm import LinearSVC  # Takes a second to import, and checking a spec imports this module.

    if (fit_class_N == fit_class_N[0]).all():
        return float(np.mean(held_out_class_N == fit_class_N[0]))
    machine = LinearSVC(C=0.01, class_weight="balanced", dual=False, tol=_TOLERANCE, random_state=0)
    return float(machine.fit(fit_N1, fit_class_N).score(held_out_N1, held_out_class_N))
