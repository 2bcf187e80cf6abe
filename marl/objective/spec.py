"""Terms of the objective of a stack, and hyperparameters of a model. M is terms of one kind, S the two subspaces."""

from collections import ChainMap
from collections.abc import Iterable, Mapping
from functools import reduce
from typing import NamedTuple, get_args

import torch
from torch import Tensor

from marl.base_config import BaseConfig
from marl.config import Config, MultiscaleWeights
from marl.losses.repulsion import REPULSION
from marl.losses.ssl import STRATEGIES, Strategy
from marl.models import Head, Network, Subspace, Target
from marl.models.heads import PROJECTION, HeadKind

__all__ = [
    "CONTRASTS",
    "PROBE",
    "ActiveTerms",
    "Batch",
    "LaneHyperparameters",
    "ObjectiveSpec",
    "build_hyperparameters",
    "check_compatible",
    "extra_forward_passes",
]

# A view, so that it has plug-ins that are loaded later.
CONTRASTS: Mapping[str, Strategy] = ChainMap({REPULSION.name: REPULSION}, STRATEGIES)  # type: ignore[arg-type]  # is only read
"""Repulsion and the strategies."""

_SUBSPACES: tuple[Subspace, ...] = get_args(Subspace)
_KL_WEIGHTS = ("alpha", "beta", "gamma")
# The rounding of a row of a matrix product depends on other rows unless rows fill whole registers.
_OUTPUTS_MULTIPLE = 16

PROBE = HeadKind("probe", lambda sizes: -(-sizes.groups // _OUTPUTS_MULTIPLE) * _OUTPUTS_MULTIPLE)
"""The adversary of `independence.adversarial`."""


class ActiveTerms(BaseConfig):
    """Terms that are computed for all lanes of a stack, because at least one lane needs them."""

    fusions: tuple[str, ...] = ("swap",)  # keys of `marl.models.FUSIONS`
    contrasts: tuple[tuple[str, Subspace], ...] = ()  # keys of `CONTRASTS`, each with the subspace that it acts on
    projections: tuple[Subspace, ...] = ()  # subspaces that any model compares behind the projection head
    independence: tuple[str, ...] = ()  # fields of `IndependenceConfig`
    multiscale: bool = False  # whether any model has errors at coarser resolutions

    @classmethod
    def of(cls, config: Config) -> "ActiveTerms":
        """Return the terms of one configuration."""
        strategy = _strategy(config)
        contrasts: list[tuple[str, Subspace]] = []
        projections: tuple[Subspace, ...] = ()
        if strategy is not None:
            subspaces = tuple(subspace for subspace in _SUBSPACES if getattr(config.contrast, subspace) > 0)
            contrasts = [(strategy.name, subspace) for subspace in subspaces]
            if strategy.projection == "always" or (strategy.projection == "optional" and config.contrast.projection):
                projections = subspaces
        if config.contrast.repulsion > 0:
            contrasts.append((REPULSION.name, "private"))
        return cls(
            fusions=(config.latent.fusion,),
            contrasts=_ordered(contrasts),
            projections=projections,
            independence=tuple(name for name, weight in config.independence if weight > 0),
            multiscale=any(weight > 0 for _, weight in config.loss.multiscale),
        )

    @classmethod
    def of_all(cls, configs: Iterable[Config]) -> "ActiveTerms":
        """Return the terms of any of several configurations."""
        return reduce(cls._with, map(cls.of, configs))

    @property
    def heads(self) -> frozenset[Head | Target]:
        """Heads that the terms use."""
        heads: set[Head | Target] = {Head(PROJECTION, subspace) for subspace in self.projections}
        for name, subspace in self.contrasts:
            heads |= {Head(kind, subspace) for kind in CONTRASTS[name].heads}
            if CONTRASTS[name].has_target:
                heads |= {Target("encoder"), Target(Head(PROJECTION, subspace).name)}
        if "adversarial" in self.independence:
            heads.add(Head(PROBE, "private"))
        return frozenset(heads)

    def computes(self, other: "ActiveTerms") -> bool:
        """Return whether all terms of another objective are among these."""
        return self._with(other) == self._with(self)

    def _with(self, other: "ActiveTerms") -> "ActiveTerms":
        return ActiveTerms(
            fusions=tuple(sorted({*self.fusions, *other.fusions})),
            contrasts=_ordered({*self.contrasts, *other.contrasts}),
            projections=tuple(sorted({*self.projections, *other.projections})),
            independence=tuple(sorted({*self.independence, *other.independence})),
            multiscale=self.multiscale or other.multiscale,
        )


def _strategy(config: Config) -> Strategy | None:
    """Return the strategy of a configuration; None without one."""
    name = config.contrast.strategy
    return None if name == "none" else STRATEGIES[name]


def _ordered(contrasts: Iterable[tuple[str, Subspace]]) -> tuple[tuple[str, Subspace], ...]:
    """Return repulsion first, then strategies by name: the order in which terms are added up."""
    return tuple(sorted(contrasts, key=lambda contrast: (contrast[0] != REPULSION.name, contrast)))


def extra_forward_passes(config: Config) -> tuple[str, ...]:
    """Return the names of a configuration's terms that run the encoder or decoder once more."""
    terms = ActiveTerms.of(config)
    names = {name for name, _ in terms.contrasts if CONTRASTS[name].extra_forward_pass}
    return tuple(sorted(names | {"swap_cycle"}.intersection(terms.independence)))


def check_compatible(config: Config, network: Network) -> None:
    """Raise a ValueError if the terms of a configuration do not suit its network or its views."""
    strategy, (steps, _) = _strategy(config), network.local_shape
    if strategy is not None and steps < strategy.min_local_steps:
        raise ValueError(
            f"contrast.strategy {strategy.name} needs a network with local features of at least "
            f"{strategy.min_local_steps} time steps; got {steps}. A smaller model.patch_frames gives more"
        )
    if config.independence.adversarial > 0 and config.views.scheme != "factor":
        raise ValueError(
            "independence.adversarial needs pairs that are known to share factors: views.scheme must be factor, got "
            f"{config.views.scheme}"
        )


class ObjectiveSpec(NamedTuple):
    """Objective of all lanes of a stack. Large layers compute in `dtype`; all else is float32."""

    network: Network  # with the parameters of all heads of the terms
    active_terms: ActiveTerms
    groups: int = 0  # combinations of values of the shared factors
    dtype: torch.dtype = torch.float32

    @property
    def subspaces(self) -> dict[Subspace, slice]:
        """Ranges of the latents of each subspace."""
        private = self.network.architecture.private
        return {"private": slice(0, private), "shared": slice(private, None)}


class LaneHyperparameters(NamedTuple):
    """Hyperparameters of one model as tensors; in a stack each has a leading dimension of lanes.

    Those without a comment are weights of terms, or the field of `ContrastConfig` with this name.
    """

    mask_D: Tensor  # one for each latent of the model, zero for padding
    subspace_DS: Tensor  # one where a latent of the model is in a subspace, else zero
    fusion_M: Tensor  # one for the fusion of the model, else zero
    reconstruction: Tensor
    multiscale_M: Tensor
    kl_3S: Tensor
    contrast_M: Tensor
    temperature: Tensor
    projected: Tensor  # whether views are compared behind the projection head
    exclude_same_group: Tensor
    target_decay: Tensor
    independence_M: Tensor


class Batch(NamedTuple):
    """A batch of pairs as N = 2 B clips: the first views of all pairs, then the second views."""

    input_NPQ: Tensor  # in the layout of `Network.to_input`
    group_B: Tensor  # the same number for pairs that are known to agree in the shared factors
    noise_ND: Tensor  # standard normal


def build_hyperparameters(spec: ObjectiveSpec, config: Config) -> LaneHyperparameters:
    """Return the hyperparameters of one model.

    Raises:
        ValueError: If the objective lacks a term of the configuration, or `check_compatible` raises it.
    """
    check_compatible(config, spec.network)
    terms, own_terms = spec.active_terms, ActiveTerms.of(config)
    if not terms.computes(own_terms):
        raise ValueError(f"this stack computes {terms!r}; a model asks for {own_terms!r}")
    loss, contrast = config.loss, config.contrast
    weights = {
        (name, subspace): contrast.repulsion if name == REPULSION.name else getattr(contrast, subspace)
        for name, subspace in own_terms.contrasts
    }
    mask = spec.network.mask(config.latent)
    is_private = torch.arange(spec.network.latents) < spec.network.architecture.private
    return LaneHyperparameters(
        mask_D=mask,
        subspace_DS=torch.stack([mask * is_private, mask * ~is_private], dim=1),
        fusion_M=torch.tensor([float(name == config.latent.fusion) for name in terms.fusions]),
        reconstruction=torch.tensor(loss.reconstruction),
        multiscale_M=torch.tensor([getattr(loss.multiscale, name) for name in MultiscaleWeights.model_fields]),
        kl_3S=torch.tensor([[getattr(part, term) for part in (loss.private, loss.shared)] for term in _KL_WEIGHTS]),
        contrast_M=torch.tensor([weights.get(contrast, 0.0) for contrast in terms.contrasts]),
        temperature=torch.tensor(contrast.temperature),
        projected=torch.tensor(bool(own_terms.projections)),
        exclude_same_group=torch.tensor(contrast.exclude_same_group),
        target_decay=torch.tensor(contrast.target_decay),
        independence_M=torch.tensor([getattr(config.independence, name) for name in terms.independence]),
    )
