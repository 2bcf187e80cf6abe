"""DCIMIG (Sepliarskaia, Kiseleva and de Rijke, "Evaluating disentangled representations", 2019).

As in the library of Zaidi et al. ("Measuring disentanglement: a review of metrics", 2020;
ubisoft-laforge-DisentanglementMetrics).

K is models, C factors, D latents.
"""

from torch import Tensor
from torch.nn.functional import pad

__all__ = ["dcimig"]


def dcimig(information_KDC: Tensor, entropy_C: Tensor) -> Tensor:
    """What the best latent of each factor tells of it and of no other factor, over the entropy of all factors. [K].

    The gap of a latent is between the two factors that it tells most of, and is to the credit of the first; each factor
    has the largest credit of one latent. From 0 to 1, which is a latent for each factor that tells all of it and
    nothing of others; what else latents tell does not count.

    A factor with a single value adds nothing. Where the library raises or gives NaN we differ: a single factor has no
    rival, and without latents or factors of several values the score is zero.

    Args:
        information_KDC: mutual information of latents and factors; rows of zeros for latents that a model has not.
        entropy_C: entropy of each factor, in the same unit.
    """
    # Two factors of which nothing is told change no gap, and there are always two to compare.
    best_KD, second_KD = pad(information_KDC, (0, 2)).topk(2, dim=-1).values.unbind(dim=-1)
    # Where two factors are the best their gap is zero, so that it does not matter which has it.
    is_best_KDC = information_KDC == best_KD[..., None]
    credit_KDC = is_best_KDC * (best_KD - second_KD)[..., None]
    total = entropy_C.sum()
    score_K = pad(credit_KDC, (0, 0, 0, 1)).amax(dim=1).sum(dim=-1) / total
    return score_K.where(total > 0, 0.0)
