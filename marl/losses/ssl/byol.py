"""BYOL: each view predicts what a slowly moving copy of the model makes of the other."""

from torch import Tensor
from torch.nn.functional import normalize

__all__ = ["byol"]


def byol(predicted_ND: Tensor, target_ND: Tensor) -> Tensor:
    """Mean squared distance, on the unit sphere, of predictions to the targets of the other views.

    Grill et al., "Bootstrap Your Own Latent", NeurIPS 2020, equation 2, in both directions. It needs no negatives.

    Args:
        predicted_ND: predictions from both views, all first views before all second ones.
        target_ND: projections of the same clips by the target, through which no gradient passes.

    Returns:
        A scalar from 0 to 4.
    """
    other_ND = target_ND.detach().roll(len(target_ND) // 2, dims=0)
    cosine_N = (normalize(predicted_ND, dim=-1) * normalize(other_ND, dim=-1)).sum(dim=-1)
    return 2 - 2 * cosine_N.mean()
