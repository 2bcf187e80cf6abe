"""Default models of the benchmarks: stacks, and a model that a plain script would train."""

from collections.abc import Sequence

import torch

from marl.audio import AudioConfig
from marl.config import Config
from marl.data import Dataset
from marl.models import Architecture, build_network
from marl.objective import ActiveTerms, Batch, LaneHyperparameters, ObjectiveSpec, build_hyperparameters, objective
from marl.stack import Precision, Stack

__all__ = ["LANES", "PAIRS", "PlainModel", "architecture", "full_stack", "synchronise"]

LANES = {"cpu": 8, "cuda": 64}
PAIRS = {"cpu": 32, "cuda": 128}


def architecture(config: Config) -> Architecture:
    audio = AudioConfig()
    return Architecture(audio.mel_bands, audio.frames, config.model, config.latent.private, config.latent.shared)


def full_stack(
    dataset: Dataset,
    configs: Sequence[Config],
    lanes: int,
    pairs: int,
    precision: Precision = "float32",
    compiled: bool = False,
) -> Stack:
    """Return a stack whose lanes take the configurations in turn; the seed of a lane is its number."""
    views, terms = configs[0].views, ActiveTerms.of_all(configs)
    stack = Stack(architecture(configs[0]), lanes, dataset, views, pairs, terms, precision, compiled)
    for lane in range(lanes):
        stack.attach(configs[lane % len(configs)], seed=lane)
    return stack


def synchronise(device: torch.device) -> None:
    """Wait until the device has executed everything that was enqueued."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


class PlainModel:
    """The same network and objective trained as a user would: `torch.optim.Adam` and `torch.randn`."""

    def __init__(self, config: Config, clips: int, device: torch.device) -> None:
        self.network = build_network(architecture(config))
        self.spec = ObjectiveSpec(self.network, ActiveTerms.of(config), clips)
        hyperparameters = build_hyperparameters(self.spec, config)
        self.hyperparameters = LaneHyperparameters(*(one.to(device) for one in hyperparameters))
        initial = self.network.initial_parameters(config.latent, seed=0)
        self.parameters = {name: value.to(device).requires_grad_() for name, value in initial.items()}
        self._optimiser = torch.optim.Adam(self.parameters.values(), lr=config.optimiser.learning_rate)

    def step(self, log_mels: torch.Tensor, timbre: torch.Tensor) -> None:
        """Train on the log-mels of pairs, [2B, F, T], first clips before second ones, and their timbres, [B]."""
        noise = torch.randn(len(log_mels), self.network.latents, device=log_mels.device)
        batch = Batch(self.network.to_input(log_mels), timbre, noise)
        loss, _ = objective(self.spec, self.parameters, self.hyperparameters, batch)
        self._optimiser.zero_grad()
        loss.backward()
        self._optimiser.step()
