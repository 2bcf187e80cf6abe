"""Beta-VAE score (Higgins et al., ICLR 2017) as in disentanglement_lib, for many models at once.

Two clips that share the class of a factor differ least in the latents of that factor. The absolute differences of 64
such pairs, averaged by latent, are a point. The score is the accuracy with which logistic regression predicts from a
point which factor was shared: on 5,000 points, after fitting on 10,000 others.

A departure from disentanglement_lib, which generates and encodes the clips of each point: pairs are drawn among clips
that are encoded once. All models are scored on the same pairs, so that models do not differ by the draw.

P is points to fit on, Q points to predict, B pairs of a point, M numbers of a clip: latents of all models.
"""

from concurrent.futures import ThreadPoolExecutor

import torch
from threadpoolctl import threadpool_limits
from torch import Tensor
from torch.nn.functional import embedding_bag

from marl.metrics.factor_vae import draw_clips, varied_factors
from marl.randomness import Purpose

__all__ = ["beta_vae_score", "fixed_factor_accuracy", "mean_differences"]

_FIT_POINTS, _HELD_OUT_POINTS = 10_000, 5_000
_PAIRS = 64
# Chunk size of differences: 4 MB of float32, which stay in the cache of a processor.
_MAX_DIFFERENCES = 1 << 20


def beta_vae_score(latents_KND: Tensor, mask_KD: Tensor, classes_NC: Tensor) -> Tensor:
    """Return the accuracy of predicting the shared factor from differences of latents, float64 [K].

    It ranges from about one over the number of factors, for guessing, to one. Noise scores a little above guessing,
    because points to fit on and held-out points use the same clips, and because a pair may be one clip twice, more
    often so with fewer clips a class. With three factors of 4, 20 and 10 classes, noise scores 0.34 with 3 latents and
    0.37 with 16 among 2,048 clips, 0.54 and 0.73 among 200.

    A factor with a single class is shared by all pairs and therefore ignored. With one other factor, all models score
    one; with none, zero. If all latents are constant, the prediction is the most frequent factor.
    """
    varied_NC = varied_factors(classes_NC)
    if not varied_NC.shape[1]:
        return latents_KND.new_zeros(len(latents_KND), dtype=torch.float64)
    shared_P, pair_PB2 = draw_clips(varied_NC, _FIT_POINTS + _HELD_OUT_POINTS, _PAIRS, 2, Purpose.BETA_VAE_BATCH)
    point_KPD = mean_differences(latents_KND * mask_KD[:, None], pair_PB2)
    sizes = [_FIT_POINTS, _HELD_OUT_POINTS]
    (fit_KPD, held_out_KQD), (fit_P, held_out_Q) = point_KPD.split(sizes, dim=1), shared_P.split(sizes)
    return fixed_factor_accuracy(fit_KPD, fit_P, held_out_KQD, held_out_Q)


def mean_differences(latents_KND: Tensor, pair_PB2: Tensor) -> Tensor:
    """Return absolute differences of the latents of pairs, averaged over the pairs of each point, float64 [K, P, D].

    Differences are computed in the type of the latents.
    """
    models, clips, latents = latents_KND.shape
    points, pairs, _ = pair_PB2.shape
    row_NM = latents_KND.transpose(0, 1).reshape(clips, -1)
    points_at_once = max(1, _MAX_DIFFERENCES // (pairs * row_NM.shape[1]))
    chunks = []
    for chunk in pair_PB2.split(points_at_once):
        both = chunk.flatten(0, 1)
        # A sum with weights 1 and -1 is the difference, without copies of both rows.
        sign = row_NM.new_tensor([1.0, -1.0]).repeat(len(both), 1)
        difference = embedding_bag(both, row_NM, mode="sum", per_sample_weights=sign).abs_()
        # A bag adds up in the same order at any width, so a model's points do not depend on the other models.
        row_PB = torch.arange(len(both), device=both.device).view(-1, pairs)
        chunks.append(embedding_bag(row_PB, difference, mode="mean"))
    return torch.cat(chunks).to(torch.float64).view(points, models, latents).transpose(0, 1)


def fixed_factor_accuracy(
    fit_KPD: Tensor, fit_factor_P: Tensor, held_out_KQD: Tensor, held_out_factor_Q: Tensor
) -> Tensor:
    """Return the fraction of held-out points whose factor a logistic regression predicts, float64 [K].

    The regression is solved to convergence, which that of disentanglement_lib is not.
    """
    from sklearn.linear_model import LogisticRegression  # Takes a second to import, see `marl.metrics.sap`.

    fit, fit_factor, held_out, held_out_factor = (
        tensor.cpu().numpy() for tensor in (fit_KPD, fit_factor_P, held_out_KQD, held_out_factor_Q)
    )

    def accuracy(model: int) -> float:
        if (fit_factor == fit_factor[0]).all():
            return float((held_out_factor == fit_factor[0]).mean())
        regression = LogisticRegression(solver="newton-cholesky").fit(fit[model], fit_factor)
        return float(regression.score(held_out[model], held_out_factor))

    # With more BLAS threads than processors, threads wait for one another. The limit holds for libraries loaded before.
    with threadpool_limits(1, "blas"), ThreadPoolExecutor(torch.get_num_threads()) as threads:
        return torch.tensor(list(threads.map(accuracy, range(len(fit)))), dtype=torch.float64, device=fit_KPD.device)
