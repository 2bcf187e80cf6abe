"""Default models of the benchmarks: stacks, and a model and its data loader as a plain script would have them."""

from collections.abc import Sequence
from multiprocessing import get_all_start_methods

import numpy as np
import torch

from marl.audio import AudioConfig
from marl.config import Config
from marl.data import Dataset
from marl.models import Architecture, build_network
from marl.objective import ActiveTerms, Batch, LaneHyperparameters, ObjectiveSpec, build_hyperparameters, objective
from marl.stack import Precision, Stack

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

    def __init__(self, config: Config, device: torch.device) -> None:
        self.network = build_network(architecture(config))
        self.spec = ObjectiveSpec(self.network, ActiveTerms.of(config))
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


class _Pairs(torch.utils.data.Dataset):
    """A clip and another one of the same timbre that differs in all other factors; timbre is the first factor."""

    def __init__(self, log_mels: np.ndarray, clips: np.ndarray, values: np.ndarray) -> None:
        self._log_mels, self._clips, self._values = log_mels, clips, values
        timbre = values[clips, 0]
        self._of_timbre = [clips[timbre == index] for index in range(timbre.max() + 1)]

    def __len__(self):
        return len(self._clips)

    def __getitem__(self, index):
        first = self._clips[index]
        timbre = self._values[first, 0]
        others = self._of_timbre[timbre]
        while True:
            second = others[torch.randint(len(others), ()).item()]
            if (self._values[second, 1:] != self._values[first, 1:]).all():
                return torch.tensor(self._log_mels[first]), torch.tensor(self._log_mels[second]), int(timbre)


def pair_loader(
    log_mels: np.ndarray, clips: np.ndarray, values: np.ndarray, pairs: int, workers: int, device: torch.device
):
    """Yield batches of log-mels [2B, F, T] and timbres [B] on the device, epoch after epoch.

    Pairs are drawn from `clips`. `log_mels` [N, F, T], which may be mapped into memory, and `values` [N, C], timbre
    first, hold all clips.
    """
    loader = torch.utils.data.DataLoader(
        _Pairs(log_mels, clips, values),
        batch_size=pairs,
        shuffle=True,
        drop_last=True,
        num_workers=workers,
        # The default of the platform, as in a script. A process that was spawned would spawn its workers.
        multiprocessing_context=get_all_start_methods()[0] if workers else None,
        persistent_workers=workers > 0,
        pin_memory=device.type == "cuda",
    )
    while True:
        for first, second, timbre in loader:
            yield torch.cat([first, second]).to(device, non_blocking=True), timbre.to(device, non_blocking=True)
