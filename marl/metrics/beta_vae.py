"""beta-VAE score (Higgins et al., ICLR 2017) as disentanglement_lib computes it, for many models at once.

Two clips that share the class of one factor differ least in the latents of that factor. The differences of 64 such
pairs, averaged by latent, are a point; whether a linear classifier can tell from a point which factor was shared is the
score: its accuracy on 5,000 points after fitting on 10,000 others.

The library generates and encodes the clips of each point; here there is a table of clips that were encoded once, and
pairs are drawn among its rows. All models are asked about the same pairs, so that differences between models are not
those of the draw.

K is models, N clips, C factors, D latents, P points, Q points to be named, B pairs of a point.
"""

import torch
from torch import Tensor
from torch.nn.functional import embedding_bag

from marl.metrics.factor_vae import draw_clips, varied_factors
from marl.metrics.logistic import multinomial_logistic
from marl.randomness import Purpose

__all__ = ["beta_vae_score", "fixed_factor_accuracy", "mean_differences"]

_TRAINING_POINTS, _EVALUATION_POINTS = 10_000, 5_000
_PAIRS = 64
# Differences held at once: 4 MB of float32, so that they stay in a processor's cache.
_DIFFERENCES_AT_ONCE = 1 << 20


def beta_vae_score(latents_KND: Tensor, mask_KD: Tensor, classes_NC: Tensor) -> Tensor:
    """How often differences of latents tell which factor was shared, float64 [K].

    From about one over the number of factors, guessing, to one. Noise does a little better than guessing, because
    points to fit on and to name are of the same clips, and because a pair may be one clip twice, the more often the
    fewer clips a class has: of three factors with 4, 20 and 10 classes 0.34 with 3 latents and 0.37 with 16 among 2,048
    clips, 0.54 and 0.73 among 200.

    A factor with a single class would be shared by all pairs, so it is never the one to tell; of a single other factor
    all models score one. Where all latents are constant every answer is the factor that was shared most often among the
    points to fit on. Where no factor varies all models score zero.

    Args:
        latents_KND: latents of the same clips by each model, finite.
        mask_KD: one for each latent that a model has, zero for padding.
        classes_NC: class of each clip by factor, any integers.
    """
    varied_NC = varied_factors(classes_NC)
    factors = varied_NC.shape[1]
    if not factors:
        return latents_KND.new_zeros(len(latents_KND), dtype=torch.float64)
    shared_P, pair_PB2 = draw_clips(varied_NC, _TRAINING_POINTS + _EVALUATION_POINTS, _PAIRS, 2, Purpose.BETA_VAE_BATCH)
    point_KPD = mean_differences(latents_KND * mask_KD[:, None], pair_PB2)
    sizes = [_TRAINING_POINTS, _EVALUATION_POINTS]
    (fit_KPD, held_out_KQD), (fit_P, held_out_Q) = point_KPD.split(sizes, dim=1), shared_P.split(sizes)
    return fixed_factor_accuracy(fit_KPD, fit_P, held_out_KQD, held_out_Q, factors)


def mean_differences(latents_KND: Tensor, pair_PB2: Tensor) -> Tensor:
    """Mean over the pairs of each point of how far their latents are apart, float64 [K, P, D].

    Args:
        latents_KND: latents of the same clips by each model; differences are taken in their precision.
        pair_PB2: the two clips of each pair of each point.
    """
    models, clips, latents = latents_KND.shape
    points, pairs, _ = pair_PB2.shape
    row_NE = latents_KND.transpose(0, 1).reshape(clips, -1)
    points_at_once = max(1, _DIFFERENCES_AT_ONCE // (pairs * row_NE.shape[1]))
    chunks = []
    for chunk in pair_PB2.split(points_at_once):
        both = chunk.flatten(0, 1)
        # A sum weighted by 1 and -1 is the difference, without copies of both rows.
        sign = row_NE.new_tensor([1.0, -1.0]).repeat(len(both), 1)
        difference = embedding_bag(both, row_NE, mode="sum", per_sample_weights=sign).abs_()
        # A bag is summed in the same order however wide its rows, so that a model's points are its own.
        place_PB = torch.arange(len(both), device=both.device).view(-1, pairs)
        chunks.append(embedding_bag(place_PB, difference, mode="mean"))
    return torch.cat(chunks).to(torch.float64).view(points, models, latents).transpose(0, 1)


def fixed_factor_accuracy(
    fit_KPD: Tensor, fit_factor_P: Tensor, held_out_KQD: Tensor, held_out_factor_Q: Tensor, factors: int
) -> Tensor:
    """Share of held-out points whose factor a logistic regression names, float64 [K].

    Args:
        fit_KPD: points of each model to fit on.
        fit_factor_P: the factor that was shared in each.
        held_out_KQD: other points.
        held_out_factor_Q: their factors.
        factors: how many there are.
    """
    weight_KCD, intercept_KC1 = multinomial_logistic(fit_KPD, fit_factor_P, factors)
    named_KQ = (weight_KCD @ held_out_KQD.mT + intercept_KC1).argmax(dim=1)
    return (named_KQ == held_out_factor_Q).to(torch.float64).mean(dim=1)
