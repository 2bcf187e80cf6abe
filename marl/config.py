"""Configuration of one model: everything that its result depends on, apart from the data and the seed."""

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import AfterValidator, AliasChoices, BeforeValidator, Field, SerializeAsAny

from marl.base_config import BaseConfig
from marl.data.views import AugmentConfig, ViewScheme
from marl.losses.ssl import STRATEGIES
from marl.models import NETWORKS, LatentConfig, ModelConfig

__all__ = ["Config", "ContrastConfig", "IndependenceConfig", "LossConfig", "MultiscaleWeights", "OptimiserConfig"]
__all__ += ["SubspaceWeights", "ViewsConfig"]


class ViewsConfig(BaseConfig):
    """How the two views of a pair are made."""

    shared: tuple[str, ...] = ("timbre",)
    """Names of the factors that the two clips of a pair share, the same for all models of a study. With every scheme,
    metrics expect these factors in the shared latents."""
    scheme: ViewScheme = "factor"
    """How views are made. `factor`: two clips that share factors; `augment`: one clip altered twice; `segment`: two
    parts of one clip."""
    augment: AugmentConfig = AugmentConfig()
    """Alterations of a view, for the scheme `augment`."""


class SubspaceWeights(BaseConfig):
    """Weights of the KL terms of one subspace. All one is a plain variational autoencoder."""

    alpha: float = Field(1.0, ge=0)
    """Weight of the index-code mutual information."""
    beta: float = Field(1.0, ge=0)
    """Weight of the total correlation."""
    gamma: float = Field(1.0, ge=0)
    """Weight of the dimension-wise KL."""


class MultiscaleWeights(BaseConfig):
    """Weights of reconstruction errors at coarser resolutions, each in the units of the plain error."""

    scale_2: float = Field(0.0, ge=0)
    """Weight of the error of averages over 2 bands x 2 frames."""
    scale_4: float = Field(0.0, ge=0)
    """Weight of the error of averages over 4 bands x 4 frames."""
    scale_8: float = Field(0.0, ge=0)
    """Weight of the error of averages over 8 bands x 8 frames."""
    spectrum: float = Field(0.0, ge=0)
    """Weight of the error of averages over all frames."""
    envelope: float = Field(0.0, ge=0)
    """Weight of the error of averages over all bands."""


class LossConfig(BaseConfig):
    """Weights of the reconstruction and KL terms."""

    reconstruction: float = Field(1.0, ge=0)
    """Weight of the squared error, summed over a spectrogram."""
    multiscale: MultiscaleWeights = MultiscaleWeights()
    """Weights of reconstruction errors at coarser resolutions."""
    private: SubspaceWeights = SubspaceWeights()
    """Weights of the KL terms of the private latents, nats per view."""
    shared: SubspaceWeights = SubspaceWeights()
    """Weights of the KL terms of the shared latents, nats per view. With the fusion `poe`, a pair has one code with one
    joint posterior, and each view has half of its terms."""


def _of_its_kind(model: Any) -> Any:
    """Return the configuration of a network as an instance of the class that its kind declares."""
    kind = model.kind if isinstance(model, ModelConfig) else model.get("kind") if isinstance(model, Mapping) else None
    if not isinstance(kind, str):
        return model  # without a kind, or not valid
    kind = NETWORKS.canonical(kind)
    config_class = NETWORKS[kind].config_class
    if type(model) is config_class and model.kind == kind:
        return model
    fields = model.model_dump() if isinstance(model, ModelConfig) else model
    return config_class.model_validate({**fields, "kind": kind})


class ContrastConfig(BaseConfig):
    """Self-supervised loss on the posterior means of the latents, with a weight for each subspace."""

    strategy: Annotated[str, AfterValidator(lambda name: STRATEGIES.canonical(name, ["none"]))] = "none"
    """Loss, a plug-in, or `none`. Built-in strategies compare the two views, except `local_global` and `predictive`,
    which compare a clip with its own parts."""
    shared: float = Field(50.0, ge=0)
    """Weight of the loss of the strategy on the shared latents."""
    private: float = Field(0.0, ge=0)
    """Weight of the loss of the strategy on the private latents."""
    repulsion: float = Field(0.0, ge=0)
    """Weight of the repulsion of the two views in the private latents."""
    temperature: float = Field(0.2, gt=0)
    """Temperature of similarities, in strategies that have one."""
    projection: bool = False
    """Compare views behind a projection head (Chen et al., 2020), with `model.head` outputs. `byol` always has one."""
    target_decay: float = Field(0.99, ge=0, lt=1)
    """Decay per step of the moving averages of `byol`."""
    # Studies and models of earlier versions have the second name.
    exclude_same_group: bool = Field(False, validation_alias=AliasChoices("exclude_same_group", "exclude_same_factors"))
    """Do not use pairs of the same group as negatives of each other. With the views `factor`, pairs with the same
    values of the shared factors are a group, so this is supervision: it reads the labels of all clips of a batch. With
    other views a group is a clip. Only strategies with negatives use it."""


class IndependenceConfig(BaseConfig):
    """Weights of terms that make the private and the shared latents of a clip independent."""

    hsic: float = Field(0.0, ge=0)
    """Weight of the normalised Hilbert-Schmidt independence criterion (HSIC) of private and shared latents. It is 0 if
    they are independent, and grows with any dependence between them, linear or not (Gretton et al., 2005)."""
    cross_covariance: float = Field(0.0, ge=0)
    """Weight of the mean squared correlation between a private and a shared latent."""
    adversarial: float = Field(0.0, ge=0)
    """Strength with which the encoder opposes a probe that predicts the pair's shared factors from the private latents.
    It needs pairs that are known to share factors, so `views.scheme` must be `factor`."""
    swap_cycle: float = Field(0.0, ge=0)
    """Weight of the error of latents that are decoded with the shared part of another clip and encoded again."""


class OptimiserConfig(BaseConfig):
    """Adam (Kingma and Ba, 2015) with a learning rate that rises linearly during warm-up and then is constant."""

    learning_rate: float = Field(3e-3, gt=0)
    """Learning rate after the warm-up."""
    warmup_steps: int = Field(50, ge=0)
    """Number of steps of the warm-up."""


class Config(BaseConfig):
    """Configuration of one model.

    A search may vary any field, by its path: `loss.private.gamma`, `latent.shared`, `contrast.strategy`.
    """

    views: ViewsConfig = ViewsConfig()
    """How the two views of a pair are made."""
    model: Annotated[SerializeAsAny[ModelConfig], BeforeValidator(_of_its_kind)] = ModelConfig()
    """Kind and sizes of the network."""
    latent: LatentConfig = LatentConfig()
    """Sizes of the private and the shared subspace, and the fusion of the shared latents."""
    loss: LossConfig = LossConfig()
    """Weights of the reconstruction and KL terms."""
    contrast: ContrastConfig = ContrastConfig()
    """Self-supervised loss on the latents."""
    independence: IndependenceConfig = IndependenceConfig()
    """Weights of terms that make private and shared latents independent."""
    optimiser: OptimiserConfig = OptimiserConfig()
    """Learning rate and warm-up of Adam."""
