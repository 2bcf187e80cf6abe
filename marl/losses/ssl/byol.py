"""BYOL: each view predicts the projection of the other view by a moving average of the model."""

from torch import Tensor
from torch.nn.functional import normalize

from marl.losses.ssl.strategy import Strategy, StrategyInputs
from marl.models.heads import PROJECTION, HeadKind

__all__ = ["BYOL", "byol"]

_PREDICTOR = HeadKind("predictor", lambda sizes: sizes.width, reads_projection=True)


def byol(predicted_NW: Tensor, target_NW: Tensor) -> Tensor:
    """Return the mean squared distance, on the unit sphere, of predictions to the targets of the other views.

    Grill et al., "Bootstrap Your Own Latent", NeurIPS 2020, equation 2, in both directions; from 0 to 4. There are no
    negatives. No gradient passes through the targets, which are projections of the same clips.
    """
    other_NW = target_NW.detach().roll(len(target_NW) // 2, dims=0)
    cosine_N = (normalize(predicted_NW, dim=-1) * normalize(other_NW, dim=-1)).sum(dim=-1)
    return 2 - 2 * cosine_N.mean()


def _loss(inputs: StrategyInputs) -> Tensor:
    predicted_NW = inputs.apply_head(_PREDICTOR, inputs.apply_head(PROJECTION))
    return byol(predicted_NW, inputs.target_projection_NW())


BYOL = Strategy("byol", _loss, projection="always", heads=(_PREDICTOR,), has_target=True, extra_forward_pass=True)
