"""FactorVAE score (Kim and Mnih, ICML 2018) as in disentanglement_lib, for many models at once.

In a batch of clips that share the class of a factor, the latent of that factor varies least. Each batch is a vote: the
latent that varies least, for the factor that was fixed. The score is the accuracy, on 5,000 batches of 64 clips, of
predicting the fixed factor from the latent by the majority of 10,000 other votes.

Departures from disentanglement_lib, which generates and encodes the clips of each batch: batches are drawn, with
replacement, among clips that are encoded once, and the variance of a latent in general is that over all clips, not over
10,000 draws. All models are scored on the same batches, so that models do not differ by the draw.

P is draws: votes or points; G groups of clips that share a class, B clips of a group, M numbers of a clip: latents of
all models.
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
# Chunk size of votes: 2 MB of sums for 16 models of 16 latents.
_CHUNK = 512
# Sums of squares of standardised latents below this are rounding, and no latent varies less than another.
_ROUNDING = 1e-12


def factor_vae_score(latents_KND: Tensor, mask_KD: Tensor, classes_NC: Tensor, threshold: float = 0.05) -> Tensor:
    """Return the accuracy of predicting the fixed factor from the latent that varies least, float64 [K].

    It ranges from about one over the number of factors, for guessing, to one. Noise scores a little above guessing,
    because training and evaluation batches use the same clips, more so with fewer clips a class. With three factors of
    4, 20 and 10 classes, noise scores 0.35 with 3 latents and 0.38 with 16 among 2,048 clips, 0.39 and 0.55 among 200.

    A factor with a single class is fixed in every batch and therefore ignored. With one other factor, all models with
    an active latent score one; with none, zero. As in disentanglement_lib, a latent whose standard deviation is below
    the threshold is not active and does not vote, and a model without an active latent scores zero.
    """
    varied_NC = varied_factors(classes_NC)
    factors = varied_NC.shape[1]
    if not factors:
        return latents_KND.new_zeros(len(latents_KND), dtype=torch.float64)
    fixed_P, batch_P1B = draw_clips(varied_NC, _TRAINING_VOTES + _EVALUATION_VOTES, 1, _BATCH, Purpose.FACTOR_VAE_BATCH)
    variance_KD = latents_KND.to(torch.float64).var(dim=1)
    active_KD = active_latents(variance_KD, mask_KD, threshold)
    latent_KP = least_varied_latents(latents_KND, variance_KD, active_KD, batch_P1B.squeeze(1))
    sizes = [_TRAINING_VOTES, _EVALUATION_VOTES]
    training_KDC, evaluation_KDC = (
        vote_counts(latent, fixed, latents_KND.shape[-1], factors)
        for latent, fixed in zip(latent_KP.split(sizes, dim=1), fixed_P.split(sizes), strict=True)
    )
    return majority_accuracy(training_KDC, evaluation_KDC) * active_KD.any(dim=1)


def active_latents(variance_KD: Tensor, mask_KD: Tensor, threshold: float) -> Tensor:
    """Return which latents of each model vote, bool [K, D]."""
    return (variance_KD.sqrt() >= threshold) & (mask_KD > 0)


def least_varied_latents(latents_KND: Tensor, variance_KD: Tensor, active_KD: Tensor, batch_PB: Tensor) -> Tensor:
    """Return the latent that varies least in each batch, relative to its variance over all clips, int64 [K, P].

    If several do not vary, it is the first of them. A latent that never varies is one of these if it is active;
    disentanglement_lib has NaN there, which counts as smallest. Without an active latent it is the first latent.

    Args:
        latents_KND: Latents of the same clips by each model.
        variance_KD: Variance of each latent over all clips.
        active_KD: Which latents vote.
        batch_PB: Clips of each batch.
    """
    models, clips, latents = latents_KND.shape
    values = latents_KND.to(torch.float64)
    scale_KD = torch.where(variance_KD > 0, variance_KD.rsqrt(), 0.0)
    standard_NM = ((values - values.mean(dim=1, keepdim=True)) * scale_KD[:, None]).transpose(0, 1).reshape(clips, -1)
    # A bag adds up the rows of a batch without copying them.
    moments_N2M = torch.cat([standard_NM, standard_NM.square()], dim=1)
    size = batch_PB.shape[1]
    chunks = []
    for batch in batch_PB.split(_CHUNK):
        first, second = embedding_bag(batch, moments_N2M, mode="sum").chunk(2, dim=1)
        spread_PKD = (second - first.square() / size).view(-1, models, latents).clamp_min(_ROUNDING)
        chunks.append(spread_PKD.masked_fill(~active_KD, torch.inf).argmin(dim=-1).mT)
    return torch.cat(chunks, dim=1)


def vote_counts(latent_KP: Tensor, fixed_P: Tensor, latents: int, factors: int) -> Tensor:
    """Return the number of votes of each latent for each factor, int64 [K, D, C]."""
    cell_KP = latent_KP * factors + fixed_P
    counts = cell_KP.new_zeros(len(cell_KP), latents * factors)
    return counts.scatter_add_(1, cell_KP, torch.ones_like(cell_KP)).view(-1, latents, factors)


def majority_accuracy(training_KDC: Tensor, evaluation_KDC: Tensor) -> Tensor:
    """Return the fraction of evaluation votes for the factor with most training votes of the same latent, float64 [K].

    Ties, and latents without training votes, count for the first of the factors, as in disentanglement_lib.
    """
    factor_KD1 = training_KDC.argmax(dim=-1, keepdim=True)
    right_K = evaluation_KDC.gather(-1, factor_KD1).sum(dim=(1, 2))
    return right_K.to(torch.float64) / evaluation_KDC.sum(dim=(1, 2))


def varied_factors(classes_NC: Tensor) -> Tensor:
    """Return the classes of the factors that have more than one, [N, number of such factors]."""
    return classes_NC[:, (classes_NC != classes_NC[:1]).any(dim=0)]


def draw_clips(classes_NC: Tensor, draws: int, groups: int, clips: int, purpose: Purpose) -> tuple[Tensor, Tensor]:
    """Draw groups of clips that share the class of a factor, the same on every device.

    For each draw a factor is drawn, for each group a class of that factor, and clips of that class, all uniformly and
    with replacement. Each factor has two classes or more.

    Args:
        classes_NC: Class of each clip by factor.
        draws: Number of draws.
        groups: Number of groups of each draw.
        clips: Number of clips of each group.
        purpose: Purpose of the random numbers.

    Returns:
        The factor of each draw, int64 [P], and the clips, int64 [P, G, B].
    """
    orders, counts = [], []
    for column in classes_NC.unbind(dim=1):
        _, label_N, count = column.unique(return_inverse=True, return_counts=True)
        orders.append(label_N.argsort(stable=True))
        counts.append(count)
    # Classes of all factors are concatenated. Counts of each factor add up to N, so the cumulative sum is the position
    # at which the clips of each class begin.
    order, count_Y = torch.cat(orders), torch.cat(counts)
    begin_Y = count_Y.cumsum(dim=0) - count_Y
    classes_C = torch.tensor([len(count) for count in counts], device=order.device)
    first_class_C = classes_C.cumsum(dim=0) - classes_C

    draw_P, group_G = torch.arange(draws, device=order.device), torch.arange(groups, device=order.device)
    place_B, zero = torch.arange(clips, device=order.device), torch.zeros(1, dtype=torch.int64, device=order.device)
    factor_state, class_state, clip_state = (
        randomness.stream(torch.zeros_like(draw_P), draw_P, purpose, part) for part in range(3)
    )
    fixed_P = randomness.integers(factor_state, zero, zero, len(counts)).flatten()
    class_PG1 = randomness.integers(class_state, group_G, zero, classes_C[fixed_P, None, None])
    class_PG1 = class_PG1 + first_class_C[fixed_P, None, None]
    clip_PGB = randomness.integers(clip_state, group_G, place_B, count_Y[class_PG1])
    return fixed_P, order[begin_Y[class_PG1] + clip_PGB]
