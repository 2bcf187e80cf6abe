"""FactorVAE score (Kim and Mnih, ICML 2018) as disentanglement_lib computes it, for many models at once.

In a batch of clips that share the class of one factor, a latent of that factor's own varies least. Whether one can
tell from the latent that varies least which factor was held fixed is the score: the accuracy, on 5,000 batches of 64
clips, of the majority vote of 10,000 others.

The library generates and encodes the clips of each batch; here there is a table of clips that were encoded once,
batches are drawn among its rows, with replacement, and the variance of a latent in general is that over the whole
table, not over 10,000 draws. All models are asked about the same batches, so that models do not differ by the draw.

K is models, N clips, C factors, D latents, V votes, B clips of a batch; of draws P is how many, G groups of clips that
share a class, M clips of a group; T is the classes of all factors side by side.
"""

import torch
from torch import Tensor
from torch.nn.functional import embedding_bag

from marl import randomness
from marl.randomness import Purpose

__all__ = [
    "active_latents",
    "draw_clips",
    "factor_vae_score",
    "least_varied_latents",
    "majority_accuracy",
    "varied_factors",
    "vote_counts",
]

_TRAINING_VOTES, _EVALUATION_VOTES = 10_000, 5_000
_BATCH = 64
# Sums of so many votes at once: 2 MB for 16 models of 16 latents.
_VOTES_AT_ONCE = 512
# Squares of standardised latents add up to less only by rounding, and then no latent varies less than another.
_ROUNDING = 1e-12


def factor_vae_score(latents_KND: Tensor, mask_KD: Tensor, classes_NC: Tensor, threshold: float = 0.05) -> Tensor:
    """How often the latent that varies least tells which factor was held fixed, float64 [K].

    From about one over the number of factors, guessing, to one. Noise does a little better than guessing, because
    training and evaluation batches are of the same clips, the more so the fewer clips a class has: of three factors
    with 4, 20 and 10 classes 0.35 with 3 latents and 0.38 with 16 among 2,048 clips, 0.39 and 0.55 among 200.

    A factor with a single class would be fixed in every batch, so it is never the one to tell; of a single other factor
    all models with an active latent score one. As in the library a model without an active latent scores zero. So do
    all models where no factor varies.

    Args:
        latents_KND: latents of the same clips by each model, finite.
        mask_KD: one for each latent that a model has, zero for padding.
        classes_NC: class of each clip by factor, any integers.
        threshold: latents with a smaller standard deviation do not vote.
    """
    varied_NC = varied_factors(classes_NC)
    factors = varied_NC.shape[1]
    if not factors:
        return latents_KND.new_zeros(len(latents_KND), dtype=torch.float64)
    fixed_V, batch_V1B = draw_clips(varied_NC, _TRAINING_VOTES + _EVALUATION_VOTES, 1, _BATCH, Purpose.FACTOR_VAE_BATCH)
    variance_KD = latents_KND.to(torch.float64).var(dim=1)
    active_KD = active_latents(variance_KD, mask_KD, threshold)
    latent_KV = least_varied_latents(latents_KND, variance_KD, active_KD, batch_V1B.squeeze(1))
    sizes = [_TRAINING_VOTES, _EVALUATION_VOTES]
    training_KDC, evaluation_KDC = (
        vote_counts(latent, fixed, latents_KND.shape[-1], factors)
        for latent, fixed in zip(latent_KV.split(sizes, dim=1), fixed_V.split(sizes), strict=True)
    )
    return majority_accuracy(training_KDC, evaluation_KDC) * active_KD.any(dim=1)


def active_latents(variance_KD: Tensor, mask_KD: Tensor, threshold: float) -> Tensor:
    """Which latents of each model vote, bool [K, D]."""
    return (variance_KD.sqrt() >= threshold) & (mask_KD > 0)


def least_varied_latents(latents_KND: Tensor, variance_KD: Tensor, active_KD: Tensor, batch_VB: Tensor) -> Tensor:
    """The latent that varies least in each batch, relative to how it varies in general, int64 [K, V].

    Of several that do not vary in a batch the first is taken. A latent that never varies is one of these, if it is
    active at all; the library has NaN there, which counts as smallest. Without an active latent it is the first latent.

    Args:
        latents_KND: latents of the same clips by each model.
        variance_KD: variance of each latent in general.
        active_KD: which latents vote.
        batch_VB: clips of each batch.
    """
    models, clips, latents = latents_KND.shape
    values = latents_KND.to(torch.float64)
    scale_KD = torch.where(variance_KD > 0, variance_KD.rsqrt(), 0.0)
    standard_NE = ((values - values.mean(dim=1, keepdim=True)) * scale_KD[:, None]).transpose(0, 1).reshape(clips, -1)
    # Sums over the rows of a batch, without a copy of these rows.
    moments_N2E = torch.cat([standard_NE, standard_NE.square()], dim=1)
    size = batch_VB.shape[1]
    chunks = []
    for batch in batch_VB.split(_VOTES_AT_ONCE):
        first, second = embedding_bag(batch, moments_N2E, mode="sum").chunk(2, dim=1)
        spread_VKD = (second - first.square() / size).view(-1, models, latents).clamp_min(_ROUNDING)
        chunks.append(spread_VKD.masked_fill(~active_KD, torch.inf).argmin(dim=-1).mT)
    return torch.cat(chunks, dim=1)


def vote_counts(latent_KV: Tensor, fixed_V: Tensor, latents: int, factors: int) -> Tensor:
    """How often each latent varied least while each factor was fixed, int64 [K, D, C]."""
    cell_KV = latent_KV * factors + fixed_V
    counts = cell_KV.new_zeros(len(cell_KV), latents * factors)
    return counts.scatter_add_(1, cell_KV, torch.ones_like(cell_KV)).view(-1, latents, factors)


def majority_accuracy(training_KDC: Tensor, evaluation_KDC: Tensor) -> Tensor:
    """Share of evaluation votes for the factor that most training votes of the same latent were for, float64 [K].

    Of several the first factor; a latent without training votes is taken for the first factor's, as in the library.
    """
    factor_KD1 = training_KDC.argmax(dim=-1, keepdim=True)
    right_K = evaluation_KDC.gather(-1, factor_KD1).sum(dim=(1, 2))
    return right_K.to(torch.float64) / evaluation_KDC.sum(dim=(1, 2))


def varied_factors(classes_NC: Tensor) -> Tensor:
    """Classes of the factors that have more than one, [N, how many]."""
    return classes_NC[:, (classes_NC != classes_NC[:1]).any(dim=0)]


def draw_clips(classes_NC: Tensor, draws: int, groups: int, clips: int, purpose: Purpose) -> tuple[Tensor, Tensor]:
    """Groups of clips that agree in a factor, the same on every device.

    For each draw a factor, for each of its groups a class of that factor, and for each place in the group a clip of
    that class; each uniformly among those there are, so a clip may come twice.

    Args:
        classes_NC: class of each clip by factor, any integers, two or more of each factor.
        draws: how many.
        groups: of each draw; each has a class of its own.
        clips: in each group.
        purpose: what is drawn for.

    Returns:
        The factor of each draw, int64 [P], and the clips, int64 [P, G, M].
    """
    orders, counts = [], []
    for column in classes_NC.unbind(dim=1):
        _, label_N, count = column.unique(return_inverse=True, return_counts=True)
        orders.append(label_N.argsort(stable=True))
        counts.append(count)
    # Clips by class, factor after factor; counts of each factor add up to N, so this is where each class begins.
    order, count_T = torch.cat(orders), torch.cat(counts)
    begin_T = count_T.cumsum(dim=0) - count_T
    classes_C = torch.tensor([len(count) for count in counts], device=order.device)
    first_class_C = classes_C.cumsum(dim=0) - classes_C

    draw_P, group_G = torch.arange(draws, device=order.device), torch.arange(groups, device=order.device)
    place_M, zero = torch.arange(clips, device=order.device), torch.zeros(1, dtype=torch.int64, device=order.device)
    factor_state, class_state, clip_state = (
        randomness.stream(torch.zeros_like(draw_P), draw_P, purpose, part) for part in range(3)
    )
    fixed_P = randomness.integers(factor_state, zero, zero, len(counts)).flatten()
    class_PG1 = randomness.integers(class_state, group_G, zero, classes_C[fixed_P, None, None])
    class_PG1 = class_PG1 + first_class_C[fixed_P, None, None]
    clip_PGM = randomness.integers(clip_state, group_G, place_M, count_T[class_PG1])
    return fixed_P, order[begin_T[class_PG1] + clip_PGM]
