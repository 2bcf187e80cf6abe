"""The configuration of one model: everything that its result depends on, beside the data and the seed."""

from pydantic import Field

from marl.model import LatentConfig, ModelConfig
from marl.objective import ContrastConfig, LossConfig
from marl.settings import Settings

__all__ = ["Config", "OptimiserConfig"]


class OptimiserConfig(Settings):
    """Adam (Kingma and Ba, 2015) with a learning rate that rises linearly over the first steps, then stays.

    Attributes:
        learning_rate: after the warm-up.
        warmup_steps: how long it rises.
    """

    learning_rate: float = Field(3e-3, gt=0)
    warmup_steps: int = Field(50, ge=0)


class Config(Settings):
    """Any field may be searched over, by its path: `loss.private.gamma`, `latent.shared`, `contrast.strategy`."""

    model: ModelConfig = ModelConfig()
    latent: LatentConfig = LatentConfig()
    loss: LossConfig = LossConfig()
    contrast: ContrastConfig = ContrastConfig()
    optimiser: OptimiserConfig = OptimiserConfig()
