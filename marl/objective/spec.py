"""What an objective is made of: the terms that a configuration asks for, and those that a stack computes."""

from collections.abc import Iterable
from functools import reduce
from typing import NamedTuple

import torch
from torch import Tensor

from marl.base_config import BaseConfig
from marl.config import Config, MultiscaleWeights
from marl.losses.ssl import STRATEGIES
from marl.models import Network

__all__ = [
    "Batch",
    "ActiveTerms",
    "LaneHyperparameters",
    "ObjectiveSpec",
    "check_compatible",
    "build_hyperparameters",
    "extra_forward_passes",
]

_SUBSPACES = ("private", "shared")
_EXTRA_FORWARD_PASSES = ("byol", "predictive", "swap_cycle")


class ActiveTerms(BaseConfig):
    """Terms that are computed for every lane of a stack, each lane weighing them; what no lane needs is left out.

    Attributes:
        fusions: ways of combining shared latents, of `marl.models.FUSIONS`.
        contrasts: pairs of a strategy and the subspace that it acts on; `repulsion` is among the strategies here.
        projections: subspaces that are compared behind a projection head by any model.
        independence: fields of `IndependenceConfig`.
        multiscale: whether errors at coarser resolutions are computed.
    """

    fusions: tuple[str, ...] = ("swap",)
    contrasts: tuple[tuple[str, str], ...] = ()
    projections: tuple[str, ...] = ()
    independence: tuple[str, ...] = ()
    multiscale: bool = False

    @classmethod
    def of(cls, config: Config) -> "ActiveTerms":
        """What one configuration asks for."""
        contrast = config.contrast
        subspaces = [subspace for subspace in _SUBSPACES if getattr(contrast, subspace) > 0]
        strategy: str = contrast.strategy
        contrasts = [(strategy, subspace) for subspace in subspaces if strategy != "none"]
        is_projected = strategy == "byol" or (contrast.projection and strategy in STRATEGIES)
        if contrast.repulsion > 0:
            contrasts.append(("repulsion", "private"))
        return cls(
            fusions=(config.latent.fusion,),
            contrasts=_ordered(contrasts),
            projections=tuple(subspaces) if is_projected else (),
            independence=tuple(name for name, weight in config.independence if weight > 0),
            multiscale=any(weight > 0 for _, weight in config.loss.multiscale),
        )

    @classmethod
    def of_all(cls, configs: Iterable[Config]) -> "ActiveTerms":
        """What any of some configurations asks for."""
        return reduce(cls._with, map(cls.of, configs))

    @property
    def heads(self) -> frozenset[str]:
        """Networks that only training knows, see `marl.models.heads`."""
        heads = {f"projection.{subspace}" for subspace in self.projections}
        for strategy, subspace in self.contrasts:
            if strategy == "byol":
                heads |= {f"predictor.{subspace}", "target.encoder", f"target.projection.{subspace}"}
            elif strategy in ("local_global", "predictive"):
                heads.add(f"{strategy}.{subspace}")
        if "adversarial" in self.independence:
            heads.add("probe.private")
        return frozenset(heads)

    def computes(self, other: "ActiveTerms") -> bool:
        """Whether all that another holds is computed here."""
        return self._with(other) == self._with(self)

    def _with(self, other: "ActiveTerms") -> "ActiveTerms":
        return ActiveTerms(
            fusions=tuple(sorted({*self.fusions, *other.fusions})),
            contrasts=_ordered({*self.contrasts, *other.contrasts}),
            projections=tuple(sorted({*self.projections, *other.projections})),
            independence=tuple(sorted({*self.independence, *other.independence})),
            multiscale=self.multiscale or other.multiscale,
        )


def _ordered(contrasts: Iterable[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
    """Repulsion first, then strategies by name: the order in which terms are added up."""
    return tuple(sorted(contrasts, key=lambda contrast: (contrast[0] != "repulsion", contrast)))


def extra_forward_passes(config: Config) -> tuple[str, ...]:
    """Terms that need further passes through the network; a stack makes the passes that all of its models need."""
    active_terms = ActiveTerms.of(config)
    terms = {*(strategy for strategy, _ in active_terms.contrasts), *active_terms.independence}
    return tuple(name for name in _EXTRA_FORWARD_PASSES if name in terms)


def check_compatible(config: Config, network: Network) -> None:
    """See that what a configuration asks for can be had together.

    Raises:
        ValueError: when it cannot.
    """
    if config.contrast.strategy == "predictive" and network.local[0] < 2:
        raise ValueError(
            "contrast.strategy predictive needs a network that looks at a clip in at least two steps of time, this one "
            f"does in {network.local[0]}: make model.patch_frames at most half of the spectrogram's frames"
        )
    if config.independence.adversarial > 0 and config.views.scheme != "factor":
        raise ValueError(
            "independence.adversarial needs pairs that are known to share factors: views.scheme must be factor, got "
            f"{config.views.scheme}"
        )


_KL_WEIGHTS = ("alpha", "beta", "gamma")


class ObjectiveSpec(NamedTuple):
    """What is computed for every lane.

    Attributes:
        network: encoder and decoder, with the parameters of all heads of the active_terms.
        active_terms: terms.
        dataset_size: training clips.
        groups: combinations of values of the shared factors.
        dtype: in which the large layers compute; latents, losses and what the optimiser holds are float32 always.
    """

    network: Network
    active_terms: ActiveTerms
    dataset_size: int
    groups: int = 0
    dtype: torch.dtype = torch.float32

    @property
    def subspaces(self) -> dict[str, slice]:
        """Where the latents of each subspace are."""
        private = self.network.architecture.private
        return {"private": slice(0, private), "shared": slice(private, None)}


class LaneHyperparameters(NamedTuple):
    """The settings of one model as numbers; stacked, each has a leading dimension of lanes."""

    mask_D: Tensor
    group_D2: Tensor
    fusion_N: Tensor
    reconstruction: Tensor
    multiscale_N: Tensor
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


def build_hyperparameters(objective_spec: ObjectiveSpec, config: Config) -> LaneHyperparameters:
    """The settings of one model.

    Raises:
        ValueError: if the objective does not compute a term of the configuration, or terms exclude each other.
    """
    check_compatible(config, objective_spec.network)
    asked = ActiveTerms.of(config)
    if not objective_spec.active_terms.computes(asked):
        raise ValueError(f"this stack computes {objective_spec.active_terms!r}; a model asks for {asked!r}")
    loss, contrast = config.loss, config.contrast
    weights = {
        (strategy, subspace): contrast.repulsion if strategy == "repulsion" else getattr(contrast, subspace)
        for strategy, subspace in asked.contrasts
    }
    mask = objective_spec.network.mask(config.latent)
    is_private = torch.arange(objective_spec.network.latents) < objective_spec.network.architecture.private
    return LaneHyperparameters(
        mask_D=mask,
        group_D2=torch.stack([mask * is_private, mask * ~is_private], dim=1),
        fusion_N=torch.tensor([float(name == config.latent.fusion) for name in objective_spec.active_terms.fusions]),
        reconstruction=torch.tensor(loss.reconstruction),
        multiscale_N=torch.tensor([getattr(loss.multiscale, name) for name in MultiscaleWeights.model_fields]),
        kl_32=torch.tensor([[getattr(part, term) for part in (loss.private, loss.shared)] for term in _KL_WEIGHTS]),
        contrast_N=torch.tensor([weights.get(contrast, 0.0) for contrast in objective_spec.active_terms.contrasts]),
        temperature=torch.tensor(contrast.temperature),
        projected=torch.tensor(bool(asked.projections)),
        exclude_same_factors=torch.tensor(contrast.exclude_same_factors),
        target_decay=torch.tensor(contrast.target_decay),
        independence_N=torch.tensor(
            [getattr(config.independence, name) for name in objective_spec.active_terms.independence]
        ),
    )
