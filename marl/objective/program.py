"""What is computed for every lane of a stack, and the settings of one model as numbers.

Every setting that may differ between models of a stack is a number in a `Lane`, never a branch. B is pairs, V = 2B
views, [P, Q] a view as the network takes it, D latents, N terms of one kind.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from marl.config import Config, Hierarchy
from marl.model import Network
from marl.objective.ingredients import Ingredients, check

__all__ = ["Batch", "Lane", "Program", "lane_settings"]

_KL_WEIGHTS = ("alpha", "beta", "gamma")


class Program(NamedTuple):
    """What is computed for every lane.

    Attributes:
        network: encoder and decoder, with the parameters of all heads of the ingredients.
        ingredients: terms.
        dataset_size: training clips.
        groups: combinations of values of the shared factors.
        dtype: in which the large layers compute; latents, losses and what the optimiser holds are float32 always.
    """

    network: Network
    ingredients: Ingredients
    dataset_size: int
    groups: int = 0
    dtype: torch.dtype = torch.float32

    @property
    def subspaces(self) -> dict[str, slice]:
        """Where the latents of each subspace are."""
        private = self.network.architecture.private
        return {"private": slice(0, private), "shared": slice(private, None)}


class Lane(NamedTuple):
    """The settings of one model as numbers; stacked, each has a leading dimension of lanes."""

    mask_D: Tensor
    group_D2: Tensor
    combination_N: Tensor
    reconstruction: Tensor
    hierarchy_N: Tensor
    kl_32: Tensor
    contrast_N: Tensor
    temperature: Tensor
    projected: Tensor
    exclude_same_factors: Tensor
    target_decay: Tensor
    independence_N: Tensor


class Batch(NamedTuple):
    """Pairs as the objective takes them: all first views, then all second views.

    Attributes:
        input_VPQ: as `Network.to_input` makes it: patches and their values, or bands and frames.
        group_B: pairs that are known to share the shared factors have the same number.
        noise_VD: standard normal.
    """

    input_VPQ: Tensor
    group_B: Tensor
    noise_VD: Tensor


def lane_settings(program: Program, config: Config) -> Lane:
    """The settings of one model.

    Raises:
        ValueError: when the program does not compute what the configuration asks for, or that cannot be had together.
    """
    check(config, program.network)
    asked = Ingredients.of(config)
    if not program.ingredients.computes(asked):
        raise ValueError(f"this stack computes {program.ingredients!r}; a model asks for {asked!r}")
    loss, contrast = config.loss, config.contrast
    weights = {
        (strategy, subspace): contrast.apart if strategy == "apart" else getattr(contrast, subspace)
        for strategy, subspace in asked.contrasts
    }
    mask = program.network.mask(config.latent)
    is_private = torch.arange(program.network.latents) < program.network.architecture.private
    return Lane(
        mask_D=mask,
        group_D2=torch.stack([mask * is_private, mask * ~is_private], dim=1),
        combination_N=torch.tensor([float(name == config.latent.combine) for name in program.ingredients.combinations]),
        reconstruction=torch.tensor(loss.reconstruction),
        hierarchy_N=torch.tensor([getattr(loss.hierarchy, name) for name in Hierarchy.model_fields]),
        kl_32=torch.tensor([[getattr(part, term) for part in (loss.private, loss.shared)] for term in _KL_WEIGHTS]),
        contrast_N=torch.tensor([weights.get(contrast, 0.0) for contrast in program.ingredients.contrasts]),
        temperature=torch.tensor(contrast.temperature),
        projected=torch.tensor(bool(asked.projections)),
        exclude_same_factors=torch.tensor(contrast.exclude_same_factors),
        target_decay=torch.tensor(contrast.target_decay),
        independence_N=torch.tensor([getattr(config.independence, name) for name in program.ingredients.independence]),
    )
