"""The configuration of one model: everything that its result depends on, beside the data and the seed."""

from typing import Literal

from pydantic import Field

from marl.base_config import BaseConfig
from marl.data.views import AugmentConfig, ViewScheme
from marl.models import LatentConfig, ModelConfig

__all__ = [
    "Config",
    "ContrastConfig",
    "MultiscaleWeights",
    "IndependenceConfig",
    "LossConfig",
    "OptimiserConfig",
    "SubspaceWeights",
    "ViewsConfig",
]

StrategyName = Literal[
    "none",
    "infonce",
    "nt_xent",
    "supcon",
    "dcl",
    "triplet",
    "barlow",
    "vicreg",
    "byol",
    "local_global",
    "predictive",
]


class ViewsConfig(BaseConfig):
    """How two views of a pair are made.

    Attributes:
        shared: names of the factors that the two clips of a pair share; also what the metrics expect in the shared
            latents, whichever way the views are made. The same for all models of a study.
        scheme: `factor`, two clips that share factors; `augment`, one clip altered twice; `segment`, two parts of one
            clip.
        augment: what may happen to a view of `augment`.
    """

    shared: tuple[str, ...] = ("timbre",)
    scheme: ViewScheme = "factor"
    augment: AugmentConfig = AugmentConfig()


class SubspaceWeights(BaseConfig):
    """Weights of the KL terms of one subspace; all at one make a plain variational autoencoder.

    Attributes:
        alpha: of the index-code mutual information.
        beta: of the total correlation.
        gamma: of the dimension-wise KL.
    """

    alpha: float = Field(1.0, ge=0)
    beta: float = Field(1.0, ge=0)
    gamma: float = Field(1.0, ge=0)


class MultiscaleWeights(BaseConfig):
    """Weights of the reconstruction's error at coarser resolutions, each in the units of the plain one.

    Attributes:
        scale_2: averaged over squares of 2 bands x 2 frames.
        scale_4: of 4 x 4.
        scale_8: of 8 x 8.
        spectrum: averaged over all frames.
        envelope: averaged over all bands.
    """

    scale_2: float = Field(0.0, ge=0)
    scale_4: float = Field(0.0, ge=0)
    scale_8: float = Field(0.0, ge=0)
    spectrum: float = Field(0.0, ge=0)
    envelope: float = Field(0.0, ge=0)


class LossConfig(BaseConfig):
    """Weights of the reconstruction (squared error summed over a spectrogram) and of the KL terms (nats per view)."""

    reconstruction: float = Field(1.0, ge=0)
    multiscale: MultiscaleWeights = MultiscaleWeights()
    private: SubspaceWeights = SubspaceWeights()
    shared: SubspaceWeights = SubspaceWeights()


class ContrastConfig(BaseConfig):
    """Contrast, on means of latents.

    Attributes:
        strategy: `none`, or one of `marl.losses.ssl`. All compare the two views but `local_global` and
            `predictive`, which compare a clip with its own parts.
        shared: weight on the shared latents.
        private: weight on the private latents.
        repulsion: weight of the reverse on the private latents: the two views are pushed apart.
        temperature: of similarities, where the strategy has them.
        projection: whether the views are compared behind a small network of their own (Chen et al., 2020), whose width
            is `model.head`; `byol` always has one.
        target_decay: how much of `byol`'s target stays at each step.
        exclude_same_factors: leave clips that are known to share the pair's shared factors out of its negatives. With
            few factor values a batch is full of such false negatives, and a short run then merges two values.
    """

    strategy: StrategyName = "none"
    shared: float = Field(50.0, ge=0)
    private: float = Field(0.0, ge=0)
    repulsion: float = Field(0.0, ge=0)
    temperature: float = Field(0.2, gt=0)
    projection: bool = False
    target_decay: float = Field(0.99, ge=0, lt=1)
    exclude_same_factors: bool = True


class IndependenceConfig(BaseConfig):
    """Weights of terms that keep the private and the shared latents of a clip independent of each other.

    Attributes:
        hsic: of the normalised Hilbert-Schmidt independence criterion.
        cross_covariance: of the mean squared correlation between a private and a shared latent.
        adversarial: how strongly the encoder works against a probe that reads the pair's shared factors from the
            private latents. It knows of pairs which of them share factors, so `views.scheme` must be `factor`.
        swap_cycle: of the error of latents that were decoded with another clip's shared part and encoded again.
    """

    hsic: float = Field(0.0, ge=0)
    cross_covariance: float = Field(0.0, ge=0)
    adversarial: float = Field(0.0, ge=0)
    swap_cycle: float = Field(0.0, ge=0)


class OptimiserConfig(BaseConfig):
    """Adam (Kingma and Ba, 2015) with a learning rate that rises linearly over the first steps, then stays.

    Attributes:
        learning_rate: after the warm-up.
        warmup_steps: how long it rises.
    """

    learning_rate: float = Field(3e-3, gt=0)
    warmup_steps: int = Field(50, ge=0)


class Config(BaseConfig):
    """Any field may be searched over, by its path: `loss.private.gamma`, `latent.shared`, `contrast.strategy`."""

    views: ViewsConfig = ViewsConfig()
    model: ModelConfig = ModelConfig()
    latent: LatentConfig = LatentConfig()
    loss: LossConfig = LossConfig()
    contrast: ContrastConfig = ContrastConfig()
    independence: IndependenceConfig = IndependenceConfig()
    optimiser: OptimiserConfig = OptimiserConfig()
