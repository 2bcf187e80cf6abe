"""Modularity (Ridgeway and Mozer, NeurIPS 2018) as disentanglement_lib computes it.

K is models, C factors, D latents.
"""

from torch import Tensor
from torch.nn.functional import pad

__all__ = ["modularity"]


def modularity(information_KDC: Tensor, mask_KD: Tensor) -> Tensor:
    """Mean over latents of how far each tells of a single factor only. [K].

    For each latent one minus the mean, over all factors but the one that it tells most of, of its squared information
    about them over that about the first. From 0, all factors alike, to 1, a single one; it says nothing of how much a
    latent tells, so that the bias of the plug-in estimate alone can make it large. A latent that tells nothing counts
    as zero.

    Where disentanglement_lib gives NaN we differ: of a single factor every latent that tells anything tells only that,
    so it counts as one, and a model without latents has zero.

    Args:
        information_KDC: mutual information of latents and factors; rows of zeros for latents that a model has not.
        mask_KD: one for each latent that a model has, zero for padding.
    """
    squared_KDC = pad(information_KDC.square(), (0, 1))  # a factor of which nothing is told, for where there is none
    most_KD = squared_KDC.amax(dim=-1)
    others = max(information_KDC.shape[-1] - 1, 1)
    mixed_KD = (squared_KDC.sum(dim=-1) - most_KD) / most_KD / others
    return (1 - mixed_KD).where(most_KD > 0, 0.0).sum(dim=-1) / mask_KD.sum(dim=-1).clamp_min(1)
