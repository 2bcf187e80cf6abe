"""A contrastive strategy: the two views of a pair lie close together, near a sphere around zero.

In a spec: `contrast.strategy: ring_loss:ring_loss`.
"""

import torch
from torch import Tensor

from marl.plugins import Pairing

_RADIUS = 1.0
_SMALLEST = 1e-8  # the gradient of a root is infinite at zero


def ring_loss(first_BD: Tensor, second_BD: Tensor, pairing: Pairing) -> Tensor:
    """Return the squared distance of the views, plus the squared distance of each clip from the sphere.

    The second term is equation 1 of Zheng, Pal and Savvides, "Ring loss: Convex Feature Normalization for Face
    Recognition", CVPR 2018, with a fixed radius. Padded dimensions are zero, so they add nothing to these sums.
    """
    clips_ND = torch.cat([first_BD, second_BD])
    norm_N = (clips_ND.square().sum(dim=1) + _SMALLEST).sqrt()
    distance_B = (first_BD - second_BD).square().sum(dim=1)
    return distance_B.mean() + (norm_N - _RADIUS).square().mean()
