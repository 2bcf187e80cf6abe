"""Self-supervised strategies: the record that describes one, the inputs of its loss, and functions that losses share.

A loss of two views takes the latents of the first and of the second views, [B, D] each, and their `Pairing`. It returns
a scalar. Padded dimensions are zero and must not contribute. The loss runs under `vmap`, so it has no data-dependent
control flow. N = 2 B clips: the first views of all pairs, then the second views.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol

import torch
from torch import Tensor
from torch.nn.functional import normalize

from marl.models.heads import HeadKind

__all__ = [
    "EXCLUDED",
    "Pairing",
    "PairwiseLoss",
    "Strategy",
    "StrategyInputs",
    "identity",
    "pairwise",
    "positive_and_negatives",
    "tile_views",
    "unit_clips",
]

EXCLUDED = -1e9
"""Logit that excludes a clip from a softmax in float32; the gradient of an infinite one would be undefined."""


class Pairing(NamedTuple):
    """Relations between the pairs of a batch, and hyperparameters of the model."""

    mask_D: Tensor  # one for each dimension of the model, zero for padding
    same_BB: Tensor  # whether two pairs are known to agree in the shared factors; true on the diagonal
    excluded_negatives_BB: Tensor  # different pairs that are not negatives of each other; false on the diagonal
    temperature: Tensor  # of similarities, a positive scalar


class PairwiseLoss(Protocol):
    """Loss of two views, the simplest kind of strategy: a function is enough.

    Padded dimensions, where `pairing.mask_D` is zero, are zero in both views and must not contribute. The loss runs
    under `vmap` for all models of a stack, so no branch or shape may depend on values.
    """

    def __call__(self, first_BD: Tensor, second_BD: Tensor, pairing: Pairing) -> Tensor:
        """Return a scalar from the latents of the first and of the second views."""


class StrategyInputs(Protocol):
    """One batch of one model, in the subspace that a strategy acts on.

    W is `ModelConfig.head`; L and E are the steps and features of the encoder's local features.
    """

    @property
    def local_features_NLE(self) -> Tensor:
        """Local features of the encoder."""

    @property
    def excluded_negatives_NN(self) -> Tensor:
        """Clips of either view that do not count as negatives of each other."""

    @property
    def temperature(self) -> Tensor:
        """Temperature of similarities."""

    def views(self) -> tuple[Tensor, Tensor, Pairing]:
        """Return means of the latents of both views, or their projections, [B, D] each."""

    def apply_head(self, kind: HeadKind, inputs: Tensor | None = None) -> Tensor:
        """Return the outputs of a head, of the means of the latents unless other inputs are given."""

    def target_projection_NW(self) -> Tensor:
        """Return projections by the moving average of encoder and projection head, without a gradient."""

    def early_half_outputs(self, kind: HeadKind) -> Tensor:
        """Return the outputs of a head, of clips whose last L // 2 time steps are set to zero."""


@dataclass(frozen=True)
class Strategy:
    """A self-supervised strategy.

    `projection` says whether views are compared behind the projection head: only if `contrast.projection` is set,
    always, or never. Models with an `extra_forward_pass` of the encoder train in a separate stack.
    """

    name: str  # value of `contrast.strategy`
    loss: Callable[[StrategyInputs], Tensor]
    projection: Literal["optional", "always", "never"] = "never"
    heads: tuple[HeadKind, ...] = ()  # besides the projection head
    has_target: bool = False  # whether moving averages of encoder and projection head provide targets
    extra_forward_pass: bool = False
    min_local_steps: int = 0  # time steps of the local features that the loss needs; zero if it does not use them


def pairwise(name: str, loss: PairwiseLoss) -> Strategy:
    """Return the strategy of a loss of two views; `name` is the value of `contrast.strategy`."""
    return Strategy(name, lambda inputs: loss(*inputs.views()), projection="optional")


def identity(like_BB: Tensor) -> Tensor:
    """Return the Boolean identity matrix of the size of another matrix."""
    return torch.eye(like_BB.shape[-1], dtype=torch.bool, device=like_BB.device)


def tile_views(matrix_BB: Tensor) -> Tensor:
    """Return a matrix of pairs as a matrix of clips [N, N]: each view of a pair has the entries of the pair."""
    return matrix_BB.tile(2, 2)


def unit_clips(first_BD: Tensor, second_BD: Tensor) -> Tensor:
    """Return both views as clips of unit length, [N, D]; zero where a latent is zero."""
    return normalize(torch.cat([first_BD, second_BD]), dim=-1)


def positive_and_negatives(first_BD: Tensor, second_BD: Tensor, pairing: Pairing) -> tuple[Tensor, Tensor]:
    """Return the logit of the other view of each clip, and the logsumexp of the logits of its negatives, both [N].

    Logits are cosine similarities over the temperature. Negatives of a clip are both views of every other pair that is
    not excluded. Without any negative the logsumexp is about `EXCLUDED`.
    """
    unit_ND = unit_clips(first_BD, second_BD)
    scaled_ND = unit_ND / pairing.temperature
    not_negative_NN = tile_views(pairing.excluded_negatives_BB | identity(pairing.excluded_negatives_BB))
    log_negatives_N = torch.logsumexp(torch.where(not_negative_NN, EXCLUDED, scaled_ND @ unit_ND.mT), dim=1)
    scaled_BD, _ = scaled_ND.chunk(2)
    _, other_BD = unit_ND.chunk(2)
    return (scaled_BD * other_BD).sum(dim=-1).tile(2), log_negatives_N
