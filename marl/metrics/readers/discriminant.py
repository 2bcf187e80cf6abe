"""Linear and quadratic discriminant analysis in closed form.

E is components of whitened latents, F features, Q directions.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["LinearDiscriminants", "QuadraticDiscriminants"]

# Added to variances within classes, relative to the total variance. Those of a perfect latent are zero.
_FLOOR = 1e-8
# Elements of the largest temporary array.
_BLOCK = 1 << 23
# Directions whose squares and products are features.
_QUADRATIC_DIRECTIONS = 8


class LinearDiscriminants:
    """Linear discriminant analysis of each factor.

    Args:
        whitened_RNE: Whitened latents of the clips to fit on, float64.
        one_hots: Class of each clip by factor, float64 [N, Y]; a row of zeros for an unknown class.
    """

    def __init__(self, whitened_RNE: Tensor, one_hots: Sequence[Tensor]) -> None:
        self._discriminants = [_Discriminant(whitened_RNE, one_hot_NY) for one_hot_NY in one_hots]

    def logits(self, whitened_RNE: Tensor) -> list[Tensor]:
        """Return logits of the classes of clips by factor, float32 [R, N, Y]."""
        return [discriminant.logits(whitened_RNE) for discriminant in self._discriminants]


class QuadraticDiscriminants:
    """Linear discriminant analysis of each factor, on latents and their squares and products in a few directions.

    Arguments are those of `LinearDiscriminants`.
    """

    def __init__(self, whitened_RNE: Tensor, one_hots: Sequence[Tensor]) -> None:
        # Components of posterior means of collapsed latents are small, but directions are sought in a sphere.
        deviation_R1E = whitened_RNE.std(dim=1, keepdim=True)
        self._inverse_R1E = torch.where(deviation_R1E > _FLOOR, deviation_R1E, torch.inf).reciprocal()
        scaled_RNE = whitened_RNE * self._inverse_R1E
        self._directions = [_quadratic_directions(scaled_RNE, one_hot_NY) for one_hot_NY in one_hots]
        self._discriminants = [
            _Discriminant(_quadratic_features(scaled_RNE, directions_REQ), one_hot_NY)
            for directions_REQ, one_hot_NY in zip(self._directions, one_hots, strict=True)
        ]

    def logits(self, whitened_RNE: Tensor) -> list[Tensor]:
        """Return logits of the classes of clips by factor, float32 [R, N, Y]."""
        scaled_RNE = whitened_RNE * self._inverse_R1E
        return [
            discriminant.logits(_quadratic_features(scaled_RNE, directions_REQ))
            for discriminant, directions_REQ in zip(self._discriminants, self._directions, strict=True)
        ]


class _Discriminant:
    """Gaussian classes with a common covariance (Rao, *The Utilization of Multiple Measurements*, 1948).

    Class means are shrunk towards the common mean in each discriminant direction, to it where the ratio of variances
    between and within classes is below the largest one of pure noise. For F features, N clips and Y classes that is
    about (√(F/N) + √((Y − 1)/N))², the edge of the spectrum of a Fisher matrix (Johnstone 2008).
    """

    def __init__(self, features_RNF: Tensor, one_hot_NY: Tensor) -> None:
        known_N1 = one_hot_NY.sum(dim=1, keepdim=True)
        count_Y = one_hot_NY.sum(dim=0)
        clips, classes = count_Y.sum().clamp_min(1), (count_Y > 0).sum()
        self._log_prior_Y = ((count_Y + 0.5) / (count_Y + 0.5).sum()).log()
        self._mean_R1F = (features_RNF * known_N1).sum(dim=1, keepdim=True) / clips
        centred_RNF = (features_RNF - self._mean_R1F) * known_N1
        deviation_R1F = (centred_RNF.square().sum(dim=1, keepdim=True) / clips).sqrt()
        self._inverse_R1F = torch.where(deviation_R1F > _FLOOR, deviation_R1F, torch.inf).reciprocal()
        centred_RNF = centred_RNF * self._inverse_R1F
        sum_RYF = one_hot_NY.mT @ centred_RNF
        mean_RYF = sum_RYF / count_Y.clamp_min(1)[:, None]
        between_RFF = sum_RYF.mT @ mean_RYF
        within_RFF = (centred_RNF.mT @ centred_RNF - between_RFF) / (clips - classes).clamp_min(1)
        within_RFF.diagonal(dim1=1, dim2=2).add_(_FLOOR)
        root_RFF = torch.linalg.cholesky_ex(within_RFF).L
        half_RFF = torch.linalg.solve_triangular(root_RFF, between_RFF / clips, upper=False)
        ratio_RFF = torch.linalg.solve_triangular(root_RFF, half_RFF.mT, upper=False)
        ratio_RF, vector_RFF = torch.linalg.eigh((ratio_RFF + ratio_RFF.mT) / 2)
        directions = min(features_RNF.shape[-1], one_hot_NY.shape[1] - 1)
        ratio_RQ, vector_RFQ = ratio_RF.flip(-1)[:, :directions], vector_RFF.flip(-1)[..., :directions]
        features_R1 = (self._inverse_R1F > 0).sum(dim=-1)
        edge_R1 = ((features_R1 / clips).sqrt() + ((classes - 1) / clips).sqrt()).square()
        shrinkage_RQ = (1 - edge_R1 / ratio_RQ.clamp_min(1e-30)).clamp_min(0)
        self._weight_RFQ = torch.linalg.solve_triangular(root_RFF.mT, vector_RFQ, upper=True)
        self._mean_RYQ = mean_RYF @ self._weight_RFQ * shrinkage_RQ[:, None]

    def logits(self, features_RNF: Tensor) -> Tensor:
        """Return log-probabilities of the classes of clips, float32 [R, N, Y]."""
        coordinate_RNQ = (features_RNF - self._mean_R1F) * self._inverse_R1F @ self._weight_RFQ
        offset_R1Y = self._log_prior_Y - self._mean_RYQ.square().sum(dim=-1)[:, None] / 2
        # Before normalisation, logits of perfect latents are too large for float32.
        log_RNY: Tensor = (coordinate_RNQ @ self._mean_RYQ.mT + offset_R1Y).log_softmax(dim=-1)
        return log_RNY.to(torch.float32)


def _quadratic_directions(whitened_RNE: Tensor, one_hot_NY: Tensor) -> Tensor:
    """Return the directions in which covariances of classes differ most, [R, E, Q].

    They are found by sliced average variance estimation (Cook and Weisberg, 1991): eigenvectors of the mean over
    classes of (I − covariance)², which turn with a rotation of the latents.
    """
    latents_RNE, one_hot_NY = whitened_RNE.to(torch.float32), one_hot_NY.to(torch.float32)
    representations, _, components = latents_RNE.shape
    moment_RYS = latents_RNE.new_zeros(representations, one_hot_NY.shape[1], components**2)
    size = max(1, _BLOCK // (representations * components**2))
    for block_RnE, one_hot_nY in zip(latents_RNE.split(size, dim=1), one_hot_NY.split(size), strict=True):
        moment_RYS += one_hot_nY.mT @ (block_RnE[..., :, None] * block_RnE[..., None, :]).flatten(2)
    count_Y = one_hot_NY.sum(dim=0)
    mean_RYE = one_hot_NY.mT @ latents_RNE / count_Y.clamp_min(1)[:, None]
    covariance_RYEE = (moment_RYS / count_Y.clamp_min(1)[:, None]).unflatten(-1, (components, components))
    covariance_RYEE = covariance_RYEE - mean_RYE[..., :, None] * mean_RYE[..., None, :]
    # Components that a representation does not have are zero.
    identity_R1EE = torch.diag_embed((latents_RNE != 0).any(dim=1).to(torch.float32))[:, None]
    square_RYEE = (identity_R1EE - covariance_RYEE) @ (identity_R1EE - covariance_RYEE)
    mean_REE = (square_RYEE * (count_Y / count_Y.sum().clamp_min(1))[:, None, None]).sum(dim=1)
    vector_REE: Tensor = torch.linalg.eigh(mean_REE.to(torch.float64)).eigenvectors.flip(-1)
    return vector_REE[..., :_QUADRATIC_DIRECTIONS]


def _quadratic_features(whitened_RNE: Tensor, directions_REQ: Tensor) -> Tensor:
    """Return whitened latents, and squares and products of their projections, [R, N, F]."""
    # Clips come last in memory, so that each feature is contiguous.
    projected_RQN = (whitened_RNE @ directions_REQ).mT.contiguous()
    products = [projected_RQN[:, row:] * projected_RQN[:, row : row + 1] for row in range(projected_RQN.shape[1])]
    return torch.cat([whitened_RNE.mT, *products], dim=1).mT
