"""What an objective is made of: the terms that a configuration asks for, and those that a stack computes."""

from collections.abc import Iterable
from functools import reduce

from marl.config import Config
from marl.losses.contrast import STRATEGIES
from marl.model import Network
from marl.settings import Settings

__all__ = ["Ingredients", "check", "passes_of"]

_SUBSPACES = ("private", "shared")
_FURTHER_PASSES = ("byol", "predictive", "swap_cycle")


class Ingredients(Settings):
    """Terms that are computed for every lane of a stack, each lane weighing them; what no lane needs is left out.

    Attributes:
        combinations: ways of combining shared latents, of `marl.model.COMBINATIONS`.
        contrasts: pairs of a strategy and the subspace that it acts on; `apart` is among the strategies here.
        projections: subspaces that are compared behind a projection head by any model.
        independence: fields of `IndependenceConfig`.
        hierarchy: whether errors at coarser resolutions are computed.
    """

    combinations: tuple[str, ...] = ("swap",)
    contrasts: tuple[tuple[str, str], ...] = ()
    projections: tuple[str, ...] = ()
    independence: tuple[str, ...] = ()
    hierarchy: bool = False

    @classmethod
    def of(cls, config: Config) -> "Ingredients":
        """What one configuration asks for."""
        contrast = config.contrast
        subspaces = [subspace for subspace in _SUBSPACES if getattr(contrast, subspace) > 0]
        strategy: str = contrast.strategy
        contrasts = [(strategy, subspace) for subspace in subspaces if strategy != "none"]
        is_projected = strategy == "byol" or (contrast.projection and strategy in STRATEGIES)
        if contrast.apart > 0:
            contrasts.append(("apart", "private"))
        return cls(
            combinations=(config.latent.combine,),
            contrasts=tuple(sorted(contrasts)),
            projections=tuple(subspaces) if is_projected else (),
            independence=tuple(name for name, weight in config.independence if weight > 0),
            hierarchy=any(weight > 0 for _, weight in config.loss.hierarchy),
        )

    @classmethod
    def of_all(cls, configs: Iterable[Config]) -> "Ingredients":
        """What any of some configurations asks for."""
        return reduce(cls._with, map(cls.of, configs))

    @property
    def heads(self) -> frozenset[str]:
        """Networks that only training knows, see `marl.model.heads`."""
        heads = {f"projection.{subspace}" for subspace in self.projections}
        for strategy, subspace in self.contrasts:
            if strategy == "byol":
                heads |= {f"predictor.{subspace}", "target.encoder", f"target.projection.{subspace}"}
            elif strategy in ("local_global", "predictive"):
                heads.add(f"{strategy}.{subspace}")
        if "adversarial" in self.independence:
            heads.add("probe.private")
        return frozenset(heads)

    def computes(self, other: "Ingredients") -> bool:
        """Whether all that another holds is computed here."""
        return self._with(other) == self._with(self)

    def _with(self, other: "Ingredients") -> "Ingredients":
        return Ingredients(
            combinations=tuple(sorted({*self.combinations, *other.combinations})),
            contrasts=tuple(sorted({*self.contrasts, *other.contrasts})),
            projections=tuple(sorted({*self.projections, *other.projections})),
            independence=tuple(sorted({*self.independence, *other.independence})),
            hierarchy=self.hierarchy or other.hierarchy,
        )


def passes_of(config: Config) -> tuple[str, ...]:
    """Terms that need further passes through the network; a stack makes the passes that all of its models need."""
    ingredients = Ingredients.of(config)
    terms = {*(strategy for strategy, _ in ingredients.contrasts), *ingredients.independence}
    return tuple(name for name in _FURTHER_PASSES if name in terms)


def check(config: Config, network: Network) -> None:
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
