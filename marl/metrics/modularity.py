"""Modularity (Ridgeway and Mozer, NeurIPS 2018) as in disentanglement_lib."""

from torch import Tensor
from torch.nn.functional import pad

__all__ = ["modularity"]


def modularity(information_KDC: Tensor, mask_KD: Tensor) -> Tensor:
    """Return the mean over latents of how far each has information about a single factor, [K].

    For each latent it is one minus the ratio of two numbers: the mean of the squared information about all factors but
    the best one, and the squared information about the best one. Zero means that all factors are equal, one that a
    single factor counts. The amount of information has no effect, so the bias of the plug-in estimate alone can make it
    large. A latent without information counts as zero.

    Departures where disentanglement_lib returns NaN: with a single factor, an informative latent counts as one; a model
    without latents scores zero.
    """
    squared_KDC = pad(information_KDC.square(), (0, 1))  # A factor without information, in case there is none.
    most_KD = squared_KDC.amax(dim=-1)
    others = max(information_KDC.shape[-1] - 1, 1)
    mixed_KD = (squared_KDC.sum(dim=-1) - most_KD) / most_KD / others
    return (1 - mixed_KD).where(most_KD > 0, 0.0).sum(dim=-1) / mask_KD.sum(dim=-1).clamp_min(1)
